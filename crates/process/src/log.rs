//! The file that gets a copy of a child's output.

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// How many bytes of one process are written to its file.
pub(crate) const MOST: u64 = 64 * 1024 * 1024;
/// How many bytes of the end are written as well, once the output has ended.
const LAST: usize = 64 * 1024;
/// What is between the two parts.
const FULL: &[u8] =
    b"\n(the output of this process is too long: after this come its last 64 KiB, once it has ended)\n";

/// The file, if there is one. Clones write to the same file and have one limit.
#[derive(Clone)]
pub(crate) struct Log(Option<Arc<Mutex<Open>>>);

struct Open {
    /// `None` when it could not be written.
    file: Option<File>,
    /// Bytes that may still be written.
    left: u64,
    /// Bytes that were not written; the last of them are.
    last: Vec<u8>,
}

impl Log {
    pub(crate) fn new(file: Option<File>) -> Self {
        Self::of(file, MOST)
    }

    fn of(file: Option<File>, most: u64) -> Self {
        Self(file.map(|file| Arc::new(Mutex::new(Open { file: Some(file), left: most, last: Vec::new() }))))
    }

    /// A file that cannot be written gets no more: the child must not block on its output.
    pub(crate) fn write(&self, bytes: &[u8]) {
        if let Some(open) = &self.0
            && let Err(error) = open.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        {
            tracing::warn!(%error, "the output of a child process is no longer written to its file");
        }
    }
}

impl Open {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let fits = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        let (first, rest) = bytes.split_at(fits);
        let mut written = file.write_all(first);
        self.left -= fits as u64;
        if !rest.is_empty() && self.last.is_empty() {
            written = written.and_then(|()| file.write_all(FULL));
        }
        self.last.extend_from_slice(rest);
        // Not at every write, so that each byte is moved once at most.
        if self.last.len() >= 2 * LAST {
            self.last.drain(..self.last.len() - LAST);
        }
        written.inspect_err(|_| self.file = None)
    }
}

/// Writes the end of the output.
impl Drop for Open {
    fn drop(&mut self) {
        let last = &self.last[self.last.len().saturating_sub(LAST)..];
        if let Some(file) = &mut self.file
            && let Err(error) = file.write_all(last)
        {
            tracing::warn!(%error, "the end of the output of a child process is not written to its file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that printed for three seconds wrote 1.2 GB.
    #[test]
    fn of_a_long_output_the_first_and_the_last_part_are_kept() {
        let directory = crate::RunDirectory::new("watchkeeper-test-").unwrap();
        let path = directory.path().join("log");
        let log = Log::of(Some(File::create(&path).unwrap()), 10);
        let other = log.clone();
        log.write(b"12345");
        other.write(b"67890");
        assert_eq!(std::fs::read(&path).unwrap(), b"1234567890");
        other.write(b"a");
        log.write(b"b");
        assert_eq!(std::fs::read(&path).unwrap(), [b"1234567890", FULL].concat());
        drop(log);
        assert_eq!(std::fs::read(&path).unwrap(), [b"1234567890", FULL].concat(), "the other still writes");
        drop(other);
        assert_eq!(std::fs::read(&path).unwrap(), [b"1234567890", FULL, b"ab"].concat());

        // A chunk over the limit is written up to it.
        let log = Log::of(Some(File::create(&path).unwrap()), 3);
        log.write(b"123x");
        for _ in 0..50 {
            log.write(&[b'y'; 10_000]);
        }
        log.write(b"end");
        drop(log);
        let (head, tail) = (std::fs::read(&path).unwrap(), [vec![b'y'; LAST - 3], b"end".to_vec()].concat());
        assert!(head == [b"123", FULL, &tail].concat(), "{} bytes", head.len());
    }
}
