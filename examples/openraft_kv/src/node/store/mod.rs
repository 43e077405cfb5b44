//! Everything a node must not forget, in one redb file: vote, log, applied state, snapshot.
//!
//! Every change is one transaction that is on disk when it is acknowledged, so a killed node comes
//! back with everything that it acknowledged. [`LogStore`] and [`StateMachine`] are the two stores
//! that openraft needs; they share the file, and redb serialises their writes.

mod log;
mod state_machine;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openraft::{AnyError, ErrorSubject, ErrorVerb, StorageIOError};
use redb::{Database, DatabaseError, ReadableTable, Table, TableDefinition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::api::NodeId;
use crate::node::raft::StorageError;

pub use log::LogStore;
pub use state_machine::{Record, StateMachine, View};

const FILE: &str = "node.redb";
const CACHE_BYTES: usize = 16 << 20;

/// Single values, as JSON.
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// The log: index, entry as JSON.
const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
/// The applied data: key, value, serial, log index.
const KV: TableDefinition<&str, (&str, u64, u64)> = TableDefinition::new("kv");

/// The keys of [`META`].
mod meta {
    pub(super) const IDENTITY: &str = "identity";
    pub(super) const VOTE: &str = "vote";
    pub(super) const PURGED: &str = "purged";
    pub(super) const APPLIED: &str = "applied";
    pub(super) const MEMBERSHIP: &str = "membership";
    pub(super) const SNAPSHOT_META: &str = "snapshot_meta";
    pub(super) const SNAPSHOT_DATA: &str = "snapshot_data";
}

/// The node that the data belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The cluster's name.
    pub cluster: String,
    /// The node's number in it.
    pub node_id: NodeId,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} of cluster `{}`", self.node_id, self.cluster)
    }
}

/// Why a data directory cannot be used.
#[derive(thiserror::Error)]
pub enum OpenError {
    /// It cannot be made.
    #[error("cannot make the data directory {}: make its parent first, or choose another --data-dir", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A running node has it.
    #[error("the data directory {} is in use by a running node: stop that one, or choose another --data-dir", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// It belongs to another node.
    #[error("the data directory {} belongs to {found}, not to {wanted}: choose another --data-dir", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// The node that it belongs to.
        found: Identity,
        /// The node that is to use it.
        wanted: Identity,
    },
    /// The file in it is no store, or the disk fails.
    #[error("the store {} cannot be opened: restore it, or choose another --data-dir", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<redb::Error>,
    },
}

crate::errors::debug_is_the_text!(OpenError);

/// Opens the store of `identity` in `dir`, which is made if it is missing.
///
/// # Errors
///
/// [`OpenError`]; what this attempt has made is removed then.
pub fn open(dir: &Path, identity: &Identity) -> Result<(LogStore, StateMachine), OpenError> {
    let made_dir = make_dir(dir)?;
    let file = dir.join(FILE);
    let made_file = !file.exists();
    let opened = open_file(dir, &file, identity);
    // After any other error nothing was made, or the file is of another node.
    if let Err(OpenError::Unusable { .. }) = &opened {
        // The error to report is the one above, whether or not this succeeds.
        if made_dir {
            let _ = std::fs::remove_dir_all(dir);
        } else if made_file {
            let _ = std::fs::remove_file(&file);
        }
    }
    let db = Arc::new(opened?);
    Ok((LogStore::new(db.clone()), StateMachine::new(db)))
}

fn make_dir(dir: &Path) -> Result<bool, OpenError> {
    match std::fs::create_dir(dir) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(false),
        Err(source) => Err(OpenError::Directory { path: dir.to_owned(), source }),
    }
}

fn open_file(dir: &Path, file: &Path, identity: &Identity) -> Result<Database, OpenError> {
    let unusable =
        |source: redb::Error| OpenError::Unusable { path: file.to_owned(), source: Box::new(source) };
    let db = Database::builder().set_cache_size(CACHE_BYTES).create(file).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::Locked { path: dir.to_owned() },
        other => unusable(other.into()),
    })?;
    let owner = claim(&db, identity).map_err(unusable)?;
    if owner == *identity {
        return Ok(db);
    }
    Err(OpenError::Foreign { path: dir.to_owned(), found: owner, wanted: identity.clone() })
}

/// Returns the owner of the store; a new store gets `identity` as its owner, and all its tables.
fn claim(db: &Database, identity: &Identity) -> Result<Identity, redb::Error> {
    let txn = db.begin_write()?;
    let owner = {
        let mut meta = txn.open_table(META)?;
        let owner = get(&meta, meta::IDENTITY)?;
        if owner.is_none() {
            put(&mut meta, meta::IDENTITY, identity)?;
        }
        owner
    };
    if let Some(owner) = owner {
        txn.abort()?;
        return Ok(owner);
    }
    txn.open_table(LOG)?;
    txn.open_table(KV)?;
    txn.commit()?;
    Ok(identity.clone())
}

fn get<T: DeserializeOwned>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &str,
) -> Result<Option<T>, redb::Error> {
    match table.get(key)? {
        Some(bytes) => decode(bytes.value()).map(Some),
        None => Ok(None),
    }
}

fn put<T: Serialize>(
    table: &mut Table<'_, &'static str, &'static [u8]>,
    key: &str,
    value: &T,
) -> Result<(), redb::Error> {
    table.insert(key, encode(value)?.as_slice())?;
    Ok(())
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, redb::Error> {
    serde_json::to_vec(value).map_err(|e| redb::Error::Corrupted(e.to_string()))
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, redb::Error> {
    serde_json::from_slice(bytes).map_err(|e| redb::Error::Corrupted(e.to_string()))
}

/// Runs a write transaction, which waits for the disk, off the async threads.
async fn write<T: Send + 'static>(
    db: &Arc<Database>,
    change: impl FnOnce(&Database) -> Result<T, redb::Error> + Send + 'static,
) -> Result<T, redb::Error> {
    let db = db.clone();
    match tokio::task::spawn_blocking(move || change(&db)).await {
        Ok(result) => result,
        Err(interrupted) => Err(redb::Error::Io(io::Error::other(interrupted))),
    }
}

/// Names what Raft was doing when the store failed.
fn failed(subject: ErrorSubject<NodeId>, verb: ErrorVerb) -> impl FnOnce(redb::Error) -> StorageError {
    move |error| StorageIOError::new(subject, verb, AnyError::new(&error)).into()
}
