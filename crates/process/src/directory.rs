//! Directories of one run, removed at its end or, if the run is killed, by the next run.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, OFlags, flock};

/// The file in a directory that its run keeps locked while it lives.
const OWNER: &str = ".owner";

/// Distinguishes the directories of one process.
static DIRECTORIES: AtomicU64 = AtomicU64::new(1);

/// A directory of one run; dropping this removes it with its contents.
///
/// A killed run cannot do that. Its directory is removed by the next run that makes one with the same prefix in the same
/// place: the kernel has released the lock on the file `.owner` in it, which shows that the owner is dead. Read the logs
/// of a killed run before the next run.
///
/// [Kept](Self::keep) directories, those of other users and those without `.owner` are never removed.
///
/// # Examples
///
/// ```
/// use watchkeeper_process::RunDirectory;
///
/// # fn main() -> std::io::Result<()> {
/// let directory = RunDirectory::new("example-")?;
/// let path = directory.path().to_owned();
/// std::fs::write(path.join("log"), "a line")?;
/// drop(directory);
/// assert!(!path.exists());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    /// `None` after `keep`.
    owner: Mutex<Option<File>>,
}

impl RunDirectory {
    /// Makes a directory for temporary files whose name begins with `prefix`. Only this user can read it.
    ///
    /// # Errors
    ///
    /// The error of the system: there is no such place, no room in it, or no permission to write. The text names the
    /// place.
    pub fn new(prefix: &str) -> io::Result<Self> {
        Self::new_in(&std::env::temp_dir(), prefix)
    }

    /// Makes a directory as [`new`](Self::new) does, in `place`.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn new_in(place: &Path, prefix: &str) -> io::Result<Self> {
        remove_orphans(place, prefix);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let number = DIRECTORIES.fetch_add(1, Ordering::Relaxed);
        let name = format!("{prefix}{}-{:x}-{number}", std::process::id(), since.as_nanos());
        let path = place.join(name);
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        let owner = made.and_then(|()| own(&path).inspect_err(|_| drop(fs::remove_dir_all(&path))));
        match owner {
            Ok(owner) => Ok(Self { path, owner: Mutex::new(Some(owner)) }),
            Err(error) => {
                let place = place.display();
                let text = format!("cannot make a directory in {place} ({error}): set TMPDIR to another one");
                Err(io::Error::new(error.kind(), text))
            }
        }
    }

    /// The path of the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps the directory: neither dropping this nor a later run removes it.
    pub fn keep(&self) {
        let mut owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        if owner.is_some() {
            // Before the unlock, since no run removes a directory without this file.
            let _ = fs::remove_file(self.path.join(OWNER));
            *owner = None;
        }
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        let owner = self.owner.get_mut().unwrap_or_else(PoisonError::into_inner);
        if owner.is_some()
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::debug!(path = %self.path.display(), %error, "a directory is left to the next run");
        }
    }
}

/// Makes the file that shows the owner; it is locked before it gets its name.
fn own(directory: &Path) -> io::Result<File> {
    let new = directory.join(".new");
    let owner = File::options().write(true).create_new(true).open(&new)?;
    flock(&owner, FlockOperation::NonBlockingLockExclusive)?;
    fs::rename(new, directory.join(OWNER))?;
    Ok(owner)
}

/// Removes the directories of dead runs.
fn remove_orphans(place: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(place) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()) {
            continue;
        }
        let path = entry.path();
        // The lock is held until the directory is removed, so that no other run removes it at the same time.
        if let Some(_lock) = orphan(&path)
            && let Err(error) = fs::remove_dir_all(&path)
        {
            tracing::debug!(path = %path.display(), %error, "the directory of a killed run cannot be removed");
        }
    }
}

/// The lock of a directory of this user that no run owns.
fn orphan(directory: &Path) -> Option<File> {
    let found = fs::symlink_metadata(directory).ok()?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
        return None;
    }
    let path = directory.join(OWNER);
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    let lock = File::options().write(true).custom_flags(flags).open(&path).ok()?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
    // It may have been kept or removed since it was opened.
    let (locked, named) = (lock.metadata().ok()?, fs::symlink_metadata(&path).ok()?);
    ((locked.dev(), locked.ino()) == (named.dev(), named.ino())).then_some(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Releases the lock, as the kernel does for a killed process.
    fn abandon(directory: &RunDirectory) -> PathBuf {
        let path = directory.path().to_owned();
        directory.owner.lock().expect("no panic under the lock").take();
        path
    }

    fn inside(place: &RunDirectory) -> usize {
        fs::read_dir(place.path()).expect("it is there").filter(|entry| !is_owner(entry)).count()
    }

    fn is_owner(entry: &io::Result<fs::DirEntry>) -> bool {
        entry.as_ref().is_ok_and(|entry| entry.file_name() == OWNER)
    }

    #[test]
    fn only_directories_of_dead_runs_are_removed() {
        let place = RunDirectory::new("watchkeeper-test-").expect("room");
        let make = |prefix: &str| RunDirectory::new_in(place.path(), prefix).expect("room");
        let dead = abandon(&make("a-"));
        fs::write(dead.join("log"), "a line").expect("room");
        let kept = make("a-");
        assert!(!dead.exists(), "the next run finds it");
        kept.keep();
        let other = abandon(&make("b-"));
        let foreign = place.path().join("a-of-somebody");
        fs::create_dir(&foreign).expect("room");
        let linked = place.path().join("a-link");
        std::os::unix::fs::symlink(&other, &linked).expect("room");
        let (first, second) = (make("a-"), make("a-"));
        for there in [kept.path(), &other, &foreign, &linked, first.path(), second.path()] {
            assert!(there.exists(), "{}", there.display());
        }
        drop((first, second));
        drop(kept);
        assert_eq!(inside(&place), 4, "those that are kept, have another prefix, or no owner file");
    }

    #[test]
    fn concurrent_runs_do_not_remove_each_others_directories() {
        let place = RunDirectory::new("watchkeeper-test-").expect("room");
        for _ in 0..50 {
            abandon(&RunDirectory::new_in(place.path(), "run-").expect("room"));
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let own = RunDirectory::new_in(place.path(), "run-").expect("room");
                        fs::write(own.path().join("data"), "1").expect("it is there");
                        assert!(own.path().join(OWNER).exists());
                    });
                }
            });
        }
        assert_eq!(inside(&place), 0);
    }

    #[test]
    fn a_missing_place_is_named() {
        let error = RunDirectory::new_in(Path::new("/no/such/place"), "run-").expect_err("it is not there");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("/no/such/place"), "{error}");
    }
}
