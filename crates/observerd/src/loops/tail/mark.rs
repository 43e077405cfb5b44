//! By what a file and a place in it are known again.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// The most bytes of the begin of a file that are compared.
const HEAD: usize = 1_024;

/// The most bytes before an offset that are compared.
const LAST: usize = 256;

/// An offset of a file with bytes that must still be there: the first 1,024, and the last 256 before the offset. A file that was
/// replaced or truncated and written again has others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) offset: u64,
    head: Vec<u8>,
    last: Vec<u8>,
    head_sum: u64,
}

impl Mark {
    /// The mark of an offset; `None` if the file is shorter.
    pub(super) fn load(file: &File, offset: u64) -> io::Result<Option<Self>> {
        let (Some(head), Some(last)) = (bytes(file, 0, offset, HEAD)?, before(file, offset)?) else {
            return Ok(None);
        };
        let head_sum = sum(&head);
        Ok(Some(Self { offset, head, last, head_sum }))
    }

    /// Whether the file still has the bytes.
    pub(super) fn is_in(&self, file: &File) -> io::Result<bool> {
        Ok(bytes(file, 0, self.offset, HEAD)?.is_some_and(|head| head == self.head)
            && before(file, self.offset)?.is_some_and(|last| last == self.last))
    }

    /// Moves on over bytes that were read.
    pub(super) fn advance(&mut self, read: &[u8]) {
        self.offset += read.len() as u64;
        let missing = HEAD - self.head.len();
        if missing > 0 {
            self.head.extend_from_slice(&read[..missing.min(read.len())]);
            self.head_sum = sum(&self.head);
        }
        if read.len() >= LAST {
            self.last.clear();
        }
        self.last.extend_from_slice(&read[read.len().saturating_sub(LAST)..]);
        let surplus = self.last.len().saturating_sub(LAST);
        self.last.drain(..surplus);
    }

    pub(super) fn position(&self, inode: u64) -> Position {
        Position { inode, offset: self.offset, head: self.head_sum, last: sum(&self.last) }
    }
}

/// At most `most` bytes from `from`, and none from `to` on; `None` if the file is shorter.
fn bytes(file: &File, from: u64, to: u64, most: usize) -> io::Result<Option<Vec<u8>>> {
    let length = usize::try_from(to - from).unwrap_or(usize::MAX).min(most);
    let mut bytes = vec![0; length];
    match file.read_exact_at(&mut bytes, from) {
        Ok(()) if to > length as u64 && file.metadata()?.len() < to => Ok(None),
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

fn before(file: &File, offset: u64) -> io::Result<Option<Vec<u8>>> {
    bytes(file, offset.saturating_sub(LAST as u64), offset, LAST)
}

/// The first 64 bits of the SHA-256.
fn sum(bytes: &[u8]) -> u64 {
    Sha256::digest(bytes).iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// A [`Mark`] as text, for the tail of a record: `1.INODE.OFFSET.HEAD.LAST`, with the inode and the sums in hexadecimal digits.
///
/// The device is no part of it: some file systems have another number after each start of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) inode: u64,
    pub(super) offset: u64,
    head: u64,
    last: u64,
}

impl Position {
    /// The mark that it is in a file; `None` if the file is another one, or has other bytes.
    pub(super) fn find(&self, file: &File, inode: u64) -> io::Result<Option<Mark>> {
        if inode != self.inode {
            return Ok(None);
        }
        Ok(Mark::load(file, self.offset)?.filter(|mark| mark.position(inode) == *self))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inode, offset, head, last } = self;
        write!(f, "1.{inode:x}.{offset}.{head:016x}.{last:016x}")
    }
}

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('.');
        let mut next = || parts.next().ok_or(());
        if next()? != "1" {
            return Err(());
        }
        let hexadecimal = |text| u64::from_str_radix(text, 16).map_err(|_| ());
        let position = Self {
            inode: hexadecimal(next()?)?,
            offset: next()?.parse().map_err(|_| ())?,
            head: hexadecimal(next()?)?,
            last: hexadecimal(next()?)?,
        };
        // Nothing else is written as this one.
        if position.to_string() == text { Ok(position) } else { Err(()) }
    }
}
