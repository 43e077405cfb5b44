//! A disk in memory that loses what was not synced.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::medium::{Medium, MediumFile};
use crate::segment::first_of;

/// What a disk writes as a whole.
const BLOCK: usize = 512;

/// Reproducible numbers (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap_or(0) % end.max(1)
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }
}

/// A file: its durable content, and the content after each change since.
#[derive(Clone)]
struct Content(Vec<Vec<u8>>);

impl Content {
    fn now(&self) -> &Vec<u8> {
        &self.0[self.0.len() - 1]
    }

    fn change(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut next = self.now().clone();
        change(&mut next);
        self.0.push(next);
    }

    fn sync(&mut self) {
        self.0.drain(..self.0.len() - 1);
    }

    /// Each block, and the size, is what it was at some time since the last sync.
    fn lose(&mut self, random: &mut Random) {
        let last = self.0.len() - 1;
        if last == 0 {
            return;
        }
        let habit = random.below(4);
        let mut pick = || match habit {
            0 => 0,
            1 => last,
            2 => random.below(2) * last,
            _ => random.below(last + 1),
        };
        let size = self.0[pick()].len();
        let mut bytes = vec![0; size];
        for start in (0..size).step_by(BLOCK) {
            let version = &self.0[pick()];
            let end = (start + BLOCK).min(size).min(version.len());
            if start < end {
                bytes[start..end].copy_from_slice(&version[start..end]);
            }
        }
        self.0 = vec![bytes];
    }
}

enum NameChange {
    Create(String, usize),
    Rename(String, String, usize),
    Remove(String),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Create(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Rename(from, to, file) => {
                if names.get(from) == Some(file) {
                    names.remove(from);
                }
                names.insert(to.clone(), *file);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

struct State {
    files: Vec<Content>,
    /// The names as processes see them; those that are durable; and the changes in between.
    names: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    changes: Vec<NameChange>,
    /// `None`: everything works.
    fuse: Option<Fuse>,
    is_blown: bool,
    has_short_writes: bool,
    random: Random,
    is_locked: bool,
    /// Numbers below were removed by retention, as it may.
    retired: u64,
    least_segments: usize,
}

/// Operations that fail.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fuse {
    /// How many work first.
    pub(super) works: u32,
    /// How many fail then.
    pub(super) fails: u32,
}

/// What becomes of an operation.
enum Fate {
    Works,
    /// It fails, and may have had an effect.
    Interrupted,
    Fails,
}

impl State {
    fn fate(&mut self) -> Fate {
        match &mut self.fuse {
            Some(Fuse { works: 0, fails: 1.. }) if !self.is_blown => {
                self.is_blown = true;
                Fate::Interrupted
            }
            Some(Fuse { works: 0, fails: fails @ 1.. }) => {
                *fails -= 1;
                Fate::Fails
            }
            Some(Fuse { works: works @ 1.., .. }) => {
                *works -= 1;
                Fate::Works
            }
            _ => Fate::Works,
        }
    }

    fn file(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    fn removed(&mut self, name: &str) {
        let firsts: Vec<u64> = self.names.keys().filter_map(|name| first_of(name)).collect();
        let Some(oldest) = firsts.first().copied() else { return };
        if first_of(name).is_some_and(|first| first < oldest) && firsts.len() >= self.least_segments {
            self.retired = self.retired.max(oldest);
        }
    }
}

fn failed() -> io::Error {
    io::Error::other("the fuse has blown")
}

/// The disk; clones share it.
#[derive(Clone)]
pub(super) struct Disk(Arc<Mutex<State>>);

impl Disk {
    pub(super) fn new(seed: u64, least_segments: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            files: Vec::new(),
            names: BTreeMap::new(),
            durable: BTreeMap::new(),
            changes: Vec::new(),
            fuse: None,
            is_blown: false,
            has_short_writes: seed.is_multiple_of(4),
            random: Random(seed),
            is_locked: false,
            retired: 0,
            least_segments,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what was set before.
    pub(super) fn set_fuse(&self, fuse: Option<Fuse>) -> Option<Fuse> {
        std::mem::replace(&mut self.state().fuse, fuse)
    }

    pub(super) fn renew_fuse(&self, fuse: Option<Fuse>) {
        self.set_fuse(fuse);
        self.state().is_blown = false;
    }

    pub(super) fn is_blown(&self) -> bool {
        self.state().is_blown
    }

    /// Numbers below belong to segments that retention has removed.
    pub(super) fn retired(&self) -> u64 {
        self.state().retired
    }

    pub(super) fn cut_power(&self) {
        let mut state = self.state();
        let State { files, names, durable, changes, random, .. } = &mut *state;
        let habit = random.below(3);
        for change in changes.drain(..) {
            if habit == 0 || (habit == 1 && random.coin()) {
                change.apply(durable);
            }
        }
        names.clone_from(durable);
        for file in files {
            file.lose(random);
        }
    }

    /// The contents of the segments, in the order of their names.
    pub(super) fn segments(&self) -> Vec<Vec<u8>> {
        let state = self.state();
        let segments = state.names.iter().filter(|(name, _)| first_of(name).is_some());
        segments.map(|(_, file)| state.files[*file].now().clone()).collect()
    }

    fn look<T>(&self, look: impl FnOnce(&State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state();
        match state.fate() {
            Fate::Works => look(&state),
            Fate::Interrupted | Fate::Fails => Err(failed()),
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state();
        match state.fate() {
            Fate::Works => return change(&mut state),
            Fate::Interrupted if state.random.coin() => drop(change(&mut state)),
            Fate::Interrupted | Fate::Fails => {}
        }
        Err(failed())
    }

    fn handle(&self, file: usize) -> Arc<dyn MediumFile> {
        Arc::new(DiskFile { disk: self.clone(), file })
    }
}

/// Frees the directory when it is dropped, as the end of a process does.
struct Lock(Disk);

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.state().is_locked = false;
    }
}

impl Medium for Disk {
    fn place(&self) -> String {
        "a disk".to_owned()
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send>> {
        if std::mem::replace(&mut self.state().is_locked, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Lock(self.clone())))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.look(|state| Ok(state.names.keys().filter(|name| !name.contains('/')).cloned().collect()))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn MediumFile>> {
        let file = self.change(|state| {
            if state.names.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let file = state.files.len();
            state.files.push(Content(vec![Vec::new()]));
            state.rename(NameChange::Create(name.to_owned(), file));
            Ok(file)
        })?;
        Ok(self.handle(file))
    }

    fn open(&self, name: &str, _: bool) -> io::Result<Arc<dyn MediumFile>> {
        self.look(|state| state.file(name)).map(|file| self.handle(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|state| {
            let file = state.file(from)?;
            state.rename(NameChange::Rename(from.to_owned(), to.to_owned(), file));
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(|state| {
            state.file(name)?;
            state.rename(NameChange::Remove(name.to_owned()));
            state.removed(name);
            Ok(())
        })
    }

    fn sync_names(&self) -> io::Result<()> {
        self.change(|state| {
            state.durable.clone_from(&state.names);
            state.changes.clear();
            Ok(())
        })
    }
}

struct DiskFile {
    disk: Disk,
    file: usize,
}

impl DiskFile {
    fn change(&self, change: impl FnOnce(&mut Content)) -> io::Result<()> {
        self.disk.change(|state| {
            change(&mut state.files[self.file]);
            Ok(())
        })
    }
}

impl MediumFile for DiskFile {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.disk.state();
        let (count, works) = match state.fate() {
            Fate::Works if state.has_short_writes => (1 + state.random.below(bytes.len()), true),
            Fate::Works => (bytes.len(), true),
            Fate::Interrupted => (state.random.below(bytes.len() + 1), false),
            Fate::Fails => return Err(failed()),
        };
        state.files[self.file].change(|content| content.extend_from_slice(&bytes[..count]));
        if works { Ok(count) } else { Err(failed()) }
    }

    fn overwrite(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        self.change(|content| {
            content.change(|content| content[start..start + bytes.len()].copy_from_slice(bytes));
        })
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.disk.look(|state| {
            let all = state.files[self.file].now();
            let start = usize::try_from(offset).unwrap().min(all.len());
            let count = bytes.len().min(all.len() - start);
            bytes[..count].copy_from_slice(&all[start..start + count]);
            Ok(count)
        })
    }

    fn size(&self) -> io::Result<u64> {
        self.disk.look(|state| Ok(state.files[self.file].now().len() as u64))
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.change(|content| {
            content.change(|content| content.truncate(usize::try_from(size).unwrap()));
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.change(Content::sync)
    }

    fn is_removed(&self) -> io::Result<bool> {
        self.disk.look(|state| Ok(!state.names.values().any(|file| *file == self.file)))
    }
}
