//! A medium in memory whose operations fail as they are asked to.

use std::any::Any;
use std::io;
use std::sync::{Arc, Condvar, Mutex};

use watchkeeper_journal::medium::{Medium, MediumFile, Memory};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Append,
    Truncate,
    Sync,
    SyncNames,
    Remove,
}

#[derive(Default)]
struct Faults {
    /// An operation, how many work first, how many fail then, and how.
    failing: Vec<(Operation, usize, usize, Option<io::ErrorKind>)>,
    /// The most bytes of one write.
    short: Option<usize>,
    /// The size of the disk.
    capacity: Option<u64>,
    /// How many syncs of files have begun.
    syncs: u64,
}

#[derive(Clone, Default)]
pub(crate) struct Faulty {
    files: Arc<Memory>,
    faults: Arc<Mutex<Faults>>,
    /// Held by a test while no sync is to end.
    gate: Arc<tokio::sync::Mutex<()>>,
    /// How many reads end before they wait to be released.
    reads: Arc<(Mutex<Option<usize>>, Condvar)>,
}

impl Faulty {
    /// No sync of a file ends while this is held.
    pub(crate) async fn hold_syncs(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.gate.lock().await
    }

    /// After so many further reads, no read ends until they are released.
    #[allow(dead_code, reason = "for those who read a journal, such as observerd")]
    pub(crate) fn hold_reads_after(&self, reads: usize) {
        *self.reads.0.lock().unwrap() = Some(reads);
    }

    #[allow(dead_code, reason = "for those who read a journal, such as observerd")]
    pub(crate) fn release_reads(&self) {
        *self.reads.0.lock().unwrap() = None;
        self.reads.1.notify_all();
    }

    fn wait_to_read(&self) {
        let (left, changed) = &*self.reads;
        let mut left = left.lock().unwrap();
        while *left == Some(0) {
            left = changed.wait(left).unwrap();
        }
        *left = left.map(|left| left - 1);
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.faults.lock().unwrap().syncs
    }

    /// Lets the next `times` of these operations fail.
    pub(crate) fn fail(&self, operation: Operation, times: usize) -> &Self {
        self.fail_as(operation, 0, times, None)
    }

    /// Lets `times` of these operations fail, after `skip` that work.
    pub(crate) fn fail_as(
        &self,
        operation: Operation,
        skip: usize,
        times: usize,
        kind: Option<io::ErrorKind>,
    ) -> &Self {
        self.faults.lock().unwrap().failing.push((operation, skip, times, kind));
        self
    }

    /// Whether the failures of this operation that were asked for have happened.
    #[allow(dead_code, reason = "for those whose appends follow each other, such as observerd")]
    pub(crate) fn has_failed(&self, operation: Operation) -> bool {
        let faults = self.faults.lock().unwrap();
        faults.failing.iter().all(|(failing, _, times, _)| *failing != operation || *times == 0)
    }

    pub(crate) fn write_at_most(&self, bytes: usize) -> &Self {
        self.faults.lock().unwrap().short = Some(bytes);
        self
    }

    pub(crate) fn set_capacity(&self, bytes: u64) -> &Self {
        self.faults.lock().unwrap().capacity = Some(bytes);
        self
    }

    pub(crate) fn heal(&self) {
        *self.faults.lock().unwrap() = Faults::default();
    }

    /// All segments, from the oldest to the newest.
    pub(crate) fn text(&self) -> String {
        self.segments().into_iter().map(|name| self.content(&name)).collect()
    }

    pub(crate) fn segments(&self) -> Vec<String> {
        let names = self.files.list().unwrap();
        names.into_iter().filter(|name| name.starts_with('0')).collect()
    }

    pub(crate) fn size(&self, name: &str) -> u64 {
        self.files.open(name, false).map_or(0, |file| file.size().unwrap())
    }

    /// Cuts the last bytes of the newest segment.
    pub(crate) fn cut_end(&self, bytes: u64) {
        let name = self.segments().pop().unwrap();
        let file = self.files.open(&name, true).unwrap();
        file.truncate(file.size().unwrap() - bytes).unwrap();
    }

    fn content(&self, name: &str) -> String {
        let file = self.files.open(name, false).unwrap();
        let mut bytes = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
        assert_eq!(file.read_at(0, &mut bytes).unwrap(), bytes.len());
        String::from_utf8(bytes).unwrap()
    }

    fn check(&self, operation: Operation) -> io::Result<()> {
        let mut faults = self.faults.lock().unwrap();
        let next =
            faults.failing.iter_mut().find(|(failing, _, times, _)| *failing == operation && *times > 0);
        match next {
            Some((_, skip @ 1.., _, _)) => *skip -= 1,
            Some((_, _, times, kind)) => {
                *times -= 1;
                return Err(kind.map_or_else(|| io::Error::other("the disk is broken"), io::Error::from));
            }
            None => {}
        }
        Ok(())
    }

    /// How many bytes of a write fit.
    fn room(&self, bytes: usize) -> io::Result<usize> {
        let used: u64 = self.files.list()?.iter().map(|name| self.size(name)).sum();
        let faults = self.faults.lock().unwrap();
        let free = faults.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(used));
        let count = bytes.min(faults.short.unwrap_or(bytes)).min(usize::try_from(free).unwrap());
        if count == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(count) }
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
        self.check(Operation::Create)?;
        self.files.create(name).map(|file| self.file(file))
    }

    fn open(&self, name: &str, writes: bool) -> io::Result<Arc<dyn MediumFile>> {
        self.files.open(name, writes).map(|file| self.file(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.files.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.check(Operation::Remove)?;
        self.files.remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.check(Operation::SyncNames)
    }
}

struct FaultyFile {
    file: Arc<dyn MediumFile>,
    medium: Faulty,
}

impl MediumFile for FaultyFile {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        self.medium.check(Operation::Append)?;
        self.file.append(&bytes[..self.medium.room(bytes.len())?])
    }

    fn overwrite(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.overwrite(offset, bytes)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.medium.wait_to_read();
        self.file.read_at(offset, bytes)
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.medium.check(Operation::Truncate)?;
        self.file.truncate(size)
    }

    fn sync(&self) -> io::Result<()> {
        self.medium.faults.lock().unwrap().syncs += 1;
        let _gate = self.medium.gate.blocking_lock();
        self.medium.check(Operation::Sync)
    }

    fn is_removed(&self) -> io::Result<bool> {
        self.file.is_removed()
    }
}
