//! What travels over HTTP between a node and its clients, as JSON.
//!
//! Requests refuse fields they do not know, so that a typo is an error and not silence. Answers
//! do not, so that an older client reads a newer node.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

/// A node's number: unique in its cluster, at least 1, and for good.
pub type NodeId = u64;

/// The full Raft metrics of a node, the answer of `GET /admin/metrics`.
pub type Metrics = openraft::RaftMetrics<NodeId, openraft::BasicNode>;

/// The one line that a node prints on standard output, once it serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Who serves.
    pub node_id: NodeId,
    /// Where others reach it, the port that the system picked included.
    pub listening: String,
}

/// What a node is in its cluster at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Receives the log and has no vote; becomes a follower by a membership change.
    Learner,
    /// Follows a leader; becomes a candidate when it hears nothing of it.
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
/// `last_applied_index` and `kv` are of one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeState {
    /// Who answers.
    pub node_id: NodeId,
    /// Where the other members and clients reach it.
    pub public_addr: String,
    /// What it is at the moment.
    pub role: Role,
    /// Whom it takes for the leader; it may be one that is long dead.
    pub current_leader: Option<NodeId>,
    /// Its Raft term.
    pub current_term: u64,
    /// The end of its log, committed or not; `None` while the log is empty.
    pub last_log_index: Option<u64>,
    /// How far its state machine is.
    pub last_applied_index: Option<u64>,
    /// The voters of the newest membership in its log; empty before the cluster is formed.
    pub voters: BTreeSet<NodeId>,
    /// Every key and its value.
    pub kv: BTreeMap<String, String>,
}

/// The answer of `GET /healthz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Who answers.
    pub node_id: NodeId,
    /// Always `ok`: a node that is not is an error.
    pub status: String,
}

/// The body of `POST /kv/write`, and the command in the Raft log.
///
/// `serial` makes retries safe. Each key remembers the serial of its last write: a greater one
/// is applied, the same one is answered like the first time and changes nothing, a smaller one
/// is refused as `stale_serial`. Keys do not share serials.
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
    /// Where in the log it was applied, the same for a repeated serial.
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

/// The body of `POST /admin/init`: every first voter, the node that is asked included.
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

/// The answer of the two requests that change the membership: what is committed now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Who votes.
    pub voters: BTreeSet<NodeId>,
    /// Who only receives the log.
    pub learners: BTreeSet<NodeId>,
    /// Where in the log it stands.
    pub log_index: u64,
}

/// Why a request was refused: the `error` of an [`ErrorBody`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// 400: the body is not the JSON that the route takes, or a value in it is impossible.
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
    /// 500: the node is broken; its log says how.
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
    /// Whom to ask instead, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<Member>,
}

/// What a node is called: `n1`, `n2` and so on.
pub(crate) fn node_name(id: NodeId) -> String {
    format!("n{id}")
}

/// The node that is called `name`, if a node can be.
pub(crate) fn node_id(name: &str) -> Option<NodeId> {
    name.strip_prefix('n')?.parse().ok()
}

/// Says what is wrong with an address that should be `host:port`.
pub(crate) fn check_addr(addr: &str) -> Result<(), String> {
    let usable = addr
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0));
    if usable {
        return Ok(());
    }
    Err(format!("`{addr}` is no address: expected host:port with a port from 1 to 65535"))
}
