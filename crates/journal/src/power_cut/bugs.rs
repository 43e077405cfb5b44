//! Deliberate bugs, each of which a life must find: they stand between the journal and the disk.

use std::any::Any;
use std::io;
use std::sync::Arc;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::disk::Disk;
use super::life;
use crate::medium::{Medium, MediumFile};
use crate::segment::first_of;

/// What does not do what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    SyncNamesDoesNothing,
    SyncDoesNothing,
    TruncateDoesNothing,
    OverwriteDoesNothing,
    RemoveDoesNothing,
    RenameIsNotAtomic,
    /// A short write is reported as a whole one.
    AppendHidesShortWrites,
    /// A failed write is reported as a whole one.
    AppendHidesErrors,
    AppendRepeats,
    /// A failed sync is reported as none.
    SyncHidesErrors,
    ListForgetsTheNewest,
    OpenEmptiesTheFile,
    ReadEndsEarly,
    ReadFlipsABit,
}

const BUGS: [Bug; 14] = [
    Bug::SyncNamesDoesNothing,
    Bug::SyncDoesNothing,
    Bug::TruncateDoesNothing,
    Bug::OverwriteDoesNothing,
    Bug::RemoveDoesNothing,
    Bug::RenameIsNotAtomic,
    Bug::AppendHidesShortWrites,
    Bug::AppendHidesErrors,
    Bug::AppendRepeats,
    Bug::SyncHidesErrors,
    Bug::ListForgetsTheNewest,
    Bug::OpenEmptiesTheFile,
    Bug::ReadEndsEarly,
    Bug::ReadFlipsABit,
];

/// The most lives until a bug is found.
const LIVES: usize = 10_000;

struct Broken {
    disk: Disk,
    bug: Bug,
}

impl Broken {
    /// Segments alone are broken: a broken `journal.json` is found too soon.
    fn file(&self, name: &str, file: Arc<dyn MediumFile>) -> Arc<dyn MediumFile> {
        if first_of(name).is_some() { Arc::new(BrokenFile { file, bug: self.bug }) } else { file }
    }

    fn has_segments(&self) -> bool {
        !self.disk.segments().is_empty()
    }
}

impl Medium for Broken {
    fn place(&self) -> String {
        self.disk.place()
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send>> {
        self.disk.lock()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = self.disk.list()?;
        if self.bug == Bug::ListForgetsTheNewest && names.len() > 2 {
            names.retain(|name| first_of(name).is_some());
            names.pop();
            names.push("journal.json".to_owned());
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn MediumFile>> {
        self.disk.create(name).map(|file| self.file(name, file))
    }

    fn open(&self, name: &str, writes: bool) -> io::Result<Arc<dyn MediumFile>> {
        let file = self.disk.open(name, writes)?;
        if self.bug == Bug::OpenEmptiesTheFile && writes {
            file.truncate(0)?;
        }
        Ok(self.file(name, file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        if self.bug != Bug::RenameIsNotAtomic {
            return self.disk.rename(from, to);
        }
        let (from, to) = (self.disk.open(from, false)?, self.disk.create(to)?);
        let mut bytes = vec![0; 4_096];
        let count = from.read_at(0, &mut bytes)?;
        to.append(&bytes[..count])?;
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        if self.bug == Bug::RemoveDoesNothing { Ok(()) } else { self.disk.remove(name) }
    }

    fn sync_names(&self) -> io::Result<()> {
        if self.bug == Bug::SyncNamesDoesNothing && self.has_segments() {
            Ok(())
        } else {
            self.disk.sync_names()
        }
    }
}

struct BrokenFile {
    file: Arc<dyn MediumFile>,
    bug: Bug,
}

impl MediumFile for BrokenFile {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        let appended = self.file.append(bytes);
        match self.bug {
            Bug::AppendHidesShortWrites => appended.map(|_| bytes.len()),
            Bug::AppendHidesErrors => Ok(appended.unwrap_or(bytes.len())),
            Bug::AppendRepeats => appended.and_then(|count| self.file.append(&bytes[..count]).map(|_| count)),
            _ => appended,
        }
    }

    fn overwrite(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.bug == Bug::OverwriteDoesNothing { Ok(()) } else { self.file.overwrite(offset, bytes) }
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(offset, bytes)?;
        match self.bug {
            Bug::ReadEndsEarly => {
                return Ok(count.min(1_000_usize.saturating_sub(usize::try_from(offset).unwrap())));
            }
            Bug::ReadFlipsABit if count > 700 => bytes[600] ^= 1,
            _ => {}
        }
        Ok(count)
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        if self.bug == Bug::TruncateDoesNothing { Ok(()) } else { self.file.truncate(size) }
    }

    fn sync(&self) -> io::Result<()> {
        match self.bug {
            Bug::SyncDoesNothing => Ok(()),
            Bug::SyncHidesErrors => {
                let _ = self.file.sync();
                Ok(())
            }
            _ => self.file.sync(),
        }
    }

    fn is_removed(&self) -> io::Result<bool> {
        self.file.is_removed()
    }
}

/// How many lives it took, and what the last one violated.
fn find(bug: Bug) -> Option<(usize, String)> {
    let mut runner = TestRunner::deterministic();
    let lives = life::life();
    (1..=LIVES).find_map(|count| {
        let life = lives.new_tree(&mut runner).ok()?.current();
        let violation = life.live(|disk| Arc::new(Broken { disk, bug })).err()?;
        Some((count, violation))
    })
}

#[test]
fn each_deliberate_bug_is_found() {
    for bug in BUGS {
        match find(bug) {
            Some((count, violation)) => println!("{bug:?}: found in life {count}: {violation}"),
            None => panic!("{bug:?}: not found in {LIVES} lives"),
        }
    }
}
