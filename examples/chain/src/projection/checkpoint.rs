//! Going on after a restart without reading the chain again.
//!
//! A [`Checkpoint`] is the branch as far back as it may still change, with whatever state the app keeps of it.
//! After a restart the observer begins with these headers: what happened meanwhile is told as if it had run all
//! the time, and a reorg costs its own blocks.
//!
//! The lowest header counts as final. Of nodes that are on a branch without it after the restart nothing can be
//! told: each is shown to be on a branch without a final block
//! ([`FinalityBreached`](crate::ChainEvent::FinalityBreached), [`Breached`](crate::Agreement::Breached)) and is not
//! believed, and if all are, the tip stays where the checkpoint ends. If the nodes are right, remove the checkpoint
//! to begin anew, with whatever else was derived from the lost branch. The more headers a checkpoint has, the deeper
//! the reorgs that it outlives.
//!
//! It is written as JSON lines, whole and anew each time: into a file beside, synced, put in place by a rename,
//! the directory synced. A checkpoint is small (the kept headers and what projections need at them) and is only
//! ever read whole; a database would add locks and recovery to a file that a rename keeps whole, and people can
//! read lines. A sum over all bytes is at the end: a file that is cut short or changed is told, never believed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::adapter::ChainIdentity;
use crate::error_text::debug_as_text;
use crate::{ChainConfig, Hash, Header, Height, Start};

/// What the first line says, so that other files are told.
const FORMAT: &str = "watchkeeper-chain checkpoint";
const VERSION: u32 = 1;

/// A branch and the state of an app at each of its blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint<S> {
    /// Of which chain.
    pub identity: ChainIdentity,
    /// The branch to the tip, lowest first; at least one, each names the one before it as its parent.
    pub headers: Vec<Header>,
    /// What the app makes of it, such as [`WalletsRecord`](super::wallet::WalletsRecord).
    pub state: S,
}

impl<S> Checkpoint<S> {
    /// How the observer is to be configured to go on from here, beside what else it is told: on this chain, from
    /// these headers. A reorg that happened meanwhile is then told as one.
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

/// A checkpoint was not written; the one before, if any, is still whole.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// The system refused.
    #[error("cannot write the checkpoint {}: leave room for it in a folder that can be written to", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The state cannot be written as JSON.
    #[error("the state has no JSON form: mend how it is serialized")]
    State(#[from] serde_json::Error),
    /// There is nothing to go on from.
    #[error("a checkpoint without headers cannot be gone on from: save one when the first block has come")]
    NoHeaders,
    /// Two consecutive headers are not parent and child.
    #[error(
        "a checkpoint whose headers are no chain cannot be gone on from: block {hash:.8} at height {height} is not \
         the child of the one before, so give them in order and without a gap"
    )]
    Gap {
        /// The upper one.
        hash: Hash,
        /// Its height.
        height: Height,
    },
}

debug_as_text!(SaveError);

/// A checkpoint cannot be gone on from.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The system refused.
    #[error("cannot read the checkpoint {}: make it readable, or give another path", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is some other file.
    #[error("{} is no checkpoint: give another path, or move the file away", path.display())]
    Foreign {
        /// Where.
        path: PathBuf,
    },
    /// Another version of this program wrote it.
    #[error("the checkpoint {} has version {found}, this program reads {VERSION}: remove it to begin anew", path.display())]
    Version {
        /// Where.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Its end is missing.
    #[error("the checkpoint {} is cut short: remove it to begin anew", path.display())]
    Truncated {
        /// Where.
        path: PathBuf,
    },
    /// It is not as it was written.
    #[error("the checkpoint {} is damaged in line {line}: {reason}; remove it to begin anew", path.display())]
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
    /// Writes it to `path`, in place of the one before, which stays whole until this one is. Blocks its thread:
    /// call it on one that may.
    ///
    /// # Errors
    ///
    /// [`SaveError`]; also for what [`load`](Self::load) would refuse.
    pub fn save(&self, path: &Path) -> Result<(), SaveError> {
        if self.headers.is_empty() {
            return Err(SaveError::NoHeaders);
        }
        if let Some(Header { hash, height, .. }) = gap(&self.headers).map(|upper| self.headers[upper]) {
            return Err(SaveError::Gap { hash, height });
        }
        let text = self.lines()?;
        let beside = beside(path);
        let io = |source| SaveError::Io { path: path.to_owned(), source };
        let mut file = File::create(&beside).map_err(io)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(io)?;
        fs::rename(&beside, path).map_err(io)?;
        // The rename itself is kept by the directory.
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new("."))).and_then(|directory| directory.sync_all()).map_err(io)
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

/// The place of the first header that is not the child of the one before.
fn gap(headers: &[Header]) -> Option<usize> {
    let is_child = |pair: &[Header]| {
        pair[1].parent == pair[0].hash && pair[0].height.checked_add(1) == Some(pair[1].height)
    };
    headers.windows(2).position(|pair| !is_child(pair)).map(|lower| lower + 1)
}

/// In the same directory, so that the rename stays within one file system.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// FNV-1a over all bytes: against accidents, not against malice.
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
    /// [`LoadError`]: what is there is not a whole checkpoint.
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
            return Err(corrupt(top.headers + 4, "there is more behind the end".to_owned()));
        }
        let (last, rest) = lines.split_last().ok_or_else(truncated)?;
        let (state, headers) = rest.split_last().ok_or_else(truncated)?;
        let end: End =
            serde_json::from_slice(last).map_err(|error| corrupt(lines.len() + 1, error.to_string()))?;
        let found = sum(&text[..text.len() - last.len()]);
        if end.sum != found {
            let reason = format!("its sum is {found}, and was {}", end.sum);
            return Err(corrupt(lines.len() + 1, reason));
        }
        let headers = (2..).zip(headers).map(|(line, header)| {
            serde_json::from_slice(header).map_err(|error| corrupt(line, error.to_string()))
        });
        let branch = headers.collect::<Result<Vec<Header>, _>>()?;
        if let Some(upper) = gap(&branch) {
            return Err(corrupt(upper + 2, "the block does not follow the one before".to_owned()));
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
