//! The directory of a local cluster: `n1/data/`, `n1/log`, and so on.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use watchkeeper::report::one_line;
use watchkeeper_process::RunDirectory;

use super::lock;

/// How much of a log an error shows.
pub(super) const IN_AN_ERROR: Tail = Tail { bytes: 4 * 1024, lines: 12 };
/// How much of a log a report shows.
pub(super) const IN_A_REPORT: Tail = Tail { bytes: 16 * 1024, lines: 60 };

/// How much of the end of a log is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tail {
    bytes: u64,
    lines: usize,
}

/// The directory. A temporary one is removed with its content by [`remove`](Self::remove), or when this is dropped.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// The next run removes those of killed runs. `None` is one that the caller named, which stays.
    temporary: Mutex<Option<RunDirectory>>,
}

impl Directory {
    pub(super) fn make(given: Option<&Path>) -> io::Result<Self> {
        if let Some(path) = given {
            // A program may have another working directory.
            let path = std::path::absolute(path)?;
            make_private(&path, false)?;
            return Ok(Self { path, temporary: Mutex::default() });
        }
        let directory = RunDirectory::new("watchkeeper-local-")?;
        Ok(Self { path: directory.path().to_owned(), temporary: Mutex::new(Some(directory)) })
    }

    /// Removes a temporary one, with its content.
    pub(super) fn remove(&self) {
        let temporary = lock(&self.temporary).take();
        drop(temporary);
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory for the data of a node, which is made if it is not there.
    pub(super) fn data(&self, node: &str) -> io::Result<PathBuf> {
        let data = self.path().join(node).join("data");
        make_private(&data, true)?;
        Ok(data)
    }

    /// The log of a node, if it stays when the cluster has ended.
    pub(super) fn kept_log(&self, node: &str) -> Option<PathBuf> {
        lock(&self.temporary).is_none().then(|| self.log(node))
    }

    pub(super) fn log(&self, node: &str) -> PathBuf {
        self.path().join(node).join("log")
    }

    /// The log of a node whose directory is there, to append to.
    pub(super) fn open_log(&self, node: &str) -> io::Result<File> {
        File::options().create(true).append(true).open(self.log(node))
    }

    /// The last lines of a node's log, or why there are none.
    pub(super) fn log_tail(&self, node: &str, tail: Tail) -> String {
        match read_end(&self.log(node), tail) {
            Ok(lines) if lines.is_empty() => "(it has logged nothing)".to_owned(),
            Ok(lines) => lines,
            Err(error) => format!("(unreadable: {error})"),
        }
    }
}

fn make_private(path: &Path, recursive: bool) -> io::Result<()> {
    DirBuilder::new().mode(0o700).recursive(recursive).create(path)
}

/// The last lines of a file, each escaped.
fn read_end(path: &Path, tail: Tail) -> io::Result<String> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(tail.bytes);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    // The file may grow meanwhile.
    file.take(tail.bytes).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<String> = text.lines().map(|line| one_line(line, bytes.len())).collect();
    Ok(lines[lines.len().saturating_sub(tail.lines)..].join("\n"))
}
