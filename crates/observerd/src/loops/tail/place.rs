//! What is at a path, opened so that nothing blocks.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirEntryExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::OFlags;
use watchkeeper::report::one_line;

use super::mark::{Mark, Position};
use super::report::FileState;

/// The most names of a directory that are read to find a file that was renamed.
const MAX_NAMES: usize = 10_000;

/// A file that is open. Nobody else has its device and inode until it is closed.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) file: Arc<File>,
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl Open {
    fn of(file: File, metadata: &Metadata) -> Self {
        Self { file: Arc::new(file), device: metadata.dev(), inode: metadata.ino() }
    }

    pub(super) fn is(&self, metadata: &Metadata) -> bool {
        (metadata.dev(), metadata.ino()) == (self.device, self.inode)
    }
}

/// Why a file is not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NotOpen {
    pub(super) state: FileState,
    pub(super) problem: String,
}

impl NotOpen {
    fn not_a_file(path: &Path, metadata: &Metadata) -> Self {
        let kind = metadata.file_type();
        let what = if kind.is_dir() {
            "a directory"
        } else if kind.is_fifo() {
            "a FIFO"
        } else if kind.is_socket() {
            "a socket"
        } else {
            "a device"
        };
        let problem =
            format!("{} is {what}: set `corrections.path` to a regular file of JSON lines", shown(path));
        Self { state: FileState::NotAFile, problem }
    }

    fn failed(path: &Path, error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound {
            return Self { state: FileState::Missing, problem: String::new() };
        }
        let problem = format!(
            "{} cannot be opened: make it readable for this service: {}",
            shown(path),
            one_line(&error.to_string(), 200)
        );
        Self { state: FileState::Unreadable, problem }
    }
}

fn shown(path: &Path) -> String {
    one_line(&path.display().to_string(), 300)
}

/// What a path leads to, by symbolic links too.
pub(super) fn status(path: &Path) -> Result<Metadata, NotOpen> {
    let metadata = fs::metadata(path).map_err(|error| NotOpen::failed(path, &error))?;
    // To open a FIFO or a device may have effects on others.
    if metadata.is_file() { Ok(metadata) } else { Err(NotOpen::not_a_file(path, &metadata)) }
}

/// Opens the file of a path.
pub(super) fn open(path: &Path) -> Result<Open, NotOpen> {
    status(path)?;
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let flags = i32::try_from(flags).unwrap_or_default();
    let failed = |error| NotOpen::failed(path, &error);
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    // It may be another one by now.
    if metadata.is_file() { Ok(Open::of(file, &metadata)) } else { Err(NotOpen::not_a_file(path, &metadata)) }
}

/// Finds the file of a position that was renamed within its directory while nobody had it open. The new name begins as the old one
/// does: `corrections.jsonl.1`, `corrections-2026.jsonl`.
pub(super) fn find_renamed(path: &Path, position: Position) -> Option<(Open, Mark)> {
    let stem = path.file_stem()?.as_encoded_bytes();
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let names = fs::read_dir(parent).ok()?.take(MAX_NAMES).filter_map(Result::ok);
    let found = names.filter(|entry| {
        entry.ino() == position.inode && entry.file_name().as_encoded_bytes().starts_with(stem)
    });
    for entry in found {
        if let Ok(open) = open(&entry.path())
            && let Ok(Some(mark)) = position.find(&open.file, open.inode)
        {
            return Some((open, mark));
        }
    }
    None
}
