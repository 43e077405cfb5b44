//! Where a checkpoint is: its file, the lock, and the new file that replaces it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use super::errors::{LARGEST, LoadError, SaveError};

/// So many symbolic links are followed.
const MOST_LINKS: u32 = 40;
/// How the name of a new file ends.
const NEW: &[u8] = b".new";

/// The right to write the file of a checkpoint, until it is dropped or its process ends: see [`lock`].
#[derive(Debug)]
#[must_use = "dropping it unlocks the file"]
pub struct CheckpointLock {
    _file: File,
}

/// Locks the checkpoint at `path`, which need not be there yet, and checks that it can be written. What is at `path` stays
/// as it is.
///
/// Only those that lock are kept apart, in this process and in others. The lock is on an empty file beside the
/// checkpoint, `.FILE.lock`, which stays. Each save writes a new file beside it, `.FILE.<process>.<number>.new`; those
/// that killed processes have left are removed. Blocks its thread, but does not wait for the lock.
///
/// # Errors
///
/// [`SaveError::InUse`]: another one has locked it. [`SaveError::NotAFile`] and [`SaveError::Io`]: it cannot be written.
///
/// # Examples
///
/// ```
/// use watchkeeper_chain::projection::checkpoint::{SaveError, lock};
///
/// # let folder = std::env::temp_dir().join(format!("watchkeeper-lock-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).unwrap();
/// let path = folder.join("checkpoint");
/// let held = lock(&path).unwrap();
/// assert!(matches!(lock(&path), Err(SaveError::InUse { .. })));
/// drop(held);
/// lock(&path).unwrap();
/// # std::fs::remove_dir_all(&folder).unwrap();
/// ```
pub fn lock(path: &Path) -> Result<CheckpointLock, SaveError> {
    let io = |source| SaveError::Io { path: path.to_owned(), source };
    let target = target(path)?;
    let lock = beside(&target, ".lock").map_err(io)?;
    let mut options = OpenOptions::new();
    let file = for_owner(options.read(true).write(true).create(true)).open(lock).map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(SaveError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => return Err(io(source)),
    }
    remove_left_over(&target);
    new_file(&target).and_then(|(_, new)| fs::remove_file(new)).map_err(io)?;
    Ok(CheckpointLock { _file: file })
}

/// Writes a whole new file, and puts it in the place of the one at `path`.
pub(super) fn replace(path: &Path, text: &[u8]) -> Result<(), SaveError> {
    let target = target(path)?;
    let replace = || {
        let (file, new) = new_file(&target)?;
        let replaced = write(file, &target, text).and_then(|()| fs::rename(&new, &target));
        if replaced.is_err() {
            let _ = fs::remove_file(&new);
        }
        replaced.and_then(|()| sync_directory_of(&target))
    };
    replace().map_err(|source| SaveError::Io { path: path.to_owned(), source })
}

/// The text of the file at `path`; `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, LoadError> {
    let io = |source| LoadError::Io { path: path.to_owned(), source };
    // Before it is opened: that blocks on a pipe.
    let about = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        about => about.map_err(io)?,
    };
    if !about.is_file() {
        return Err(LoadError::NotAFile { path: path.to_owned() });
    }
    let mut text = Vec::new();
    if about.len() <= LARGEST as u64 {
        // It may grow, and some files of the system have no length.
        let file = File::open(path).map_err(io)?;
        file.take(LARGEST as u64 + 1).read_to_end(&mut text).map_err(io)?;
    }
    if about.len().max(text.len() as u64) > LARGEST as u64 {
        return Err(LoadError::TooLarge { path: path.to_owned() });
    }
    if text.is_empty() { Err(LoadError::Empty { path: path.to_owned() }) } else { Ok(Some(text)) }
}

/// The file that `path` leads to, also if it is not there yet. What is there and cannot be replaced is an error.
fn target(path: &Path) -> Result<PathBuf, SaveError> {
    let io = |source| SaveError::Io { path: path.to_owned(), source };
    let mut target = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::symlink_metadata(&target) {
            Ok(about) if about.is_symlink() => {
                let to = fs::read_link(&target).map_err(io)?;
                target = target.parent().unwrap_or(Path::new("")).join(to);
            }
            Ok(about) if !about.is_file() => return Err(SaveError::NotAFile { path: path.to_owned() }),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => return Ok(target),
        }
    }
    Err(io(io::Error::other("too many symbolic links")))
}

/// A hidden file of this name and end, in the same directory, so that a rename stays within one file system.
fn beside(target: &Path, end: &str) -> io::Result<PathBuf> {
    let no_file = || io::Error::new(io::ErrorKind::InvalidInput, "the path names no file");
    let mut name = OsString::from(".");
    name.push(target.file_name().ok_or_else(no_file)?);
    name.push(end);
    Ok(target.with_file_name(name))
}

/// Makes a file that was not there before.
fn new_file(target: &Path) -> io::Result<(File, PathBuf)> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        let new = beside(target, &format!(".{}.{nth}.new", process::id()))?;
        match for_owner(OpenOptions::new().write(true).create_new(true)).open(&new) {
            // A process of this number has left it, or something else is there.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|file| (file, new)),
        }
    }
}

/// Lets nobody but the owner read what is made: it may have addresses and balances.
#[cfg(unix)]
fn for_owner(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600)
}

/// Other systems have the permissions of the directory.
#[cfg(not(unix))]
fn for_owner(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

fn write(mut file: File, target: &Path, text: &[u8]) -> io::Result<()> {
    file.write_all(text)?;
    if cfg!(unix)
        && let Ok(old) = fs::metadata(target)
    {
        // Not every file system knows it. The file is then for its owner alone.
        let _ = file.set_permissions(old.permissions());
    }
    file.sync_all()
}

/// Removes new files that were not renamed. Nobody writes one who has no lock.
fn remove_left_over(target: &Path) {
    let Some(name) = target.file_name() else { return };
    let entries = fs::read_dir(directory_of(target)).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| is_new_of(name, &entry.file_name())) {
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether a file is named `.NAME.<digits>.<digits>.new`.
fn is_new_of(name: &OsStr, found: &OsStr) -> bool {
    let found = found.as_encoded_bytes().strip_prefix(b".");
    let rest = found.and_then(|found| found.strip_prefix(name.as_encoded_bytes()));
    let numbers = rest.and_then(|rest| rest.strip_prefix(b".")?.strip_suffix(NEW)).unwrap_or_default();
    let parts: Vec<&[u8]> = numbers.split(|byte| *byte == b'.').collect();
    parts.len() == 2 && parts.iter().all(|part| !part.is_empty() && part.iter().all(u8::is_ascii_digit))
}

fn directory_of(target: &Path) -> &Path {
    target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a rename durable.
#[cfg(unix)]
fn sync_directory_of(target: &Path) -> io::Result<()> {
    File::open(directory_of(target)).and_then(|directory| directory.sync_all())
}

/// Other systems open no directory as a file.
#[cfg(not(unix))]
fn sync_directory_of(_target: &Path) -> io::Result<()> {
    Ok(())
}
