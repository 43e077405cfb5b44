//! One member of the cluster: configuration, store, Raft, HTTP API.

mod config;
mod network;
pub mod raft;
mod server;
pub mod store;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use openraft::error::Fatal;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tracing::{info, warn};

use self::network::NetworkFactory;
use self::raft::Raft;
use self::store::{Identity, OpenError};
use crate::api::NodeId;
use crate::http::Http;

pub use config::{ConfigError, NodeConfig, NodeFlags};

/// How long running requests may take to end once the node is to stop.
const GRACE: Duration = Duration::from_secs(2);

/// Why a node cannot start, or had to stop.
#[derive(thiserror::Error)]
pub enum NodeError {
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: choose another --listen, port 0 for any free one")]
    Listen {
        /// The address.
        addr: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The node has no address for others.
    #[error("{addr} is not an address that others can connect to: give --public-addr")]
    NoPublicAddr {
        /// The address listened on.
        addr: String,
    },
    /// The data directory cannot be used.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// Raft cannot start from the stored data, or has stopped.
    #[error("Raft has stopped: the store may be damaged or the disk full")]
    Raft(#[source] Box<Fatal<NodeId>>),
}

crate::errors::debug_is_the_text!(NodeError);

/// A node that has its port and its data, and is ready to serve.
///
/// Connections are accepted from [`start`](Self::start) on, and answered from
/// [`serve_until`](Self::serve_until) on.
pub struct Node {
    id: NodeId,
    public_addr: String,
    listener: TcpListener,
    router: Router,
    raft: Raft,
}

impl Node {
    /// Binds the port, opens the store and starts Raft.
    ///
    /// # Errors
    ///
    /// [`NodeError`]; then nothing is left, neither on disk nor running.
    pub async fn start(config: NodeConfig) -> Result<Self, NodeError> {
        config.check()?;
        let (listener, public_addr) = listen(&config).await?;
        let identity = Identity { cluster: config.cluster.clone(), node_id: config.id };
        let (log, data) = store::open(&config.data_dir, &identity)?;
        let network = NetworkFactory {
            http: Http::new(),
            cluster: config.cluster.as_str().into(),
            me: config.id,
            // No longer than the shortest election timeout, so that a node that is back hears from its leader in time.
            backoff: config.election_min,
        };
        let raft_config = Arc::new(config.raft());
        let raft = Raft::new(config.id, raft_config, network, log, data.clone())
            .await
            .map_err(|fatal| NodeError::Raft(Box::new(fatal)))?;
        let router = server::router(Arc::new(server::App {
            identity,
            public_addr: public_addr.clone(),
            raft: raft.clone(),
            data,
            request_timeout: config.request_timeout,
        }));
        Ok(Self { id: config.id, public_addr, listener, router, raft })
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Where others reach it.
    #[must_use]
    pub fn public_addr(&self) -> &str {
        &self.public_addr
    }

    /// Serves until `stop` is ready, then ends the running requests and stops Raft.
    ///
    /// # Errors
    ///
    /// [`NodeError::Raft`] when Raft stopped by itself, because of a failing disk or a defect.
    pub async fn serve_until(self, stop: impl Future<Output = ()>) -> Result<(), NodeError> {
        let (stopping, stopped) = oneshot::channel::<()>();
        let server = axum::serve(self.listener, self.router).with_graceful_shutdown(async {
            let _ = stopped.await;
        });
        let server = tokio::spawn(server.into_future());
        let follower = tokio::spawn(log_changes(self.raft.clone()));
        info!(id = self.id, addr = self.public_addr, "serving");
        let outcome = tokio::select! {
            () = stop => Ok(()),
            fatal = death(&self.raft) => Err(NodeError::Raft(Box::new(fatal))),
        };
        info!(id = self.id, "stopping");
        drop(stopping);
        if self.raft.shutdown().await.is_err() {
            warn!("Raft did not stop by itself");
        }
        follower.abort();
        if tokio::time::timeout(GRACE, server).await.is_err() {
            warn!("requests were cut off after {GRACE:?}");
        }
        outcome
    }
}

async fn listen(config: &NodeConfig) -> Result<(TcpListener, String), NodeError> {
    let failed = |source| NodeError::Listen { addr: config.listen.clone(), source };
    let listener = TcpListener::bind(&config.listen).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    match &config.public_addr {
        Some(addr) => Ok((listener, addr.clone())),
        None if bound.ip().is_unspecified() => Err(NodeError::NoPublicAddr { addr: bound.to_string() }),
        None => Ok((listener, bound.to_string())),
    }
}

/// Waits until Raft stops, and returns the reason.
async fn death(raft: &Raft) -> Fatal<NodeId> {
    let mut metrics = raft.metrics();
    match metrics.wait_for(|m| m.running_state.is_err()).await {
        Ok(metrics) => match &metrics.running_state {
            Err(fatal) => fatal.clone(),
            Ok(()) => Fatal::Stopped,
        },
        // The sender was dropped without a reason.
        Err(_) => Fatal::Panicked,
    }
}

/// Logs each change of role, term and leader.
async fn log_changes(raft: Raft) {
    let mut metrics = raft.server_metrics();
    let mut last = None;
    loop {
        let now = {
            let m = metrics.borrow_and_update();
            (m.state, m.vote.leader_id.term, m.current_leader)
        };
        if last != Some(now) {
            let (role, term, leader) = now;
            info!(?role, term, leader, "Raft");
            last = Some(now);
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}
