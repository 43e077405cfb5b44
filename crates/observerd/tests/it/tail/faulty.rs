//! A medium in memory that fails when a test asks for it.

use std::any::Any;
use std::io;
use std::sync::{Arc, Condvar, Mutex};

use watchkeeper_journal::medium::{Medium, MediumFile, Memory};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Append,
    Truncate,
    Sync,
}

#[derive(Default)]
struct Faults {
    failing: Vec<(Fault, usize)>,
    syncs: u64,
    is_held: bool,
}

#[derive(Clone, Default)]
pub(super) struct Faulty {
    files: Arc<Memory>,
    faults: Arc<(Mutex<Faults>, Condvar)>,
}

/// No sync ends until it is dropped.
pub(super) struct Held(Faulty);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.faults.0.lock().unwrap().is_held = false;
        self.0.faults.1.notify_all();
    }
}

impl Faulty {
    /// Lets the next `times` of these fail.
    pub(super) fn fail(&self, fault: Fault, times: usize) {
        self.faults.0.lock().unwrap().failing.push((fault, times));
    }

    pub(super) fn heal(&self) {
        self.faults.0.lock().unwrap().failing.clear();
    }

    pub(super) fn hold_syncs(&self) -> Held {
        self.faults.0.lock().unwrap().is_held = true;
        Held(self.clone())
    }

    /// How many syncs have begun.
    pub(super) fn syncs(&self) -> u64 {
        self.faults.0.lock().unwrap().syncs
    }

    fn check(&self, fault: Fault) -> io::Result<()> {
        let mut faults = self.faults.0.lock().unwrap();
        let next = faults.failing.iter_mut().find(|(failing, times)| *failing == fault && *times > 0);
        match next {
            Some((_, times)) => {
                *times -= 1;
                Err(io::Error::other("the disk is broken"))
            }
            None => Ok(()),
        }
    }

    fn file(&self, file: Arc<dyn MediumFile>) -> Arc<dyn MediumFile> {
        Arc::new(FaultyFile { file, medium: self.clone() })
    }
}

impl Medium for Faulty {
    fn place(&self) -> String {
        "a faulty disk".to_owned()
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send>> {
        self.files.lock()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.files.list()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn MediumFile>> {
        self.files.create(name).map(|file| self.file(file))
    }

    fn open(&self, name: &str, writes: bool) -> io::Result<Arc<dyn MediumFile>> {
        self.files.open(name, writes).map(|file| self.file(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.files.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }
}

struct FaultyFile {
    file: Arc<dyn MediumFile>,
    medium: Faulty,
}

impl MediumFile for FaultyFile {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        self.medium.check(Fault::Append)?;
        self.file.append(bytes)
    }

    fn overwrite(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.overwrite(offset, bytes)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, bytes)
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.medium.check(Fault::Truncate)?;
        self.file.truncate(size)
    }

    fn sync(&self) -> io::Result<()> {
        let (faults, changed) = &*self.medium.faults;
        let mut held = faults.lock().unwrap();
        held.syncs += 1;
        while held.is_held {
            held = changed.wait(held).unwrap();
        }
        drop(held);
        self.medium.check(Fault::Sync)
    }

    fn is_removed(&self) -> io::Result<bool> {
        self.file.is_removed()
    }
}
