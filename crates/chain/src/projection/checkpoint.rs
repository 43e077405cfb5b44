//! Continuing after a restart without reading the chain again.
//!
//! A [`Checkpoint`] has the part of the branch that may still change, and the app's state at it. After a restart the
//! observer begins with these headers: it emits what happened meanwhile, and a reorg costs its own blocks.
//!
//! The lowest header counts as final. A node on a branch without that header after the restart is reported
//! ([`FinalityBreached`](crate::ChainEvent::FinalityBreached), [`Breached`](crate::Agreement::Breached)) and is not
//! believed. If this holds for all nodes, the tip stays at the end of the checkpoint. If the nodes are right, remove
//! the checkpoint to start again, with all other data that was derived from the lost branch. The more headers a
//! checkpoint has, the deeper the reorgs that it survives.
//!
//! It is written as JSON lines, the whole file each time: to a new file in the same directory, which is synced and
//! renamed into place; then, on Unix, the directory is synced. A checkpoint is small (the kept headers, and what projections need
//! at them) and is always read whole. A database would add locks and recovery, and people can read lines. A checksum
//! over all bytes is at the end: a truncated or changed file is reported, never used.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::adapter::ChainIdentity;
use crate::{ChainConfig, Hash, Header, Height, Start};
use watchkeeper::report::debug_as_text;

/// The first line has this, so that other files are recognised.
const FORMAT: &str = "watchkeeper-chain checkpoint";
const VERSION: u32 = 1;

/// A branch and the state of an app at each of its blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint<S> {
    /// The chain.
    pub identity: ChainIdentity,
    /// The branch to the tip, lowest first; at least one header, each the child of the one before.
    pub headers: Vec<Header>,
    /// The app's state, such as a [`WalletsRecord`](super::wallet::WalletsRecord).
    pub state: S,
}

impl<S> Checkpoint<S> {
    /// `config` with this chain and these headers to start from. A reorg that happened meanwhile is then emitted as a
    /// reorg.
    #[must_use]
    pub fn resume(&self, config: &ChainConfig) -> ChainConfig {
        let start = Start::Known(self.headers.clone());
        ChainConfig { start, chain: Some(self.identity.clone()), ..config.clone() }
    }
}

#[derive(Serialize, Deserialize)]
struct Top {
    format: String,
    version: u32,
    identity: ChainIdentity,
    headers: usize,
}

#[derive(Serialize, Deserialize)]
struct End {
    sum: String,
}

/// A checkpoint was not written; the previous one, if any, is still whole.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// An I/O error.
    #[error("cannot write the checkpoint {}: leave room for it in a folder that can be written to", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
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
    #[error("cannot read the checkpoint {}: make it readable, or give another path", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no checkpoint.
    #[error("{} is no checkpoint: give another path, or move the file away", path.display())]
    Foreign {
        /// Where.
        path: PathBuf,
    },
    /// Another version of this program wrote it.
    #[error("the checkpoint {} has version {found}, this program reads {VERSION}: remove it to start again", path.display())]
    Version {
        /// Where.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Its end is missing.
    #[error("the checkpoint {} is truncated: remove it to start again", path.display())]
    Truncated {
        /// Where.
        path: PathBuf,
    },
    /// Its content is damaged.
    #[error("the checkpoint {} is damaged in line {line}: {reason}; remove it to start again", path.display())]
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

impl<S: Serialize> Checkpoint<S> {
    /// Writes it to `path`. It replaces the previous checkpoint only when it is complete. Blocks its thread: call it
    /// where that is allowed.
    ///
    /// # Errors
    ///
    /// [`SaveError`]; also for a checkpoint that [`load`](Self::load) would refuse.
    pub fn save(&self, path: &Path) -> Result<(), SaveError> {
        if self.headers.is_empty() {
            return Err(SaveError::NoHeaders);
        }
        if let Some(Header { hash, height, .. }) = gap(&self.headers).map(|upper| self.headers[upper]) {
            return Err(SaveError::Gap { hash, height });
        }
        let text = self.lines()?;
        let temporary = temporary(path);
        let io = |source| SaveError::Io { path: path.to_owned(), source };
        let mut file = File::create(&temporary).map_err(io)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(io)?;
        fs::rename(&temporary, path).map_err(io)?;
        sync_directory_of(path).map_err(io)
    }

    fn lines(&self) -> Result<Vec<u8>, serde_json::Error> {
        let Self { identity, headers, state } = self;
        let top = Top {
            format: FORMAT.to_owned(),
            version: VERSION,
            identity: identity.clone(),
            headers: headers.len(),
        };
        let mut text = Vec::new();
        write_line(&mut text, &top)?;
        for header in headers {
            write_line(&mut text, header)?;
        }
        write_line(&mut text, state)?;
        let end = End { sum: sum(&text) };
        write_line(&mut text, &end)?;
        Ok(text)
    }
}

fn write_line(text: &mut Vec<u8>, value: &impl Serialize) -> Result<(), serde_json::Error> {
    serde_json::to_writer(&mut *text, value)?;
    text.push(b'\n');
    Ok(())
}

/// The index of the first header that is not the child of the one before.
fn gap(headers: &[Header]) -> Option<usize> {
    let is_child = |pair: &[Header]| {
        pair[1].parent == pair[0].hash && pair[0].height.checked_add(1) == Some(pair[1].height)
    };
    headers.windows(2).position(|pair| !is_child(pair)).map(|lower| lower + 1)
}

/// Makes a rename to `path` durable.
#[cfg(unix)]
fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new("."))).and_then(|directory| directory.sync_all())
}

/// Other systems open no directory as a file.
#[cfg(not(unix))]
fn sync_directory_of(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// Checks that a checkpoint can be written to `path`, before there is one: makes the new file beside it, and removes it.
/// What is at `path` stays as it is. Blocks its thread.
///
/// # Errors
///
/// [`SaveError::Io`]: it cannot.
pub fn check_path(path: &Path) -> Result<(), SaveError> {
    let temporary = temporary(path);
    let made = File::create(&temporary).and_then(|_| fs::remove_file(&temporary));
    made.map_err(|source| SaveError::Io { path: path.to_owned(), source })
}

/// In the same directory, so that the rename stays within one file system.
fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// FNV-1a over all bytes: it finds accidental changes, not malicious ones.
fn sum(text: &[u8]) -> String {
    let sum = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{sum:016x}")
}

impl<S: DeserializeOwned> Checkpoint<S> {
    /// Reads the checkpoint at `path`; `None` if there is no file. Blocks its thread.
    ///
    /// # Errors
    ///
    /// [`LoadError`]: the file is not a whole checkpoint.
    pub fn load(path: &Path) -> Result<Option<Self>, LoadError> {
        match fs::read(path) {
            Ok(text) => Self::parse(path, &text).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(LoadError::Io { path: path.to_owned(), source }),
        }
    }

    fn parse(path: &Path, text: &[u8]) -> Result<Self, LoadError> {
        let path = || path.to_owned();
        let foreign = || LoadError::Foreign { path: path() };
        let truncated = || LoadError::Truncated { path: path() };
        let corrupt = |line: usize, reason: String| LoadError::Corrupt { path: path(), line, reason };
        let mut lines = text.split_inclusive(|byte| *byte == b'\n');
        let first = lines.next().ok_or_else(truncated)?;
        let kind: Kind = serde_json::from_slice(first).map_err(|_| foreign())?;
        if kind.format != FORMAT {
            return Err(foreign());
        }
        if kind.version != VERSION {
            return Err(LoadError::Version { path: path(), found: kind.version });
        }
        let top: Top = serde_json::from_slice(first).map_err(|error| corrupt(1, error.to_string()))?;
        let lines: Vec<&[u8]> = lines.collect();
        let whole = lines.last().is_some_and(|line| line.ends_with(b"\n"));
        if top.headers == 0 {
            return Err(corrupt(1, "it has no headers".to_owned()));
        }
        let count = top.headers.checked_add(2);
        if !whole || count.is_none_or(|count| lines.len() < count) {
            return Err(truncated());
        }
        if count.is_some_and(|count| lines.len() > count) {
            return Err(corrupt(top.headers + 4, "there is more after the end".to_owned()));
        }
        let (last, rest) = lines.split_last().ok_or_else(truncated)?;
        let (state, headers) = rest.split_last().ok_or_else(truncated)?;
        let end: End =
            serde_json::from_slice(last).map_err(|error| corrupt(lines.len() + 1, error.to_string()))?;
        let found = sum(&text[..text.len() - last.len()]);
        if end.sum != found {
            let reason = format!("its checksum is {found}, but {} is recorded", end.sum);
            return Err(corrupt(lines.len() + 1, reason));
        }
        let headers = (2..).zip(headers).map(|(line, header)| {
            serde_json::from_slice(header).map_err(|error| corrupt(line, error.to_string()))
        });
        let branch = headers.collect::<Result<Vec<Header>, _>>()?;
        if let Some(upper) = gap(&branch) {
            return Err(corrupt(upper + 2, "the block is not the child of the one before".to_owned()));
        }
        let state = serde_json::from_slice(state).map_err(|error| corrupt(lines.len(), error.to_string()))?;
        Ok(Self { identity: top.identity, headers: branch, state })
    }
}

/// What every version's first line has.
#[derive(Deserialize)]
struct Kind {
    format: String,
    version: u32,
}
