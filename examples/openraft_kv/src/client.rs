//! A client of one node.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::{
    ChangeMembershipRequest, ErrorCode, Formed, Health, InitRequest, Member, Membership, Metrics, NodeId,
    NodeState, ReadAnswer, ReadRequest, WriteRequest, Written,
};
use crate::http::{CallError, Http, Target};

/// Talks to one node. Cheap to clone; clones share their connections.
///
/// Every request ends within the client's timeout, 3 s by default, even if the node is paused: then it
/// accepts connections and never answers. Nothing is retried; a caller retries a write with the same
/// serial.
///
/// # Cancel safety
///
/// Every method may be dropped. A request that was sent may still be carried out.
#[derive(Clone, Debug)]
pub struct NodeClient {
    http: Http,
    target: Target,
    timeout: Duration,
}

/// Why a node gave no usable answer. Each text names the node and says what to do.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nothing accepts connections there: retry later, or ask another node.
    #[error("{node} is unreachable: check that it runs, or ask another node")]
    Unreachable {
        /// Which node.
        node: String,
        /// The error of the connection.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// No answer in time: the node may be paused, or waiting for a quorum.
    #[error(
        "{node} gave no answer within {after:?}: it may be paused; a write may still be applied, repeat it with its serial"
    )]
    TimedOut {
        /// Which node.
        node: String,
        /// How long the client waited.
        after: Duration,
    },
    /// The connection broke before the answer.
    #[error(
        "the connection to {node} broke before its answer: a write may still be applied, repeat it with its serial"
    )]
    Broken {
        /// Which node.
        node: String,
        /// The error of the connection.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// Only the leader does this.
    #[error("{node} is not the leader: {}", match leader {
        Some(leader) => format!("ask {leader}"),
        None => "none is known, retry after the election".to_owned(),
    })]
    NotLeader {
        /// Which node.
        node: String,
        /// The leader that it names.
        leader: Option<Member>,
    },
    /// The node refused for another reason.
    #[error("{node} refused with {status}: {message}")]
    Refused {
        /// Which node.
        node: String,
        /// The HTTP status.
        status: u16,
        /// Why, for programs.
        error: ErrorCode,
        /// Why, and what to do.
        message: String,
    },
    /// The server there does not speak this API.
    #[error("the answer of {node} is not that of a node ({reason}): check the address")]
    BadAnswer {
        /// Which node.
        node: String,
        /// What is wrong with the answer.
        reason: String,
    },
}

crate::errors::debug_is_the_text!(ClientError);

impl NodeClient {
    /// A client of any node at `addr`, a `host:port`.
    #[must_use]
    pub fn new(addr: impl Into<Arc<str>>) -> Self {
        Self::sharing(Http::new(), addr)
    }

    pub(crate) fn sharing(http: Http, addr: impl Into<Arc<str>>) -> Self {
        Self { http, target: Target { addr: addr.into(), identity: None }, timeout: Duration::from_secs(3) }
    }

    /// Talks only to this node of this cluster: any other node at the address refuses.
    #[must_use]
    pub fn expecting(mut self, cluster: impl Into<Arc<str>>, id: NodeId) -> Self {
        self.target.identity = Some((cluster.into(), id));
        self
    }

    /// Limits each request to `timeout`, connecting included.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The address it was made with.
    #[must_use]
    pub fn addr(&self) -> &str {
        &self.target.addr
    }

    /// The node that it expects there, if any.
    #[must_use]
    pub fn id(&self) -> Option<NodeId> {
        self.target.identity.as_ref().map(|(_, id)| *id)
    }

    /// Asks whether the node serves.
    ///
    /// # Errors
    ///
    /// [`ClientError`], as every method here.
    pub async fn health(&self) -> Result<Health, ClientError> {
        self.get("/healthz").await
    }

    /// Asks for the node's own view, which any node returns without asking the others.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn state(&self) -> Result<NodeState, ClientError> {
        self.get("/state").await
    }

    /// Asks for the full Raft metrics.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn metrics(&self) -> Result<Metrics, ClientError> {
        self.get("/admin/metrics").await
    }

    /// Writes `value` under `key`; returns when a quorum has it on disk and it is applied.
    /// [`WriteRequest`] says what `serial` is.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; [`NotLeader`](ClientError::NotLeader) from all nodes but one.
    pub async fn write(&self, key: &str, value: &str, serial: u64) -> Result<Written, ClientError> {
        let request = WriteRequest { key: key.to_owned(), value: value.to_owned(), serial };
        self.post("/kv/write", &request).await
    }

    /// Reads `key`, linearizably; `None` if it was never written.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; [`NotLeader`](ClientError::NotLeader) from all nodes but one.
    pub async fn read(&self, key: &str) -> Result<Option<String>, ClientError> {
        let request = ReadRequest { key: key.to_owned() };
        match self.post("/kv/read", &request).await {
            Ok(ReadAnswer { value, .. }) => Ok(Some(value)),
            Err(ClientError::Refused { error: ErrorCode::KeyNotFound, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Forms a cluster of `members`, this node among them; returns when there is a leader. May be
    /// repeated with the same members.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; [`NotLeader`](ClientError::NotLeader) without a leader when the members are
    /// set and the election takes longer than the node's request timeout: repeat it.
    pub async fn init(&self, members: Vec<Member>) -> Result<Formed, ClientError> {
        self.post("/admin/init", &InitRequest { members }).await
    }

    /// Adds a node that receives the log and has no vote; returns when it has the log. May be
    /// repeated.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; [`NotLeader`](ClientError::NotLeader) from all nodes but one.
    pub async fn add_learner(&self, member: &Member) -> Result<Membership, ClientError> {
        self.post("/admin/add-learner", member).await
    }

    /// Makes `voters` the voters; returns when that is committed.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; [`NotLeader`](ClientError::NotLeader) from all nodes but one.
    pub async fn change_membership(&self, voters: BTreeSet<NodeId>) -> Result<Membership, ClientError> {
        let request = ChangeMembershipRequest { voters };
        self.post("/admin/change-membership", &request).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.http.get(&self.target, path, self.timeout).await.map_err(|error| self.explain(error))
    }

    async fn post<B, T>(&self, path: &str, body: &B) -> Result<T, ClientError>
    where
        B: Serialize,
        T: DeserializeOwned,
    {
        self.http.post(&self.target, path, body, self.timeout).await.map_err(|error| self.explain(error))
    }

    fn explain(&self, error: CallError) -> ClientError {
        let node = match self.id() {
            Some(id) => format!("node {id} ({})", self.addr()),
            None => format!("the node at {}", self.addr()),
        };
        match error {
            CallError::Unreachable(source) => ClientError::Unreachable { node, source },
            CallError::TimedOut(after) => ClientError::TimedOut { node, after },
            CallError::Broken(source) => ClientError::Broken { node, source },
            CallError::BadAnswer(reason) => ClientError::BadAnswer { node, reason },
            CallError::Refused(_, body)
                if matches!(body.error, ErrorCode::NotLeader | ErrorCode::NoLeader) =>
            {
                let leader = body.leader;
                ClientError::NotLeader { node, leader }
            }
            CallError::Refused(status, body) => ClientError::Refused {
                node,
                status: status.as_u16(),
                error: body.error,
                message: body.message,
            },
        }
    }
}
