//! Why a checkpoint is not written or read.

use std::io;
use std::path::{Path, PathBuf};

use watchkeeper::report::{debug_as_text, one_line};

use super::VERSION;
use crate::{Hash, Height};

/// The bytes of the largest checkpoint that is written or read.
pub(super) const LARGEST: usize = 256 << 20;
/// Bytes of a path in a message.
const PATH: usize = 300;

fn shown(path: &Path) -> String {
    one_line(&path.display().to_string(), PATH)
}

/// A checkpoint was not written; the previous one, if any, is still whole.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// An I/O error.
    #[error(
        "cannot write the checkpoint {}: leave room for it in a folder that can be written to",
        shown(path)
    )]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another one [has the file](super::lock).
    #[error(
        "the checkpoint {} is in use by another run: wait until that has ended, or give each run its own file",
        shown(path)
    )]
    InUse {
        /// Where.
        path: PathBuf,
    },
    /// What is there is a folder, a pipe or a device.
    #[error("cannot write the checkpoint {}, which is no regular file: give another path", shown(path))]
    NotAFile {
        /// Where.
        path: PathBuf,
    },
    /// It is larger than is read.
    #[error(
        "the checkpoint has {size} bytes, and at most {LARGEST} are read: keep fewer headers or a smaller state"
    )]
    TooLarge {
        /// Its bytes.
        size: usize,
    },
    /// The state cannot be written as JSON.
    #[error("the state has no JSON form: fix its Serialize implementation")]
    State(#[from] serde_json::Error),
    /// The list of headers is empty.
    #[error("a checkpoint without headers cannot be resumed: save one after the first block")]
    NoHeaders,
    /// Two consecutive headers are not parent and child.
    #[error(
        "a checkpoint whose headers are no chain cannot be resumed: block {hash:.8} at height {height} is not the \
         child of the one before, so give them in order and without a gap"
    )]
    Gap {
        /// The upper one.
        hash: Hash,
        /// Its height.
        height: Height,
    },
}

debug_as_text!(SaveError);

/// A checkpoint cannot be loaded.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// An I/O error.
    #[error("cannot read the checkpoint {}: make it readable, or give another path", shown(path))]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is there is a folder, a pipe or a device.
    #[error("cannot read the checkpoint {}, which is no regular file: give another path", shown(path))]
    NotAFile {
        /// Where.
        path: PathBuf,
    },
    /// It is larger than any that is written.
    #[error("{} is no checkpoint, since it has more than {LARGEST} bytes: give another path", shown(path))]
    TooLarge {
        /// Where.
        path: PathBuf,
    },
    /// Nothing is in it.
    #[error("the checkpoint {} is empty: remove it to start again", shown(path))]
    Empty {
        /// Where.
        path: PathBuf,
    },
    /// The file is no checkpoint.
    #[error("{} is no checkpoint: give another path, or move the file away", shown(path))]
    Foreign {
        /// Where.
        path: PathBuf,
    },
    /// Another version of this program wrote it.
    #[error(
        "the checkpoint {} has version {found}, this program reads {VERSION}: remove it to start again",
        shown(path)
    )]
    Version {
        /// Where.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Its end is missing.
    #[error("the checkpoint {} is truncated: remove it to start again", shown(path))]
    Truncated {
        /// Where.
        path: PathBuf,
    },
    /// Its content is damaged.
    #[error("the checkpoint {} is damaged in line {line}: {reason}; remove it to start again", shown(path))]
    Corrupt {
        /// Where.
        path: PathBuf,
        /// In which line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

debug_as_text!(LoadError);
