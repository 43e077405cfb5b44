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
//! It is written as JSON lines, the whole file each time: to a new hidden file in the same directory, which is synced and
//! renamed into place; then, on Unix, the directory is synced. A checkpoint is small (the kept headers, and what
//! projections need at them; at most 256 MiB) and is always read whole. A database would add recovery, and people can read
//! lines. A checksum over all bytes is at the end: a truncated or changed file is reported, never used.

mod errors;
mod place;

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use watchkeeper::report::one_line;

use crate::adapter::ChainIdentity;
use crate::{ChainConfig, Header, Start};

pub use errors::{LoadError, SaveError};
pub use place::{CheckpointLock, lock};

use errors::LARGEST;

/// The first line has this, so that other files are recognised.
const FORMAT: &str = "watchkeeper-chain checkpoint";
const VERSION: u32 = 1;
/// Bytes of a reason in a message.
const REASON: usize = 200;

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

impl<S: Serialize> Checkpoint<S> {
    /// Writes it to `path`. It replaces the previous checkpoint only when it is complete. A new file can be read by its
    /// owner alone; one that replaces another has its permissions, on Unix. A symbolic link stays. Of two that write
    /// concurrently the last one counts: let an app [`lock`] its file. Blocks its thread: call it where that is allowed.
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
        if text.len() > LARGEST {
            return Err(SaveError::TooLarge { size: text.len() });
        }
        place::replace(path, &text)
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
    /// [`LoadError`]: there is something else than a whole checkpoint.
    pub fn load(path: &Path) -> Result<Option<Self>, LoadError> {
        place::read(path)?.map(|text| Self::parse(path, &text)).transpose()
    }

    fn parse(path: &Path, text: &[u8]) -> Result<Self, LoadError> {
        let path = || path.to_owned();
        let foreign = || LoadError::Foreign { path: path() };
        let truncated = || LoadError::Truncated { path: path() };
        let corrupt = |line: usize, reason: String| LoadError::Corrupt {
            path: path(),
            line,
            // The parser repeats texts of the file.
            reason: one_line(&reason, REASON),
        };
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
