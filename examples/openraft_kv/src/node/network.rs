//! Raft's messages to the other members, over HTTP.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{
    Infallible, InstallSnapshotError, RPCError, RaftError, RemoteError, SnapshotMismatch, Timeout,
};
use openraft::network::{Backoff, RPCOption, RPCTypes};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use openraft::{AnyError, BasicNode, RaftNetwork, RaftNetworkFactory};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::raft::TypeConfig;
use crate::api::{ErrorCode, NodeId};
use crate::http::{CallError, Http, Target};

/// After so many consecutive time-outs a peer counts as unreachable.
const PATIENCE: u32 = 3;

/// Makes the connections of one node; all share one client.
#[derive(Clone, Debug)]
pub(super) struct NetworkFactory {
    pub(super) http: Http,
    pub(super) cluster: Arc<str>,
    pub(super) me: NodeId,
    /// How long an unreachable peer is left alone.
    pub(super) backoff: Duration,
}

/// The connection to one member.
#[derive(Debug)]
pub(super) struct Peer {
    network: NetworkFactory,
    id: NodeId,
    target: Target,
    consecutive_timeouts: u32,
}

impl RaftNetworkFactory<TypeConfig> for NetworkFactory {
    type Network = Peer;

    async fn new_client(&mut self, target: NodeId, node: &BasicNode) -> Peer {
        Peer {
            network: self.clone(),
            id: target,
            target: Target {
                addr: node.addr.as_str().into(),
                identity: Some((self.cluster.clone(), target)),
            },
            consecutive_timeouts: 0,
        }
    }
}

type Failure<E> = RPCError<NodeId, BasicNode, RaftError<NodeId, E>>;

impl Peer {
    async fn call<B, T>(&mut self, path: &str, body: &B, option: &RPCOption) -> Result<T, CallError>
    where
        B: Serialize,
        T: DeserializeOwned,
    {
        // At the hard limit openraft drops this future, and the time-out would go uncounted.
        let limit = option.soft_ttl();
        let answer = self.network.http.post(&self.target, path, body, limit).await;
        self.consecutive_timeouts = match &answer {
            Err(CallError::TimedOut(_)) => self.consecutive_timeouts + 1,
            _ => 0,
        };
        answer
    }

    /// Unreachable makes openraft wait before it tries again; a network error and a time-out do
    /// not. A paused process accepts connections and never answers: after a few time-outs it counts
    /// as unreachable.
    fn failure<E: Error>(&self, action: RPCTypes, error: CallError) -> Failure<E> {
        match error {
            CallError::TimedOut(timeout) if self.consecutive_timeouts < PATIENCE => {
                RPCError::Timeout(Timeout { action, id: self.network.me, target: self.id, timeout })
            }
            CallError::TimedOut(timeout) => unreachable(AnyError::error(format!(
                "no answer to {PATIENCE} consecutive calls, each within {timeout:?}"
            ))),
            CallError::Unreachable(source) => unreachable(AnyError::from_dyn(&*source, None)),
            CallError::Refused(status, body) => {
                unreachable(AnyError::error(format!("{status}: {}", body.message)))
            }
            CallError::Broken(source) => network(AnyError::from_dyn(&*source, None)),
            CallError::BadAnswer(reason) => network(AnyError::error(reason)),
        }
    }
}

fn unreachable<E: Error>(reason: AnyError) -> Failure<E> {
    RPCError::Unreachable(reason.into())
}

fn network<E: Error>(reason: AnyError) -> Failure<E> {
    RPCError::Network(reason.into())
}

impl RaftNetwork<TypeConfig> for Peer {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, Failure<Infallible>> {
        let answer = self.call("/raft/append", &rpc, &option).await;
        answer.map_err(|error| self.failure(RPCTypes::AppendEntries, error))
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<NodeId>, Failure<InstallSnapshotError>> {
        match self.call("/raft/snapshot", &rpc, &option).await {
            Err(CallError::Refused(_, body)) if body.error == ErrorCode::SnapshotMismatch => {
                // openraft sends the snapshot again from its start, whatever the segments are.
                let mismatch = InstallSnapshotError::SnapshotMismatch(SnapshotMismatch {
                    expect: (&rpc.meta.snapshot_id, 0).into(),
                    got: (&rpc.meta.snapshot_id, rpc.offset).into(),
                });
                let remote = RemoteError::new(self.id, RaftError::APIError(mismatch));
                Err(RPCError::RemoteError(remote))
            }
            answer => answer.map_err(|error| self.failure(RPCTypes::InstallSnapshot, error)),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<NodeId>,
        option: RPCOption,
    ) -> Result<VoteResponse<NodeId>, Failure<Infallible>> {
        let answer = self.call("/raft/vote", &rpc, &option).await;
        answer.map_err(|error| self.failure(RPCTypes::Vote, error))
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(self.network.backoff))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use openraft::Vote;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Asks for a vote there `times` times; the last error decides what openraft does next.
    async fn vote_at(addr: &str, times: u32) -> RPCError<NodeId, BasicNode, RaftError<NodeId>> {
        let mut network = NetworkFactory {
            http: Http::new(),
            cluster: "test".into(),
            me: 1,
            backoff: Duration::from_millis(100),
        };
        let mut peer = network.new_client(2, &BasicNode::new(addr)).await;
        let mut last = None;
        for _ in 0..times {
            let request = VoteRequest::new(Vote::new(1, 1), None);
            let option = RPCOption::new(Duration::from_millis(100));
            last = peer.vote(request, option).await.err();
        }
        last.expect("no server there can vote")
    }

    /// A server that does the same with every connection, and counts them.
    async fn serve(answer: Option<&'static str>) -> (String, Arc<AtomicU32>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let count = Arc::new(AtomicU32::new(0));
        let counter = count.clone();
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::Relaxed);
                if let Some(answer) = answer {
                    assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
                    stream.write_all(answer.as_bytes()).await.unwrap();
                } else {
                    open.push(stream);
                }
            }
        });
        (addr, count)
    }

    #[tokio::test]
    async fn a_closed_port_is_unreachable_at_once() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let error = vote_at(&closed.to_string(), 1).await;
        assert!(matches!(error, RPCError::Unreachable(_)), "{error:?}");
    }

    #[tokio::test]
    async fn a_silent_peer_times_out_at_first_and_is_then_unreachable() {
        let (addr, connections) = serve(None).await;
        let error = vote_at(&addr, PATIENCE - 1).await;
        assert!(matches!(error, RPCError::Timeout(_)), "{error:?}");
        let error = vote_at(&addr, PATIENCE).await;
        assert!(matches!(error, RPCError::Unreachable(_)), "{error:?}");
        assert_eq!(connections.load(Ordering::Relaxed), 2 * PATIENCE - 1);
    }

    #[tokio::test]
    async fn a_connection_that_breaks_is_a_network_error() {
        let (addr, _) = serve(Some("")).await;
        let error = vote_at(&addr, 1).await;
        assert!(matches!(error, RPCError::Network(_)), "{error:?}");
    }

    #[tokio::test]
    async fn a_refusal_is_unreachable() {
        let refusal = "HTTP/1.1 421 Misdirected Request\r\ncontent-length: 41\r\n\r\n\
                       {\"error\":\"wrong_node\",\"message\":\"not me\"}";
        let (addr, _) = serve(Some(refusal)).await;
        let error = vote_at(&addr, 1).await;
        assert!(matches!(error, RPCError::Unreachable(_)), "{error:?}");
    }
}
