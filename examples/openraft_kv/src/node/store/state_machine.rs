//! The applied data and its snapshots.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;

use openraft::storage::RaftStateMachine;
use openraft::{EntryPayload, ErrorSubject, ErrorVerb, OptionalSend, RaftSnapshotBuilder, Snapshot};
use redb::{Database, ReadableDatabase, ReadableTable, Table, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::{KV, META, decode, encode, failed, get, meta, put, write};
use crate::api::{WriteRequest, Written};
use crate::node::raft::{
    AppliedEntry, Entry, LogId, SnapshotMeta, StorageError, StoredMembership, TypeConfig,
};

/// What a key holds: its value, and the write that set it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The value.
    pub value: String,
    /// The serial of the write.
    pub serial: u64,
    /// The log index of the write.
    pub log_index: u64,
}

/// The data as it was at one position of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The last entry that was applied.
    pub applied: Option<LogId>,
    /// The membership in force there.
    pub membership: StoredMembership,
    /// Every key.
    pub records: BTreeMap<String, Record>,
}

/// The key-value data of a node. Cheap to clone; clones are the same store.
#[derive(Clone)]
pub struct StateMachine {
    db: Arc<Database>,
}

impl StateMachine {
    pub(super) fn new(db: Arc<Database>) -> Self {
        Self { db }
    }

    /// Everything, in one transaction.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn view(&self) -> Result<View, redb::Error> {
        let txn = self.db.begin_read()?;
        let meta = txn.open_table(META)?;
        let mut records = BTreeMap::new();
        for item in txn.open_table(KV)?.iter()? {
            let (key, record) = item?;
            records.insert(key.value().to_owned(), Record::from(record.value()));
        }
        Ok(View {
            applied: applied(&meta)?,
            membership: get(&meta, meta::MEMBERSHIP)?.unwrap_or_default(),
            records,
        })
    }

    /// One key.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn get(&self, key: &str) -> Result<Option<Record>, redb::Error> {
        let kv = self.db.begin_read()?.open_table(KV)?;
        Ok(kv.get(key)?.map(|record| Record::from(record.value())))
    }

    fn snapshot(&self) -> Result<Option<Snapshot<TypeConfig>>, redb::Error> {
        let table = self.db.begin_read()?.open_table(META)?;
        let meta = get(&table, meta::SNAPSHOT_META)?;
        let data = table.get(meta::SNAPSHOT_DATA)?;
        Ok(meta
            .zip(data)
            .map(|(meta, data)| Snapshot { meta, snapshot: Box::new(Cursor::new(data.value().to_vec())) }))
    }
}

impl From<(&str, u64, u64)> for Record {
    fn from((value, serial, log_index): (&str, u64, u64)) -> Self {
        Self { value: value.to_owned(), serial, log_index }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let read = || {
            let meta = self.db.begin_read()?.open_table(META)?;
            let membership = get(&meta, meta::MEMBERSHIP)?.unwrap_or_default();
            Ok((applied(&meta)?, membership))
        };
        read().map_err(failed(ErrorSubject::StateMachine, ErrorVerb::Read))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<AppliedEntry>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        write(&self.db, move |db| {
            let txn = db.begin_write()?;
            let outcomes = apply_all(&txn, entries)?;
            txn.commit()?;
            Ok(outcomes)
        })
        .await
        .map_err(failed(ErrorSubject::StateMachine, ErrorVerb::Write))
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let subject = ErrorSubject::Snapshot(Some(meta.signature()));
        let meta = meta.clone();
        write(&self.db, move |db| {
            let data = snapshot.into_inner();
            let txn = db.begin_write()?;
            replace_all(&txn, &meta, &data)?;
            save_snapshot(&txn, &meta, &data)?;
            Ok(txn.commit()?)
        })
        .await
        .map_err(failed(subject, ErrorVerb::Write))
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        self.snapshot().map_err(failed(ErrorSubject::Snapshot(None), ErrorVerb::Read))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for StateMachine {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let this = self.clone();
        write(&self.db, move |db| {
            let view = this.view()?;
            let meta = SnapshotMeta {
                // The same position has the same content, byte for byte.
                snapshot_id: view.applied.map_or_else(|| "empty".to_owned(), |id| id.to_string()),
                last_log_id: view.applied,
                last_membership: view.membership,
            };
            let data = encode(&view.records)?;
            let txn = db.begin_write()?;
            save_snapshot(&txn, &meta, &data)?;
            txn.commit()?;
            Ok(Snapshot { meta, snapshot: Box::new(Cursor::new(data)) })
        })
        .await
        .map_err(failed(ErrorSubject::Snapshot(None), ErrorVerb::Write))
    }
}

fn applied(meta: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Option<LogId>, redb::Error> {
    // A snapshot of nothing leaves a `null` here.
    Ok(get::<Option<LogId>>(meta, meta::APPLIED)?.flatten())
}

fn apply_all(txn: &WriteTransaction, entries: Vec<Entry>) -> Result<Vec<AppliedEntry>, redb::Error> {
    let mut meta = txn.open_table(META)?;
    let mut kv = txn.open_table(KV)?;
    let mut outcomes = Vec::with_capacity(entries.len());
    let last = entries.last().map(|entry| entry.log_id);
    for entry in entries {
        outcomes.push(match entry.payload {
            EntryPayload::Blank => AppliedEntry::Nothing,
            EntryPayload::Normal(write) => apply(&mut kv, write, entry.log_id.index)?,
            EntryPayload::Membership(membership) => {
                let stored = StoredMembership::new(Some(entry.log_id), membership);
                put(&mut meta, meta::MEMBERSHIP, &stored)?;
                AppliedEntry::Nothing
            }
        });
    }
    if let Some(last) = last {
        put(&mut meta, meta::APPLIED, &last)?;
    }
    Ok(outcomes)
}

fn apply(
    kv: &mut Table<'_, &'static str, (&'static str, u64, u64)>,
    write: WriteRequest,
    log_index: u64,
) -> Result<AppliedEntry, redb::Error> {
    let WriteRequest { key, value, serial } = write;
    let known = kv.get(key.as_str())?.map(|record| Record::from(record.value()));
    let record = match known {
        Some(known) if known.serial > serial => {
            return Ok(AppliedEntry::Stale { last: known.serial });
        }
        Some(known) if known.serial == serial => known,
        _ => {
            kv.insert(key.as_str(), (value.as_str(), serial, log_index))?;
            Record { value, serial, log_index }
        }
    };
    Ok(AppliedEntry::Written(Written { key, value: record.value, serial, log_index: record.log_index }))
}

fn replace_all(txn: &WriteTransaction, snapshot: &SnapshotMeta, data: &[u8]) -> Result<(), redb::Error> {
    let records: BTreeMap<String, Record> = decode(data)?;
    let mut kv = txn.open_table(KV)?;
    kv.retain(|_, _| false)?;
    for (key, record) in &records {
        let value = (record.value.as_str(), record.serial, record.log_index);
        kv.insert(key.as_str(), value)?;
    }
    let mut meta = txn.open_table(META)?;
    put(&mut meta, meta::APPLIED, &snapshot.last_log_id)?;
    put(&mut meta, meta::MEMBERSHIP, &snapshot.last_membership)
}

/// Keeps the newer of the current and the given snapshot: one is built in the background while
/// the leader may send a later one.
fn save_snapshot(txn: &WriteTransaction, snapshot: &SnapshotMeta, data: &[u8]) -> Result<(), redb::Error> {
    let mut meta = txn.open_table(META)?;
    let current: Option<SnapshotMeta> = get(&meta, meta::SNAPSHOT_META)?;
    if current.is_some_and(|current| current.last_log_id > snapshot.last_log_id) {
        return Ok(());
    }
    put(&mut meta, meta::SNAPSHOT_META, snapshot)?;
    meta.insert(meta::SNAPSHOT_DATA, data)?;
    Ok(())
}
