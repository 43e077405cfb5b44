//! The observer of a Raft cluster: what its nodes report, and what they agree on.

mod json;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;
use watchkeeper::per_source::{PerSourceSnapshot, PerSourceState, SourceView};
use watchkeeper::report::causes;
use watchkeeper::source::SourceHealth;
use watchkeeper::{DynError, ObservationConfig, ObservedSource, Observer, PerSource, async_trait};

use crate::api::{NodeId, NodeState, Role, node_name};
use crate::{ClientError, NodeClient};

/// Watches a Raft cluster through `GET /state` of each node.
///
/// Every node is probed independently, so that one that hangs does not delay the others. What the
/// cluster agrees on is derived only from nodes that are answering: see [`Presence::Present`].
#[derive(Debug)]
pub struct RaftObserver {
    nodes: PerSource<NodeClient, NodeState>,
}

/// The leader that the cluster agrees on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Leader {
    /// The node.
    pub node_id: NodeId,
    /// Its term.
    pub term: u64,
}

/// Whether the last answer of a node counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It has never answered; in a wait, not since the wait's start.
    Unseen,
    /// It is answering: its last answer is fresh, no probe has failed since, and none hangs. See
    /// [`SourceHealth::is_answering`].
    Present,
    /// Its last probe failed, with this message.
    Failing(String),
    /// It does not answer: a probe of it hangs, or its last answer is too old.
    Stale,
}

/// One node as last seen.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// Whether its answer counts.
    pub presence: Presence,
    /// Its last answer, fresh or not.
    pub state: Option<Arc<NodeState>>,
    /// Its client.
    pub client: NodeClient,
    /// When it answered, and its failures.
    pub health: SourceHealth,
}

/// The cluster after one cycle.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    /// Every node of the source set, by its source's name.
    pub nodes: Arc<BTreeMap<Arc<str>, NodeView>>,
    /// The leader that a quorum of the voters agrees on: each of them is present and names it in the
    /// same term, and the leader is present and has that role.
    pub leader: Option<Leader>,
    /// The voters of the longest log among the present nodes; while none is present, the last known ones. In a wait this
    /// is empty until a node has answered since the wait's start.
    pub voters: BTreeSet<NodeId>,
    /// The highest term that a node has ever reported. Terms only grow, so that an old answer counts too.
    pub term: u64,
    /// The highest index that a node has ever applied. It only grows, too.
    pub applied: u64,
}

/// What happened in the cluster.
///
/// # When it counts
///
/// A wait for events with a start counts those that were asked for since ([`asked_at`](Self::asked_at)). Most events
/// follow from the answers of several nodes, which were asked at different times. Such an event has the time of the
/// *oldest* answer that it needs: an answer that was asked before a write cannot show that write. It needs only the
/// newest answers that show it: an agreed leader counts from the latest moment since which a quorum has named it.
///
/// A silent node, or one that left the set, is no answer: its event counts by the cycle that found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ClusterEvent {
    /// Another leader is agreed on, or none.
    LeaderChanged {
        /// The leader before.
        from: Option<Leader>,
        /// The leader now.
        to: Option<Leader>,
        /// See [`asked_at`](Self::asked_at).
        #[serde(skip)]
        asked_at: Option<Instant>,
    },
    /// A higher term was seen.
    TermAdvanced {
        /// The highest term before.
        from: u64,
        /// The highest term now.
        to: u64,
        /// See [`asked_at`](Self::asked_at).
        #[serde(skip)]
        asked_at: Option<Instant>,
    },
    /// A node answered for the first time, ever or since it was replaced.
    NodeSeen {
        /// The source's name.
        node: Arc<str>,
        /// See [`asked_at`](Self::asked_at).
        #[serde(skip)]
        asked_at: Option<Instant>,
    },
    /// A node no longer answers.
    NodeLost {
        /// The source's name.
        node: Arc<str>,
        /// Why it counts as lost.
        reason: String,
        /// See [`asked_at`](Self::asked_at).
        #[serde(skip)]
        asked_at: Option<Instant>,
    },
    /// A lost node answers again.
    NodeBack {
        /// The source's name.
        node: Arc<str>,
        /// See [`asked_at`](Self::asked_at).
        #[serde(skip)]
        asked_at: Option<Instant>,
    },
    /// The voters changed.
    MembershipChanged {
        /// The voters before.
        from: BTreeSet<NodeId>,
        /// The voters now.
        to: BTreeSet<NodeId>,
        /// See [`asked_at`](Self::asked_at).
        #[serde(skip)]
        asked_at: Option<Instant>,
    },
    /// The cluster applied more of its log.
    AppliedAdvanced {
        /// The highest applied index before.
        from: u64,
        /// The highest applied index now.
        to: u64,
        /// See [`asked_at`](Self::asked_at).
        #[serde(skip)]
        asked_at: Option<Instant>,
    },
}

impl ClusterEvent {
    /// When the oldest answer that the event needs was asked for; `None` if it counts by the cycle that found it.
    #[must_use]
    pub fn asked_at(&self) -> Option<Instant> {
        match self {
            Self::LeaderChanged { asked_at, .. }
            | Self::TermAdvanced { asked_at, .. }
            | Self::NodeSeen { asked_at, .. }
            | Self::NodeLost { asked_at, .. }
            | Self::NodeBack { asked_at, .. }
            | Self::MembershipChanged { asked_at, .. }
            | Self::AppliedAdvanced { asked_at, .. } => *asked_at,
        }
    }
}

/// The state of [`RaftObserver`].
#[derive(Debug)]
pub struct RaftState {
    nodes: PerSourceState<NodeState>,
    view: ClusterView,
    /// The view up to which changes were emitted.
    emitted: ClusterView,
}

impl Default for RaftObserver {
    fn default() -> Self {
        Self::new()
    }
}

impl RaftObserver {
    /// A node is lost when a probe fails, when a probe takes longer than half the runtime's interval and longer than
    /// twice the time of its last answer, or when it has not answered for [`stale_after`](Self::stale_after).
    #[must_use]
    pub fn new() -> Self {
        Self::asking(
            |node: ObservedSource<NodeClient>| async move { node.source.state().await.map_err(brief) },
        )
    }

    fn asking<F>(probe: impl Fn(ObservedSource<NodeClient>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<NodeState, DynError>> + Send + 'static,
    {
        Self { nodes: PerSource::new(probe).identity(|node: &NodeClient| node.addr().to_owned()) }
    }

    /// The age at which a node is lost, in addition to the time its last answer took. Default: the larger of 2 s and
    /// three of the runtime's intervals.
    #[must_use]
    pub fn stale_after(self, stale_after: Duration) -> Self {
        Self { nodes: self.nodes.stale_after(stale_after) }
    }

    fn view(
        &self,
        sources: &[ObservedSource<NodeClient>],
        nodes: &PerSourceState<NodeState>,
        before: &ClusterView,
    ) -> ClusterView {
        ClusterView::derive(seen(sources, &self.nodes.snapshot(nodes)), before)
    }
}

#[async_trait]
impl Observer for RaftObserver {
    type Source = NodeClient;
    type State = RaftState;
    type Snapshot = ClusterView;
    type Event = ClusterEvent;

    fn configured(&mut self, config: &ObservationConfig) {
        self.nodes.configured(config);
    }

    async fn init(&self, sources: &[ObservedSource<NodeClient>]) -> Result<RaftState, DynError> {
        let nodes = self.nodes.init(sources).await?;
        let emitted = ClusterView::default();
        let view = self.view(sources, &nodes, &emitted);
        // The first poll emits what was found now.
        Ok(RaftState { nodes, view, emitted })
    }

    async fn poll(
        &self,
        sources: &[ObservedSource<NodeClient>],
        state: &mut RaftState,
    ) -> Result<Vec<ClusterEvent>, DynError> {
        self.nodes.poll(sources, &mut state.nodes).await?;
        // What `init` has found is not emitted yet. It is emitted now, even if it has changed since.
        let mut events = state.view.since(&state.emitted);
        let view = self.view(sources, &state.nodes, &state.view);
        events.extend(view.since(&state.view));
        state.emitted = view.clone();
        state.view = view;
        Ok(events)
    }

    fn snapshot(&self, state: &RaftState) -> ClusterView {
        state.view.clone()
    }

    /// True: what an interrupted poll has collected is in `nodes`, and the next poll emits it.
    fn poll_is_cancel_safe(&self) -> bool {
        true
    }

    fn source_health(view: &ClusterView, name: &str) -> Option<SourceHealth> {
        view.nodes.get(name).map(|node| node.health.clone())
    }

    /// What the nodes agree on by the answers that were asked for since.
    fn asked_since(view: &ClusterView, since: Instant) -> Option<ClusterView> {
        view.asked_since(since)
    }

    fn asked_at(event: &ClusterEvent) -> Option<Instant> {
        event.asked_at()
    }

    /// Views share no nodes: each counts its own.
    fn weight(view: &ClusterView, events: &[ClusterEvent]) -> usize {
        size_of_val(view) + view.nodes.len() * size_of::<(Arc<str>, NodeView)>() + size_of_val(events)
    }
}

impl ClusterView {
    /// What the nodes report together. What only grows, or what no node reports now, is kept from
    /// `before`.
    fn derive(nodes: BTreeMap<Arc<str>, NodeView>, before: &Self) -> Self {
        let mut view = Self { nodes: Arc::new(nodes), ..before.clone() };
        let longest = view.present().max_by_key(|(_, state)| (state.last_log_index, state.current_term));
        if let Some(voters) = longest.map(|(_, state)| state.voters.clone()) {
            view.voters = voters;
        }
        let terms = view.present().map(|(_, state)| state.current_term);
        view.term = terms.max().unwrap_or_default().max(before.term);
        let applied = view.present().filter_map(|(_, state)| state.last_applied_index);
        view.applied = applied.max().unwrap_or_default().max(before.applied);
        view.leader = view.agreed_leader();
        view
    }

    /// This view without the answers that were asked for before `since`; `None` if it has none of those. What only
    /// grows is kept.
    fn asked_since(&self, since: Instant) -> Option<Self> {
        let known = self.known_since(since);
        let is_all = known.voters == self.voters
            && self.nodes.values().all(|node| node.health.asked_since(since).is_none());
        (!is_all).then_some(Self { term: self.term, applied: self.applied, ..known })
    }

    /// The view from only those answers that were asked for at `since` or later.
    fn known_since(&self, since: Instant) -> Self {
        let view = |(name, node): (&Arc<str>, &NodeView)| {
            let asked_since = node.health.asked_since(since);
            (Arc::clone(name), asked_since.map_or_else(|| node.clone(), |health| node.with(health)))
        };
        Self::derive(self.nodes.iter().map(view).collect(), &Self::default())
    }

    /// The latest moment such that the answers asked for since then show it: that of the oldest answer that it needs.
    fn shown_since(&self, shows: impl Fn(&Self) -> bool) -> Option<Instant> {
        let mut asked: Vec<Instant> = self.nodes.values().filter_map(NodeView::asked_at).collect();
        asked.sort_unstable();
        asked.into_iter().rev().find(|since| shows(&self.known_since(*since)))
    }

    /// When the answer was asked for that ended the agreement of `before`: the leader's, if it no longer names itself,
    /// else the first of those that no longer name it.
    fn disagreed_at(&self, before: &Self) -> Option<Instant> {
        let leader = before.leader?;
        let names_it = |view: &Self, name: &Arc<str>| {
            let node = view.nodes.get(name).filter(|node| node.presence == Presence::Present);
            node.and_then(|node| node.state.as_ref()).is_some_and(|state| state.names(leader))
        };
        let lost = || before.nodes.keys().filter(|name| names_it(before, name) && !names_it(self, name));
        let asked_at = |name: &Arc<str>| self.nodes.get(name)?.asked_at();
        let own = before.leader_name().and_then(|own| lost().find(|name| *name == own));
        own.map_or_else(|| lost().filter_map(asked_at).min(), asked_at)
    }

    /// The present nodes, with their last answers.
    pub fn present(&self) -> impl Iterator<Item = (&Arc<str>, &NodeState)> {
        self.nodes.iter().filter_map(|(name, node)| match (&node.presence, &node.state) {
            (Presence::Present, Some(state)) => Some((name, &**state)),
            _ => None,
        })
    }

    fn agreed_leader(&self) -> Option<Leader> {
        let voters =
            || self.present().map(|(_, state)| state).filter(|state| self.voters.contains(&state.node_id));
        let leader =
            voters().filter(|state| state.role == Role::Leader).max_by_key(|state| state.current_term)?;
        let leader = Leader { node_id: leader.node_id, term: leader.current_term };
        let votes = voters().filter(|state| state.names(leader)).count();
        (votes > self.voters.len() / 2).then_some(leader)
    }

    /// The present node with this id.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&NodeState> {
        self.present().map(|(_, state)| state).find(|state| state.node_id == id)
    }

    /// The source name of the agreed leader.
    #[must_use]
    pub fn leader_name(&self) -> Option<&Arc<str>> {
        let leader = self.leader?.node_id;
        self.present().find(|(_, state)| state.node_id == leader).map(|(name, _)| name)
    }

    /// The client of the agreed leader.
    #[must_use]
    pub fn leader_client(&self) -> Option<&NodeClient> {
        let leader = self.leader?.node_id;
        let is_leader = |node: &&NodeView| node.state.as_ref().is_some_and(|state| state.node_id == leader);
        self.nodes.values().find(is_leader).map(|node| &node.client)
    }

    /// Whether every node of the source set is present and `holds` is true of it.
    pub fn all(&self, mut holds: impl FnMut(&NodeState) -> bool) -> bool {
        !self.nodes.is_empty() && self.present().filter(|(_, state)| holds(state)).count() == self.nodes.len()
    }

    /// What changed from `before` to this.
    fn since(&self, before: &Self) -> Vec<ClusterEvent> {
        let mut events = Vec::new();
        for (name, node) in &*self.nodes {
            let was = before.nodes.get(name).map_or(&Presence::Unseen, |node| &node.presence);
            events.extend(node.moved(name, was));
        }
        let gone = |(name, node): &(&Arc<str>, &NodeView)| {
            node.presence == Presence::Present && !self.nodes.contains_key(*name)
        };
        for (name, _) in before.nodes.iter().filter(gone) {
            events.push(ClusterEvent::NodeLost {
                node: Arc::clone(name),
                reason: "left the source set".to_owned(),
                asked_at: None,
            });
        }
        if self.term > before.term {
            let asked_at = self.shown_since(|view| view.term == self.term);
            events.push(ClusterEvent::TermAdvanced { from: before.term, to: self.term, asked_at });
        }
        if self.leader != before.leader {
            let asked_at = match self.leader {
                Some(_) => self.shown_since(|view| view.leader == self.leader),
                None => self.disagreed_at(before),
            };
            events.push(ClusterEvent::LeaderChanged { from: before.leader, to: self.leader, asked_at });
        }
        if self.voters != before.voters {
            events.push(ClusterEvent::MembershipChanged {
                from: before.voters.clone(),
                to: self.voters.clone(),
                asked_at: self.shown_since(|view| view.voters == self.voters),
            });
        }
        if self.applied > before.applied {
            let asked_at = self.shown_since(|view| view.applied == self.applied);
            events.push(ClusterEvent::AppliedAdvanced { from: before.applied, to: self.applied, asked_at });
        }
        events
    }
}

impl NodeState {
    fn names(&self, leader: Leader) -> bool {
        self.current_leader == Some(leader.node_id) && self.current_term == leader.term
    }
}

impl NodeView {
    /// When the probe began that decided its presence; `None` for silence.
    fn asked_at(&self) -> Option<Instant> {
        match &self.presence {
            Presence::Present => self.health.facts.last_success,
            Presence::Failing(_) => self.health.facts.last_failure.as_ref().map(|failure| failure.began()),
            Presence::Unseen | Presence::Stale => None,
        }
    }

    /// The event of the change of its presence.
    fn moved(&self, name: &Arc<str>, was: &Presence) -> Option<ClusterEvent> {
        let (node, asked_at) = (Arc::clone(name), self.asked_at());
        let lost = |reason: &str| {
            let (node, reason) = (Arc::clone(name), reason.to_owned());
            Some(ClusterEvent::NodeLost { node, reason, asked_at })
        };
        match (was, &self.presence) {
            (Presence::Unseen, Presence::Present) => Some(ClusterEvent::NodeSeen { node, asked_at }),
            (Presence::Failing(_) | Presence::Stale, Presence::Present) => {
                Some(ClusterEvent::NodeBack { node, asked_at })
            }
            (Presence::Present, Presence::Failing(reason)) => lost(reason),
            (Presence::Present, Presence::Stale) => lost("does not answer"),
            (Presence::Present, Presence::Unseen) => lost("was replaced"),
            _ => None,
        }
    }

    /// The same node, if only this health counts. It stays stale: silence does not depend on when it was asked.
    fn with(&self, health: SourceHealth) -> Self {
        let state = self.state.clone().filter(|_| health.facts.last_success.is_some());
        let presence = match &self.presence {
            Presence::Present if state.is_none() => Presence::Unseen,
            Presence::Failing(_) if !health.is_failing() => Presence::Unseen,
            presence => presence.clone(),
        };
        Self { presence, state, client: self.client.clone(), health }
    }
}

/// Every node with its presence.
fn seen(
    sources: &[ObservedSource<NodeClient>],
    answers: &PerSourceSnapshot<NodeState>,
) -> BTreeMap<Arc<str>, NodeView> {
    // The answers are in the order of the sources.
    let view = |(node, source): (&ObservedSource<NodeClient>, SourceView<'_, NodeState>)| {
        let failure = source.facts.last_failure.as_ref().filter(|_| source.is_failing());
        let presence = match failure {
            _ if source.value.is_none() => Presence::Unseen,
            Some(failure) => Presence::Failing(failure.message.clone()),
            None if source.is_answering() => Presence::Present,
            None => Presence::Stale,
        };
        let client = node.source.clone();
        let view = NodeView { presence, state: source.value.cloned(), client, health: source.health() };
        (Arc::clone(source.name), view)
    };
    sources.iter().zip(answers.iter()).map(view).collect()
}

/// Why a node did not answer, without what its name already says.
fn brief(error: ClientError) -> DynError {
    match &error {
        ClientError::TimedOut { after, .. } => format!("gives no answer within {after:?}").into(),
        ClientError::Unreachable { source, .. } => {
            let root = causes(&**source).last().map_or_else(|| source.to_string(), ToString::to_string);
            format!("unreachable: {root}").into()
        }
        _ => error.into(),
    }
}

impl fmt::Display for Leader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{} (term {})", self.node_id, self.term)
    }
}

impl fmt::Display for ClusterEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let voters =
            |voters: &BTreeSet<NodeId>| voters.iter().copied().map(node_name).collect::<Vec<_>>().join(" ");
        match self {
            Self::LeaderChanged { to: Some(leader), .. } => write!(f, "leader is {leader}"),
            Self::LeaderChanged { to: None, .. } => f.write_str("no leader is agreed on"),
            Self::TermAdvanced { from, to, .. } => write!(f, "term {from} -> {to}"),
            Self::NodeSeen { node, .. } => write!(f, "{node} is up"),
            Self::NodeLost { node, reason, .. } => write!(f, "{node} is lost: {reason}"),
            Self::NodeBack { node, .. } => write!(f, "{node} is back"),
            Self::MembershipChanged { to, .. } => write!(f, "voters are {}", voters(to)),
            Self::AppliedAdvanced { from, to, .. } => write!(f, "applied {from} -> {to}"),
        }
    }
}

#[cfg(test)]
mod tests;
