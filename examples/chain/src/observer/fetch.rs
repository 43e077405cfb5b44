//! Questions that follow from what the nodes said: tasks of their own, each bounded in time.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinSet};
use tokio::time::timeout;

use super::Start;
use crate::adapter::{ChainClient, ChainError, ChainIdentity};
use crate::{Block, Graph, Hash, Header, Height};

/// What a node is asked.
#[derive(Clone, Debug)]
pub(super) enum Question {
    Identity,
    /// The last final block of a node that has this head.
    Final(Hash),
    /// The first header of the graph.
    Root {
        start: Start,
        genesis: Hash,
        head: Height,
    },
    /// This header and its ancestors, until one is linked to the graph; of a node that has this head.
    Down {
        from: Hash,
        height: Height,
        head: Hash,
    },
    /// The headers of the node's branch between these heights; of a node that has this head.
    Up {
        from: Height,
        to: Height,
        head: Hash,
    },
    Block(Header),
}

/// What a question is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    Identity,
    Final,
    Root,
    Headers,
    Block,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Found<T> {
    Identity(Result<ChainIdentity, ChainError>),
    Final(Hash, Result<Option<Header>, ChainError>),
    Root(Result<Option<Header>, ChainError>),
    /// Lowest first; with an error, what came before it. If they were to close one, the gap.
    Headers {
        headers: Vec<Header>,
        gap: Option<Hash>,
        error: Option<ChainError>,
    },
    /// The branch of the node, which has this head, leaves ours below the root.
    Off {
        head: Hash,
    },
    Block(Header, Result<Option<Block<T>>, ChainError>),
}

impl<T> Found<T> {
    fn none() -> Self {
        Self::Headers { headers: Vec::new(), gap: None, error: None }
    }
}

/// All questions in flight; dropping it aborts them.
#[derive(Debug)]
pub(super) struct Fetches<T> {
    tasks: JoinSet<Found<T>>,
    flights: HashMap<Id, Flight>,
}

#[derive(Debug)]
struct Flight {
    node: Arc<str>,
    question: Question,
    cycle: u64,
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
        self.flights.insert(id, Flight { node: Arc::clone(node), question, cycle });
    }

    /// Whether something begun in this cycle is still in flight.
    pub(super) fn any_of(&self, cycle: u64) -> bool {
        self.flights.values().any(|flight| flight.cycle == cycle)
    }

    /// Whether the node is asked for something of this kind.
    pub(super) fn asks(&self, node: &str, is_meant: impl Fn(Purpose) -> bool) -> bool {
        self.flights.values().any(|flight| *flight.node == *node && is_meant(flight.question.purpose()))
    }

    /// Whether the node is busy with a question of which it has one at a time, beside those for its last final
    /// block and for blocks.
    pub(super) fn is_busy(&self, node: &str) -> bool {
        self.asks(node, |purpose| !matches!(purpose, Purpose::Final | Purpose::Block))
    }

    /// By node, how many blocks it is asked for.
    pub(super) fn blocks_by_node(&self) -> HashMap<Arc<str>, usize> {
        let mut counts = HashMap::new();
        for flight in self.flights.values().filter(|flight| flight.question.purpose() == Purpose::Block) {
            *counts.entry(Arc::clone(&flight.node)).or_default() += 1;
        }
        counts
    }

    /// The blocks, and the headers with all their ancestors, that somebody is asked for.
    pub(super) fn asked_for(&self) -> HashSet<Hash> {
        let hash = |flight: &Flight| match &flight.question {
            Question::Block(header) => Some(header.hash),
            Question::Down { from, .. } => Some(*from),
            _ => None,
        };
        self.flights.values().filter_map(hash).collect()
    }

    pub(super) fn goes_up(&self) -> bool {
        self.flights.values().any(|flight| matches!(flight.question, Question::Up { .. }))
    }

    /// The next one that has ended, if one has.
    pub(super) fn try_next(&mut self) -> Option<(Arc<str>, Found<T>)> {
        let ended = self.tasks.try_join_next_with_id()?;
        self.ended(ended)
    }

    /// The next one to end; `None` when nothing is in flight. Nothing is lost when this is dropped.
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
                    Question::Down { .. } | Question::Up { .. } => {
                        Found::Headers { headers: Vec::new(), gap: None, error: Some(error) }
                    }
                    Question::Block(header) => Found::Block(header, Err(error)),
                };
                Some((node, found))
            }
        }
    }
}

impl Question {
    /// What it is for: a node is asked at most once in a cycle for each, but for blocks.
    pub(super) fn purpose(&self) -> Purpose {
        match self {
            Self::Identity => Purpose::Identity,
            Self::Final(_) => Purpose::Final,
            Self::Root { .. } => Purpose::Root,
            Self::Down { .. } | Self::Up { .. } => Purpose::Headers,
            Self::Block(_) => Purpose::Block,
        }
    }

    fn method(&self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Final(_) => "finalised",
            Self::Root { .. } | Self::Down { .. } => "header",
            Self::Up { .. } => "header_at",
            Self::Block(_) => "block",
        }
    }
}

/// One node, asked with a limit.
#[derive(Clone, Debug)]
pub(super) struct Asked<C> {
    pub(super) client: C,
    pub(super) name: Arc<str>,
    pub(super) limit: Duration,
    /// How many headers one question may bring.
    pub(super) budget: usize,
}

impl<C: ChainClient> Asked<C> {
    pub(super) async fn answer(self, question: Question, graph: Option<Graph>) -> Found<C::Transaction> {
        match question {
            Question::Identity => Found::Identity(self.within(self.client.identity()).await),
            Question::Final(head) => Found::Final(head, self.within(self.client.finalised()).await),
            Question::Root { start, genesis, head } => Found::Root(self.root(start, genesis, head).await),
            Question::Block(header) => {
                let block = self.within(self.client.block(header.hash)).await;
                let told = block.and_then(|block| match block {
                    Some(block) if block.header != header => {
                        Err(self.untrue("block", format!("{:?} is not what its header said", header.hash)))
                    }
                    block => Ok(block),
                });
                Found::Block(header, told)
            }
            Question::Down { from, height, head } => {
                let Some(graph) = graph else { return Found::none() };
                let mut headers = Vec::new();
                let error = self.down(&graph, from, height, &mut headers).await.err();
                // Before it is kept, and walked on and on: does it lead to the root at all?
                let is_linked = headers.last().is_some_and(|lowest| graph.contains(&lowest.parent));
                if error.is_none() && !is_linked && self.is_off(&graph).await {
                    return Found::Off { head };
                }
                headers.reverse();
                Found::Headers { headers, gap: Some(from), error }
            }
            Question::Up { from, to, head } => {
                let Some(graph) = graph else { return Found::none() };
                let mut headers = Vec::new();
                let error = self.up(from, to, &mut headers).await.err();
                let first = headers.first().copied().filter(|first| !graph.contains(&first.parent));
                let Some(first) = first else { return Found::Headers { headers, gap: None, error } };
                if self.is_off(&graph).await {
                    return Found::Off { head };
                }
                // The node has left the branch that we were on: find out where.
                let mut below = Vec::new();
                let lost = self.down(&graph, first.parent, from - 1, &mut below).await.err();
                below.reverse();
                below.append(&mut headers);
                Found::Headers { headers: below, gap: None, error: error.or(lost) }
            }
        }
    }

    async fn root(&self, start: Start, genesis: Hash, head: Height) -> Result<Option<Header>, ChainError> {
        match start {
            Start::Genesis => self.within(self.client.header(genesis)).await,
            Start::Height(height) => self.at(height).await,
            Start::Recent(depth) => self.at(head.saturating_sub(depth)).await,
            Start::Known(_) => Ok(None),
        }
    }

    async fn at(&self, height: Height) -> Result<Option<Header>, ChainError> {
        let header = self.within(self.client.header_at(height)).await?;
        match header {
            Some(header) if header.height != height => {
                Err(self.untrue("header_at", format!("asked for {height}, told {}", header.height)))
            }
            header => Ok(header),
        }
    }

    /// Highest first, until one is linked, or is so low that none will be.
    async fn down(
        &self,
        graph: &Graph,
        from: Hash,
        height: Height,
        headers: &mut Vec<Header>,
    ) -> Result<(), ChainError> {
        let (mut next, mut height) = (from, height);
        while headers.len() < self.budget && height > graph.root().height {
            let header = self.within(self.client.header(next)).await?;
            let Some(header) = header else {
                return Err(self.untrue("header", format!("it has a child of {next:?}, and not the block")));
            };
            if header.hash != next || header.height != height {
                return Err(self.untrue(
                    "header",
                    format!("asked for {next:?} at {height}, told {:?} at {}", header.hash, header.height),
                ));
            }
            headers.push(header);
            if graph.contains(&header.parent) {
                return Ok(());
            }
            (next, height) = (header.parent, height - 1);
        }
        Ok(())
    }

    /// Whether the node's own branch has another block in the root's place.
    async fn is_off(&self, graph: &Graph) -> bool {
        let root = graph.root();
        self.at(root.height).await.is_ok_and(|there| there.is_some_and(|there| there.hash != root.hash))
    }

    /// Lowest first, several at once.
    async fn up(&self, from: Height, to: Height, headers: &mut Vec<Header>) -> Result<(), ChainError>
    where
        C: ChainClient,
    {
        const AT_ONCE: u64 = 8;
        let mut next = from;
        while next <= to {
            let last = to.min(next.saturating_add(AT_ONCE - 1));
            let mut answers = JoinSet::new();
            for height in next..=last {
                let asked = self.clone();
                answers.spawn(async move { asked.at(height).await });
            }
            let mut found = Vec::new();
            while let Some(answer) = answers.join_next().await {
                let answer = answer.map_err(|error| self.untrue("header_at", error.to_string()))?;
                found.extend(answer?);
            }
            found.sort_by_key(|header| header.height);
            let complete = found.len() as u64 == last - next + 1;
            headers.append(&mut found);
            if !complete {
                return Ok(());
            }
            next = last + 1;
        }
        Ok(())
    }

    async fn within<V>(&self, answer: impl Future<Output = Result<V, ChainError>>) -> Result<V, ChainError> {
        let after = self.limit;
        let late = |_| ChainError::TimedOut { endpoint: self.name.to_string(), after };
        timeout(after, answer).await.map_err(late)?
    }

    fn untrue(&self, method: &'static str, reason: String) -> ChainError {
        ChainError::Untrue { endpoint: self.name.to_string(), method, reason }
    }
}
