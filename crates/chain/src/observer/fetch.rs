//! Questions that follow from the nodes' answers. Each runs in a separate task with a time-out.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use super::question::{Flight, Purpose, Question};
use crate::adapter::{ChainError, ChainIdentity};
use crate::{Block, Detail, Hash, Header};

/// The answer to a question.
#[derive(Debug)]
pub(super) enum Found<T> {
    Identity(Result<ChainIdentity, ChainError>),
    Final(Hash, Result<Option<Header>, ChainError>),
    Root(Result<Option<Header>, ChainError>),
    /// Headers, lowest first, from a node with this head; with an error, those that came before it. `gap` if they were
    /// requested to close one.
    Headers {
        head: Hash,
        headers: Vec<Header>,
        gap: Option<Hash>,
        error: Option<ChainError>,
    },
    /// Headers above the last known one of the node's branch, lowest first: none, if none is new.
    Ahead {
        headers: Vec<Header>,
        error: Option<ChainError>,
    },
    /// The branch of the node, which has this head, forks from the graph below the root.
    Off {
        head: Hash,
        root: Hash,
    },
    /// The header in the place of `block` on the branch of a node with this head; `None` if it has none there.
    OnBranch {
        block: Header,
        head: Hash,
        there: Result<Option<Header>, ChainError>,
    },
    /// The block, of which so much was asked for.
    Block(Header, Detail, Result<Option<Block<T>>, ChainError>),
}

impl<T> Found<T> {
    /// What the question was for.
    pub(super) fn purpose(&self) -> Purpose {
        match self {
            Self::Identity(_) => Purpose::Identity,
            Self::Final(..) => Purpose::Final,
            Self::Root(_) => Purpose::Root,
            Self::Headers { .. } | Self::Off { .. } | Self::OnBranch { .. } => Purpose::Headers,
            Self::Ahead { .. } => Purpose::Ahead,
            Self::Block(..) => Purpose::Block,
        }
    }

    pub(super) fn nothing(head: Hash, error: Option<ChainError>) -> Self {
        Self::Headers { head, headers: Vec::new(), gap: None, error }
    }
}

/// All questions in flight; dropping it aborts them.
#[derive(Debug)]
pub(super) struct Fetches<T> {
    tasks: JoinSet<Found<T>>,
    flights: HashMap<Id, Flight>,
}

impl<T: Send + 'static> Fetches<T> {
    pub(super) fn new() -> Self {
        Self { tasks: JoinSet::new(), flights: HashMap::new() }
    }

    pub(super) fn begin(
        &mut self,
        node: &Arc<str>,
        question: Question,
        cycle: u64,
        work: impl Future<Output = Found<T>> + Send + 'static,
    ) {
        let id = self.tasks.spawn(work).id();
        self.flights.insert(id, Flight { node: Arc::clone(node), question, cycle, since: Instant::now() });
    }

    /// Whether a question of this cycle is still in flight.
    pub(super) fn any_of(&self, cycle: u64) -> bool {
        self.flights.values().any(|flight| flight.cycle == cycle)
    }

    /// Whether a question to the node is in flight.
    pub(super) fn asks(&self, node: &str) -> bool {
        self.flights.values().any(|flight| *flight.node == *node)
    }

    /// The questions in flight.
    pub(super) fn flights(&self) -> impl Iterator<Item = &Flight> {
        self.flights.values()
    }

    /// The next answer, if one has arrived.
    pub(super) fn try_next(&mut self) -> Option<(Arc<str>, Found<T>)> {
        let ended = self.tasks.try_join_next_with_id()?;
        self.ended(ended)
    }

    /// The next answer; `None` when nothing is in flight. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<(Arc<str>, Found<T>)> {
        let ended = self.tasks.join_next_with_id().await?;
        self.ended(ended)
    }

    fn ended(
        &mut self,
        ended: Result<(Id, Found<T>), tokio::task::JoinError>,
    ) -> Option<(Arc<str>, Found<T>)> {
        match ended {
            Ok((id, found)) => self.flights.remove(&id).map(|flight| (flight.node, found)),
            Err(error) => {
                let Flight { node, question, .. } = self.flights.remove(&error.id())?;
                let (method, reason) = (question.method(), error.to_string());
                let error = ChainError::Malformed { endpoint: node.to_string(), method, reason };
                let found = match question {
                    Question::Identity => Found::Identity(Err(error)),
                    Question::Final(head) => Found::Final(head, Err(error)),
                    Question::Root { .. } => Found::Root(Err(error)),
                    Question::Down { head, .. } | Question::Up { head, .. } => {
                        Found::nothing(head, Some(error))
                    }
                    Question::Ahead { .. } => Found::Ahead { headers: Vec::new(), error: Some(error) },
                    Question::OnBranch { block, head } => Found::OnBranch { block, head, there: Err(error) },
                    Question::Block(header, detail) => Found::Block(header, detail, Err(error)),
                };
                Some((node, found))
            }
        }
    }
}
