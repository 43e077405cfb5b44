//! The directory of a local cluster: `node-1/` with the data, `node-1.log`, and so on.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use watchkeeper::report::one_line;
use watchkeeper_process::RunDirectory;

use super::ClusterError;
use crate::api::NodeId;

const TAIL_BYTES: u64 = 4096;
const TAIL_LINES: usize = 12;

/// A directory that is removed with its content when this is dropped, unless it is to be kept.
#[derive(Debug)]
pub(super) enum Directory {
    /// A temporary one: the next run removes those of killed runs.
    Temporary(RunDirectory),
    /// One that the caller named.
    Given { path: PathBuf, keep: AtomicBool },
}

impl Directory {
    pub(super) fn make(given: Option<&Path>, keep: bool) -> Result<Self, ClusterError> {
        let made = match given {
            Some(path) => std::fs::create_dir(path)
                .map(|()| Self::Given { path: path.to_owned(), keep: AtomicBool::new(false) }),
            None => RunDirectory::new("openraft_kv-").map(Self::Temporary),
        };
        let directory = made.map_err(|source| ClusterError::Directory {
            path: given.map_or_else(std::env::temp_dir, Path::to_owned),
            source,
        })?;
        if keep {
            directory.keep();
        }
        Ok(directory)
    }

    pub(super) fn keep(&self) {
        match self {
            Self::Temporary(directory) => directory.keep(),
            Self::Given { keep, .. } => keep.store(true, Ordering::Relaxed),
        }
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Temporary(directory) => directory.path(),
            Self::Given { path, .. } => path,
        }
    }

    pub(super) fn data(&self, id: NodeId) -> PathBuf {
        self.path().join(format!("node-{id}"))
    }

    pub(super) fn log(&self, id: NodeId) -> PathBuf {
        self.path().join(format!("node-{id}.log"))
    }

    pub(super) fn open_log(&self, id: NodeId) -> io::Result<File> {
        File::options().create(true).append(true).open(self.log(id))
    }

    /// The last lines of a node's log, or why there are none.
    pub(super) fn log_tail(&self, id: NodeId) -> String {
        tail(&self.log(id)).unwrap_or_else(|error| format!("(unreadable: {error})"))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Self::Given { path, keep } = self
            && !keep.load(Ordering::Relaxed)
        {
            // A drop cannot report an error.
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// The last lines of a file, each escaped.
fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    // The file may grow meanwhile.
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<String> = text.lines().map(|line| one_line(line, bytes.len())).collect();
    Ok(lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n"))
}
