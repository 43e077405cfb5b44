//! The JSON that nodes and clients exchange over HTTP.
//!
//! Unknown fields of a request are refused, so that a typo is an error. Unknown fields of an answer are
//! ignored, so that an older client can read from a newer node.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

/// A node's number: unique in its cluster, at least 1, and permanent.
pub type NodeId = u64;

/// The full Raft metrics of a node, the answer of `GET /admin/metrics`.
pub type Metrics = openraft::RaftMetrics<NodeId, openraft::BasicNode>;

/// The one line that a node prints on standard output, once it serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// The node.
    pub node_id: NodeId,
    /// Where others reach it, with the port that the system picked.
    pub listening: String,
}

/// The current role of a node in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Receives the log and has no vote; becomes a follower by a membership change.
    Learner,
    /// Follows a leader; becomes a candidate when it no longer hears from it.
    Follower,
    /// Asks for votes; becomes a leader or a follower.
    Candidate,
    /// Orders the writes; becomes a follower when it sees a higher term.
    Leader,
    /// Raft has stopped; the process is about to end.
    Stopped,
}

/// The answer of `GET /state`: what one node believes, which may be out of date.
///
/// `last_applied_index` and `kv` are read in one transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeState {
    /// The node that answers.
    pub node_id: NodeId,
    /// Where the other members and clients reach it.
    pub public_addr: String,
    /// Its role.
    pub role: Role,
    /// The leader that it knows of, which may be dead.
    pub current_leader: Option<NodeId>,
    /// Its Raft term.
    pub current_term: u64,
    /// The end of its log, committed or not; `None` while the log is empty.
    pub last_log_index: Option<u64>,
    /// The last entry that its state machine has applied.
    pub last_applied_index: Option<u64>,
    /// The voters of the newest membership in its log; empty before the cluster is formed.
    pub voters: BTreeSet<NodeId>,
    /// Every key and its value.
    pub kv: BTreeMap<String, String>,
}

/// The answer of `GET /healthz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The node that answers.
    pub node_id: NodeId,
    /// Always `ok`: the answer is an error otherwise.
    pub status: String,
}

/// The body of `POST /kv/write`, and the command in the Raft log.
///
/// `serial` makes retries safe. Each key remembers the serial of its last write: a greater one
/// is applied, the same one gets the first answer again and changes nothing, a smaller one is
/// refused as `stale_serial`. Keys do not share serials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteRequest {
    /// The key, not empty.
    pub key: String,
    /// The new value.
    pub value: String,
    /// The number of this write among those of its key.
    pub serial: u64,
}

/// The answer of `POST /kv/write`: the write as it was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// The key.
    pub key: String,
    /// The value that the write with this serial set.
    pub value: String,
    /// The serial that was applied.
    pub serial: u64,
    /// The log index where it was applied, the same for a repeated serial.
    pub log_index: u64,
}

/// The body of `POST /kv/read`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadRequest {
    /// The key, not empty.
    pub key: String,
}

/// The answer of `POST /kv/read`. The read is linearizable: it sees every write that was
/// acknowledged before it began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadAnswer {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// A node and where it is reached: a member in `POST /admin/init`, the body of
/// `POST /admin/add-learner`, and the leader in an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its number.
    pub node_id: NodeId,
    /// Its `host:port`.
    pub addr: String,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} at {}", self.node_id, self.addr)
    }
}

/// The body of `POST /admin/init`: all first voters, with the node that is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitRequest {
    /// The first voters.
    pub members: Vec<Member>,
}

/// The answer of `POST /admin/init`: the cluster has a leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Formed {
    /// The first leader.
    pub leader: NodeId,
    /// Its term.
    pub term: u64,
}

/// The body of `POST /admin/change-membership`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeMembershipRequest {
    /// All voters from now on. New ones must be learners; one that is left out leaves the
    /// cluster.
    pub voters: BTreeSet<NodeId>,
}

/// The answer of the two requests that change the membership: the one now committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The voters.
    pub voters: BTreeSet<NodeId>,
    /// The learners, which only receive the log.
    pub learners: BTreeSet<NodeId>,
    /// Its log index.
    pub log_index: u64,
}

/// Why a request was refused: the `error` of an [`ErrorBody`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// 400: the body is not the JSON that the route takes, or a value in it is invalid.
    BadRequest,
    /// 404: no such route.
    NotFound,
    /// 404: the key was never written.
    KeyNotFound,
    /// 405: the route exists, for another method.
    MethodNotAllowed,
    /// 413: the body is too large.
    TooLarge,
    /// 421: only the leader does this; `leader` says where it is.
    NotLeader,
    /// 421: the request was meant for another node, or another cluster.
    WrongNode,
    /// 409: the node already belongs to a cluster with other members.
    AlreadyInitialized,
    /// 409: a voter must be a learner first.
    UnknownLearner,
    /// 409: the node id is in the membership with another address.
    OtherAddress,
    /// 409: another membership change is not finished.
    ChangeInProgress,
    /// 409: the key has been written with a greater serial.
    StaleSerial,
    /// 409: a snapshot must be sent again from its start.
    SnapshotMismatch,
    /// 503: no leader is known at the moment.
    NoLeader,
    /// 503: the leader does not reach a quorum.
    NoQuorum,
    /// 503: not finished in time. It may still be applied: repeat it with the same serial.
    NotCommitted,
    /// 503: the node is stopping.
    Stopping,
    /// 500: the node failed; its log says why.
    Internal,
    /// A code that this version does not know.
    #[serde(other)]
    Unknown,
}

/// The body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// Why, for programs.
    pub error: ErrorCode,
    /// Why, for people.
    pub message: String,
    /// The leader to ask instead, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<Member>,
}

/// What a node is called: `n1`, `n2` and so on.
#[must_use]
pub fn node_name(id: NodeId) -> String {
    format!("n{id}")
}

/// Checks that an address is a `host:port`.
pub(crate) fn check_addr(addr: &str) -> Result<(), String> {
    let usable = addr
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0));
    if usable {
        return Ok(());
    }
    Err(format!("`{addr}` is not an address: expected host:port with a port from 1 to 65535"))
}
