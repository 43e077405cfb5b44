//! Acting on nodes.

use std::fmt;
use std::time::Duration;

use watchkeeper::{DynError, async_trait};

use crate::text::{debug_is_text, listed, name, quoted, said};

/// What can be done to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NodeAction {
    /// Start a node that is down, with the data it had.
    Start,
    /// Ask it to end, and wait until it has. One that does not end in time is killed.
    Stop,
    /// Stop, then start.
    Restart,
    /// End it with no chance to say goodbye.
    Kill,
    /// Freeze it: it keeps its connections and answers nothing.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Cut it off from the other nodes: what is sent is lost, nothing is refused.
    Isolate,
    /// Heal the cut.
    Rejoin,
}

/// Acts on the nodes of a running cluster, by name.
///
/// What a deployer cannot do answers [`NodeControlError::Unsupported`]: that is what the methods
/// do that are not overridden. An action that is done returns; `start` and `restart` do not wait
/// until the node is ready, [`wait_ready`](Self::wait_ready) does.
///
/// # What each action answers
///
/// The same for every deployer that has the action, so that a test does not depend on which one it runs on. What is
/// as it should be already is no failure:
///
/// | action | on a node that runs | that is paused | that is down |
/// |---|---|---|---|
/// | `start` | `Ok`, nothing happens | [`Failed`]: resume or kill it first | `Ok`, it starts with its data |
/// | `stop` | `Ok`, it is down | [`Failed`], and it is not stopped later either | `Ok`, nothing happens |
/// | `restart` | `Ok`, it starts with its data | [`Failed`], as for `stop` | `Ok`, it starts with its data |
/// | `kill` | `Ok`, it is down | `Ok`, it is down | [`Failed`]: there is nothing to kill |
/// | `pause` | `Ok`, it is paused | `Ok`, nothing happens | [`Failed`]: start it first |
/// | `resume` | `Ok`, nothing happens | `Ok`, it runs | [`Failed`]: start it first |
/// | `isolate` | `Ok`, it is cut off, also if it was | not specified | [`Failed`]: start it first |
/// | `rejoin` | `Ok`, the cut is healed, if there was one | not specified | `Ok` if it was cut off, else [`Failed`] |
///
/// - A node that does not end when `stop` or `restart` asks it to is killed after a time that the deployer sets (5 s for
///   those of this workspace): `stop` returns when it is down. A data store then comes back as after `kill`.
/// - A node that is cut off stays so, also over a restart, until it rejoins.
/// - A name that no node has is [`NodeControlError::UnknownNode`].
/// - Once the cluster was shut down each action is [`Failed`], and `wait_ready` answers
///   [`NotReady`](NodeControlError::NotReady) at once.
///
/// A deployer whose nodes are made again by something else, as in Kubernetes, has no node that stays down: there
/// `kill` returns when that process is gone, and `start` waits until there is another one.
///
/// # Cancel safety
///
/// An action whose future is dropped may be done or not, but for one that ends a node and has begun to: that is carried
/// out all the same, within the time that a stop may take.
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
    /// [`NodeControlError`]: no such node; it did not serve `within` this time; or the cluster was shut down, which is
    /// answered at once.
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

    /// The answer to an action that this deployer does not have.
    fn unsupported(&self, action: NodeAction, node: &str) -> NodeControlError {
        NodeControlError::Unsupported { deployer: self.deployer().to_owned(), action, node: node.to_owned() }
    }

    /// The answer to a name that no node has.
    fn unknown(&self, node: &str) -> NodeControlError {
        NodeControlError::UnknownNode { node: node.to_owned(), known: self.nodes() }
    }
}

/// Why an action on a node was not done.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum NodeControlError {
    /// This deployer has no such action.
    #[error("the {} deployer cannot {action} {}: use a deployer that can", name(deployer), name(node))]
    Unsupported {
        /// Which deployer.
        deployer: String,
        /// What was asked for.
        action: NodeAction,
        /// Of which node.
        node: String,
    },
    /// No node is called so.
    #[error("no node is called {}; the nodes are: {}", quoted(node), listed(known))]
    UnknownNode {
        /// The name.
        node: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// It was tried, and did not work.
    #[error("could not {action} {}", name(node))]
    Failed {
        /// What was tried.
        action: NodeAction,
        /// On which node.
        node: String,
        /// Why it did not work.
        source: DynError,
    },
    /// The node does not serve.
    #[error("{} was not ready within {within:?}: {}", name(node), said(last))]
    NotReady {
        /// Which node.
        node: String,
        /// How long was waited.
        within: Duration,
        /// What it last answered, or why it did not.
        last: String,
    },
}

debug_is_text!(NodeControlError);

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
