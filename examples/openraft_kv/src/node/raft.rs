//! The types that Raft works on here.

use std::io::Cursor;

use serde::{Deserialize, Serialize};

use crate::api::{NodeId, WriteRequest, Written};

openraft::declare_raft_types!(
    /// The types of this key-value store.
    pub TypeConfig:
        D = WriteRequest,
        R = AppliedEntry,
        NodeId = NodeId,
        Node = openraft::BasicNode,
        SnapshotData = Cursor<Vec<u8>>,
);

/// The Raft handle of a node.
pub type Raft = openraft::Raft<TypeConfig>;
/// A Raft log entry.
pub type Entry = openraft::Entry<TypeConfig>;
/// A position in the Raft log.
pub type LogId = openraft::LogId<NodeId>;
/// A membership and its position in the log.
pub type StoredMembership = openraft::StoredMembership<NodeId, openraft::BasicNode>;
/// What a snapshot contains.
pub type SnapshotMeta = openraft::SnapshotMeta<NodeId, openraft::BasicNode>;
/// An error of the store, which stops Raft.
pub type StorageError = openraft::StorageError<NodeId>;
/// Raft's latest vote.
pub type Vote = openraft::Vote<NodeId>;

/// The result of applying a log entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppliedEntry {
    /// The entry is Raft's own: blank, or a membership.
    Nothing,
    /// The write is applied, now or by an earlier entry with the same serial.
    Written(Written),
    /// Not applied: the key has been written with this greater serial.
    Stale {
        /// The serial of the key's last write.
        last: u64,
    },
}
