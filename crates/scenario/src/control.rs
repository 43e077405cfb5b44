//! Actions on nodes.

use std::fmt;
use std::time::Duration;

use watchkeeper::{DynError, async_trait};

use crate::text::{bounded, listed, name, quoted};
use watchkeeper::report::debug_as_text;

/// An action on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NodeAction {
    /// Start a node that is down, with the data it had.
    Start,
    /// Ask it to end, and wait until it has ended. A node that does not end in time is killed.
    Stop,
    /// Stop, then start.
    Restart,
    /// End it without a clean shutdown.
    Kill,
    /// Freeze it: it keeps its connections and answers nothing.
    Pause,
    /// Continue it after a pause.
    Resume,
    /// Cut it off from the other nodes: messages are lost, connections are not refused.
    Isolate,
    /// Heal the cut.
    Rejoin,
}

/// Acts on the nodes of a running cluster, by name.
///
/// Methods that a deployer does not override return [`NodeControlError::Unsupported`]. An action returns when it is
/// done; `start` and `restart` do not wait until the node is ready, [`wait_ready`](Self::wait_ready) does.
///
/// # What each action returns
///
/// All deployers that have the action return the same, so that a test does not depend on its deployer. An action that
/// has nothing to change is no failure:
///
/// | action | on a node that runs | that is paused | that is down |
/// |---|---|---|---|
/// | `start` | `Ok`, nothing happens | [`Failed`]: resume or kill it first | `Ok`, it starts with its data |
/// | `stop` | `Ok`, it is down | [`Failed`], and it is not stopped later | `Ok`, nothing happens |
/// | `restart` | `Ok`, it starts with its data | [`Failed`], as for `stop` | `Ok`, it starts with its data |
/// | `kill` | `Ok`, it is down | `Ok`, it is down | [`Failed`]: there is nothing to kill |
/// | `pause` | `Ok`, it is paused | `Ok`, nothing happens | [`Failed`]: start it first |
/// | `resume` | `Ok`, nothing happens | `Ok`, it runs | [`Failed`]: start it first |
/// | `isolate` | `Ok`, it is cut off, also if it was | not specified | [`Failed`]: start it first |
/// | `rejoin` | `Ok`, the cut is healed, if there was one | not specified | `Ok` if it was cut off, else [`Failed`] |
///
/// - A node that does not end when `stop` or `restart` asks it to is killed after a time that the deployer sets (5 s for
///   the deployers of this workspace): `stop` returns when it is down. Its data is then as after `kill`.
/// - A node that is cut off stays cut off, also after a restart, until it rejoins.
/// - An unknown name is [`NodeControlError::UnknownNode`].
/// - After the cluster was shut down each action is [`Failed`], and `wait_ready` returns
///   [`NotReady`](NodeControlError::NotReady) at once.
///
/// Where something else recreates the nodes, as Kubernetes does, no node stays down: `kill` returns when the process
/// has ended, and `start` waits until there is another one.
///
/// # Cancel safety
///
/// An action whose future is dropped may or may not be done. An action that has begun to end a node is completed
/// nevertheless, within the time that a stop may take.
///
/// [`Failed`]: NodeControlError::Failed
#[async_trait]
pub trait NodeControl: Send + Sync + 'static {
    /// The deployer's name, for errors.
    fn deployer(&self) -> &str;

    /// The names of all nodes, running or not.
    fn nodes(&self) -> Vec<String>;

    /// Waits until `node` serves.
    ///
    /// # Errors
    ///
    /// [`NodeControlError`]: there is no such node; it did not serve `within` this time; or the cluster was shut down,
    /// which is reported at once.
    async fn wait_ready(&self, node: &str, within: Duration) -> Result<(), NodeControlError>;

    /// See [`NodeAction::Start`].
    ///
    /// # Errors
    ///
    /// [`NodeControlError`].
    async fn start(&self, node: &str) -> Result<(), NodeControlError> {
        Err(self.unsupported(NodeAction::Start, node))
    }

    /// See [`NodeAction::Stop`].
    ///
    /// # Errors
    ///
    /// [`NodeControlError`].
    async fn stop(&self, node: &str) -> Result<(), NodeControlError> {
        Err(self.unsupported(NodeAction::Stop, node))
    }

    /// See [`NodeAction::Restart`].
    ///
    /// # Errors
    ///
    /// [`NodeControlError`].
    async fn restart(&self, node: &str) -> Result<(), NodeControlError> {
        self.stop(node).await?;
        self.start(node).await
    }

    /// See [`NodeAction::Kill`].
    ///
    /// # Errors
    ///
    /// [`NodeControlError`].
    async fn kill(&self, node: &str) -> Result<(), NodeControlError> {
        Err(self.unsupported(NodeAction::Kill, node))
    }

    /// See [`NodeAction::Pause`].
    ///
    /// # Errors
    ///
    /// [`NodeControlError`].
    async fn pause(&self, node: &str) -> Result<(), NodeControlError> {
        Err(self.unsupported(NodeAction::Pause, node))
    }

    /// See [`NodeAction::Resume`].
    ///
    /// # Errors
    ///
    /// [`NodeControlError`].
    async fn resume(&self, node: &str) -> Result<(), NodeControlError> {
        Err(self.unsupported(NodeAction::Resume, node))
    }

    /// See [`NodeAction::Isolate`].
    ///
    /// # Errors
    ///
    /// [`NodeControlError`].
    async fn isolate(&self, node: &str) -> Result<(), NodeControlError> {
        Err(self.unsupported(NodeAction::Isolate, node))
    }

    /// See [`NodeAction::Rejoin`].
    ///
    /// # Errors
    ///
    /// [`NodeControlError`].
    async fn rejoin(&self, node: &str) -> Result<(), NodeControlError> {
        Err(self.unsupported(NodeAction::Rejoin, node))
    }

    /// The error for an action that this deployer does not have.
    fn unsupported(&self, action: NodeAction, node: &str) -> NodeControlError {
        NodeControlError::Unsupported { deployer: self.deployer().to_owned(), action, node: node.to_owned() }
    }

    /// The error for an unknown name.
    fn unknown(&self, node: &str) -> NodeControlError {
        NodeControlError::UnknownNode { node: node.to_owned(), known: self.nodes() }
    }
}

/// Why an action on a node was not done.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum NodeControlError {
    /// This deployer has no such action.
    #[error(
        "the {} deployer cannot {action} {}: use a deployer that can, such as compose",
        name(deployer),
        name(node)
    )]
    Unsupported {
        /// Which deployer.
        deployer: String,
        /// Which action.
        action: NodeAction,
        /// On which node.
        node: String,
    },
    /// No node has this name.
    #[error("no node is called {}; the nodes are: {}", quoted(node), listed(known))]
    UnknownNode {
        /// The name.
        node: String,
        /// The names of the nodes.
        known: Vec<String>,
    },
    /// The action failed.
    #[error("could not {action} {}", name(node))]
    Failed {
        /// Which action.
        action: NodeAction,
        /// On which node.
        node: String,
        /// Why.
        source: DynError,
    },
    /// The node does not serve.
    #[error("{} was not ready within {within:?}: {}", name(node), bounded(last))]
    NotReady {
        /// Which node.
        node: String,
        /// How long the wait lasted.
        within: Duration,
        /// Its last answer, or why there was none.
        last: String,
    },
}

debug_as_text!(NodeControlError);

impl fmt::Display for NodeAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Isolate => "isolate",
            Self::Rejoin => "rejoin",
        })
    }
}
