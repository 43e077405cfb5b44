//! Vote and log.

use std::fmt::Debug;
use std::ops::RangeBounds;
use std::sync::Arc;

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{ErrorSubject, ErrorVerb, LogState, OptionalSend, RaftLogId, RaftLogReader};
use redb::{Database, ReadableDatabase, ReadableTable};

use super::{LOG, META, decode, encode, failed, get, meta, put, write};
use crate::node::raft::{Entry, LogId, StorageError, TypeConfig, Vote};

/// How many bytes of entries go into one message to a follower, if there is more than one entry.
const BATCH_BYTES: usize = 1 << 20;

/// The vote and the log of a node. Cheap to clone; clones are the same store.
#[derive(Clone)]
pub struct LogStore {
    db: Arc<Database>,
}

impl LogStore {
    pub(super) fn new(db: Arc<Database>) -> Self {
        Self { db }
    }

    fn state(&self) -> Result<LogState<TypeConfig>, redb::Error> {
        let txn = self.db.begin_read()?;
        let purged: Option<LogId> = get(&txn.open_table(META)?, meta::PURGED)?;
        let last = match txn.open_table(LOG)?.last()? {
            Some((_, entry)) => Some(decode::<Entry>(entry.value())?.log_id),
            None => purged,
        };
        Ok(LogState { last_purged_log_id: purged, last_log_id: last })
    }

    fn entries(&self, range: impl RangeBounds<u64>, max_bytes: usize) -> Result<Vec<Entry>, redb::Error> {
        let log = self.db.begin_read()?.open_table(LOG)?;
        let mut entries = Vec::new();
        let mut bytes = 0;
        for item in log.range(range)? {
            let (_, entry) = item?;
            bytes += entry.value().len();
            if bytes > max_bytes && !entries.is_empty() {
                break;
            }
            entries.push(decode(entry.value())?);
        }
        Ok(entries)
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R>(&mut self, range: R) -> Result<Vec<Entry>, StorageError>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        self.entries(range, usize::MAX).map_err(failed(ErrorSubject::Logs, ErrorVerb::Read))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        self.entries(start..end, BATCH_BYTES).map_err(failed(ErrorSubject::Logs, ErrorVerb::Read))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        self.state().map_err(failed(ErrorSubject::Logs, ErrorVerb::Read))
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let vote = *vote;
        write(&self.db, move |db| {
            let txn = db.begin_write()?;
            put(&mut txn.open_table(META)?, meta::VOTE, &vote)?;
            Ok(txn.commit()?)
        })
        .await
        .map_err(failed(ErrorSubject::Vote, ErrorVerb::Write))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        let read = || get(&self.db.begin_read()?.open_table(META)?, meta::VOTE);
        read().map_err(failed(ErrorSubject::Vote, ErrorVerb::Read))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        write(&self.db, move |db| {
            let txn = db.begin_write()?;
            {
                let mut log = txn.open_table(LOG)?;
                for entry in &entries {
                    log.insert(entry.get_log_id().index, encode(entry)?.as_slice())?;
                }
            }
            Ok(txn.commit()?)
        })
        .await
        .map_err(failed(ErrorSubject::Logs, ErrorVerb::Write))?;
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, from: LogId) -> Result<(), StorageError> {
        write(&self.db, move |db| {
            let txn = db.begin_write()?;
            txn.open_table(LOG)?.retain_in(from.index.., |_, _| false)?;
            Ok(txn.commit()?)
        })
        .await
        .map_err(failed(ErrorSubject::Log(from), ErrorVerb::Delete))
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        write(&self.db, move |db| {
            let txn = db.begin_write()?;
            txn.open_table(LOG)?.retain_in(..=upto.index, |_, _| false)?;
            put(&mut txn.open_table(META)?, meta::PURGED, &upto)?;
            Ok(txn.commit()?)
        })
        .await
        .map_err(failed(ErrorSubject::Log(upto), ErrorVerb::Delete))
    }
}

/// Prints where the log ends.
impl Debug for LogStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LogStore").field(&self.state()).finish()
    }
}
