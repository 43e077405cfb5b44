//! What can go wrong with a local cluster.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::api::NodeId;
use crate::client::ClientError;

/// Why a local cluster cannot do what was asked. Each text says which node and what to do.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// An option has an invalid value.
    #[error("{option}: {reason}")]
    Impossible {
        /// The option.
        option: &'static str,
        /// Why, and which values are valid.
        reason: &'static str,
    },
    /// The directory for data and logs cannot be made.
    #[error("cannot make {} for the cluster: it must not exist, and its parent must", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The program cannot be started.
    #[error("cannot start node {id} from {}: check that it is the openraft_kv program", program.display())]
    Spawn {
        /// Which node.
        id: NodeId,
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The node ended before it was ready.
    #[error("node {id} died at its start ({status}); the end of its log {}:\n{tail}", log.display())]
    DiedAtStart {
        /// Which node.
        id: NodeId,
        /// How it ended.
        status: String,
        /// Its log, removed with the cluster's directory unless that is kept.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// The node runs but was not ready in time.
    #[error("node {id} was not ready within {after:?}; the end of its log {}:\n{tail}", log.display())]
    NotReady {
        /// Which node.
        id: NodeId,
        /// How long the cluster waited.
        after: Duration,
        /// Its log, removed with the cluster's directory unless that is kept.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// The program's first line is not what a node prints.
    #[error("node {id} printed {line:?} and not where it listens: check that the program is openraft_kv")]
    NotANode {
        /// Which node.
        id: NodeId,
        /// What it printed.
        line: String,
    },
    /// The nodes run but do not become a cluster.
    #[error("the cluster did not form within {after:?}: see the logs of its nodes")]
    NotFormed {
        /// How long the cluster tried.
        after: Duration,
        /// The last answer of the asked node.
        #[source]
        source: ClientError,
    },
    /// There is no such node.
    #[error("there is no node {id}: the cluster has {known:?}")]
    UnknownNode {
        /// The number asked for.
        id: NodeId,
        /// The numbers there are.
        known: Vec<NodeId>,
    },
    /// The node does not run.
    #[error("node {id} does not run: restart it first")]
    NotRunning {
        /// Which node.
        id: NodeId,
    },
    /// The node runs, paused or not.
    #[error("node {id} runs: kill or terminate it first, or resume it if it is paused")]
    StillRunning {
        /// Which node.
        id: NodeId,
    },
    /// The node did not stop. A paused one is not asked to: it would stop when it is resumed. Any other is killed when
    /// it does not stop in time; then the kernel holds it.
    #[error("node {id} did not stop{}", if *paused {
        " and was not asked to, since it is paused: resume it first, or kill it".to_owned()
    } else {
        format!(" within {after:?}, although it was killed: see in /proc what it waits for")
    })]
    DidNotStop {
        /// Which node.
        id: NodeId,
        /// How long the cluster waited; nothing if it is paused.
        after: Duration,
        /// Whether it is paused.
        paused: bool,
    },
    /// The cluster was shut down, before or during the action.
    #[error("the cluster was shut down: deploy another one")]
    ShutDown,
    /// The kernel refused a signal.
    #[error("cannot signal node {id}: see in its log whether it has ended")]
    Signal {
        /// Which node.
        id: NodeId,
        /// Why.
        #[source]
        source: io::Error,
    },
}

crate::errors::debug_is_the_text!(ClusterError);
