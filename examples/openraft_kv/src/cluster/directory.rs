//! The directory of a local cluster: `node-1/` with the data, `node-1.log`, and so on.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::ClusterError;
use crate::api::NodeId;

const TAIL_BYTES: u64 = 4096;
const TAIL_LINES: usize = 12;

/// Removed with all that is in it when it is dropped, unless it is to be kept.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    keep: bool,
}

impl Directory {
    pub(super) fn make(given: Option<&Path>, keep: bool) -> Result<Self, ClusterError> {
        let made = match given {
            Some(path) => std::fs::create_dir(path).map(|()| path.to_owned()),
            None => tempfile::Builder::new().prefix("openraft_kv-").tempdir().map(tempfile::TempDir::keep),
        };
        match made {
            Ok(path) => Ok(Self { path, keep }),
            Err(source) => Err(ClusterError::Directory {
                path: given.map_or_else(std::env::temp_dir, Path::to_owned),
                source,
            }),
        }
    }

    pub(super) fn keep(&mut self) {
        self.keep = true;
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn data(&self, id: NodeId) -> PathBuf {
        self.path.join(format!("node-{id}"))
    }

    pub(super) fn log(&self, id: NodeId) -> PathBuf {
        self.path.join(format!("node-{id}.log"))
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
        if !self.keep {
            // Nobody is left to be told.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n"))
}
