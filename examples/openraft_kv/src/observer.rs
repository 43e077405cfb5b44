//! The cluster as an observation: what its nodes say, and what they agree on.

mod json;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;
use watchkeeper::{
    DynError, ObservedSource, Observer, PerSource, PerSourceSnapshot, PerSourceState, SourceHealth,
    SourceView, async_trait,
};

use crate::api::{NodeId, NodeState, Role};
use crate::{ClientError, NodeClient};

/// Watches a Raft cluster through `GET /state` of each node.
///
/// Every node is probed on its own, so that one that hangs costs the others nothing. What the
/// cluster agrees on is derived from fresh answers only.
#[derive(Debug)]
pub struct RaftObserver {
    nodes: PerSource<NodeClient, NodeState>,
}

/// Which leader the cluster agrees on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Leader {
    /// Who it is.
    pub node_id: NodeId,
    /// In which term.
    pub term: u64,
}

/// Whether a node can be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It has never answered; in a wait, not since the wait's start.
    Unseen,
    /// Its last answer is fresh, and no probe has failed since.
    Present,
    /// Its last probe failed, with this message.
    Failing(String),
    /// It does not refuse, and has not answered for too long.
    Stale,
}

/// One node as last seen.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// Whether it can be believed.
    pub presence: Presence,
    /// Its last answer, fresh or not.
    pub state: Option<Arc<NodeState>>,
    /// How to talk to it.
    pub client: NodeClient,
    /// When it answered, and how often it did not.
    pub health: SourceHealth,
}

/// The cluster after one cycle.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    /// Every node of the source set, by its source's name.
    pub nodes: Arc<BTreeMap<Arc<str>, NodeView>>,
    /// The leader that a quorum of the voters agrees on: each of them is present, names the same
    /// leader in the same term, and the leader itself is among them and says so.
    pub leader: Option<Leader>,
    /// The voters of the longest log among the nodes that are present.
    pub voters: BTreeSet<NodeId>,
    /// The highest term that a present node has seen.
    pub term: u64,
    /// The highest index that a present node has applied.
    pub applied: u64,
}

/// What happened in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ClusterEvent {
    /// The agreed leader is another one, or there is none any more.
    LeaderChanged {
        /// Who it was.
        from: Option<Leader>,
        /// Who it is.
        to: Option<Leader>,
    },
    /// A higher term was seen.
    TermAdvanced {
        /// The highest term before.
        from: u64,
        /// The highest term now.
        to: u64,
    },
    /// A node answered for the first time, ever or since it was replaced.
    NodeSeen {
        /// The source's name.
        node: Arc<str>,
    },
    /// A node no longer answers.
    NodeLost {
        /// The source's name.
        node: Arc<str>,
        /// Why it counts as lost.
        reason: String,
    },
    /// A lost node answers again.
    NodeBack {
        /// The source's name.
        node: Arc<str>,
    },
    /// The voters changed.
    MembershipChanged {
        /// The voters before.
        from: BTreeSet<NodeId>,
        /// The voters now.
        to: BTreeSet<NodeId>,
    },
    /// The cluster applied more of its log.
    AppliedAdvanced {
        /// The highest applied index before.
        from: u64,
        /// The highest applied index now.
        to: u64,
    },
}

/// What [`RaftObserver`] remembers.
#[derive(Debug)]
pub struct RaftState {
    nodes: PerSourceState<NodeState>,
    view: ClusterView,
    /// The view whose changes were told.
    told: ClusterView,
}

impl RaftObserver {
    /// `interval` is the runtime's own. A node that has not answered for `stale_after` (plus what
    /// its last answer took) is lost.
    #[must_use]
    pub fn new(interval: Duration, stale_after: Duration) -> Self {
        let probe =
            |node: ObservedSource<NodeClient>| async move { node.source.state().await.map_err(brief) };
        let nodes = PerSource::new(interval, probe)
            .stale_after(stale_after)
            .identity(|node: &NodeClient| node.addr().to_owned());
        Self { nodes }
    }

    /// With the time-out that fits an interval: three of them, at least a second.
    #[must_use]
    pub fn at(interval: Duration) -> Self {
        let stale_after =
            interval.saturating_mul(3).clamp(Duration::from_secs(1), Duration::from_secs(24 * 3600));
        Self::new(interval, stale_after)
    }

    fn view(
        &self,
        sources: &[ObservedSource<NodeClient>],
        nodes: &PerSourceState<NodeState>,
        before: &ClusterView,
    ) -> ClusterView {
        ClusterView::derive(seen(sources, &self.nodes.snapshot(nodes), Instant::now()), before)
    }
}

#[async_trait]
impl Observer for RaftObserver {
    type Source = NodeClient;
    type State = RaftState;
    type Snapshot = ClusterView;
    type Event = ClusterEvent;

    async fn init(&self, sources: &[ObservedSource<NodeClient>]) -> Result<RaftState, DynError> {
        let nodes = self.nodes.init(sources).await?;
        let told = ClusterView::default();
        let view = self.view(sources, &nodes, &told);
        // What was found now is told by the first poll.
        Ok(RaftState { nodes, view, told })
    }

    async fn poll(
        &self,
        sources: &[ObservedSource<NodeClient>],
        state: &mut RaftState,
    ) -> Result<Vec<ClusterEvent>, DynError> {
        self.nodes.poll(sources, &mut state.nodes).await?;
        // What `init` has found was not told yet; it is, though it may be over by now.
        let mut events = state.view.since(&state.told);
        let view = self.view(sources, &state.nodes, &state.view);
        events.extend(view.since(&state.view));
        state.told = view.clone();
        state.view = view;
        Ok(events)
    }

    fn snapshot(&self, state: &RaftState) -> ClusterView {
        state.view.clone()
    }

    /// True: what an interrupted poll has collected is in `nodes`, and is told by the next one.
    fn keeps_state_when_interrupted(&self) -> bool {
        true
    }

    fn source_health(view: &ClusterView, name: &str) -> Option<SourceHealth> {
        view.nodes.get(name).map(|node| node.health.clone())
    }

    /// What the nodes agree on by what they were asked since. Events are not taken apart: one may come of several
    /// answers, and counts by its cycle.
    fn asked_since(view: &ClusterView, since: Instant) -> Option<ClusterView> {
        view.asked_since(since)
    }
}

impl ClusterView {
    /// What the nodes say together. What is only known to grow, or that nobody tells now, is kept
    /// from `before`.
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

    /// The same without what was asked of the nodes before `since`; `None` if there is none of it. What only grows
    /// stays as it is, and so do the voters that nobody names now.
    fn asked_since(&self, since: Instant) -> Option<Self> {
        let asked_since = |node: &NodeView| node.health.asked_since(since);
        if self.nodes.values().all(|node| asked_since(node).is_none()) {
            return None;
        }
        let view = |(name, node): (&Arc<str>, &NodeView)| {
            let node = asked_since(node).map_or_else(|| node.clone(), |health| node.with(health));
            (Arc::clone(name), node)
        };
        Some(Self::derive(self.nodes.iter().map(view).collect(), self))
    }

    /// The nodes that can be believed, with what they say.
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
        let (node_id, term) = (leader.node_id, leader.current_term);
        let names_it =
            |state: &&NodeState| state.current_leader == Some(node_id) && state.current_term == term;
        let votes = voters().filter(names_it).count();
        (votes > self.voters.len() / 2).then_some(Leader { node_id, term })
    }

    /// The present node with this id.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&NodeState> {
        self.present().map(|(_, state)| state).find(|state| state.node_id == id)
    }

    /// The source that is the leader that is agreed on.
    #[must_use]
    pub fn leader_name(&self) -> Option<&Arc<str>> {
        let leader = self.leader?.node_id;
        self.present().find(|(_, state)| state.node_id == leader).map(|(name, _)| name)
    }

    /// How to talk to the leader that is agreed on.
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
            events.extend(moved(name, was, &node.presence));
        }
        let gone = |(name, node): &(&Arc<str>, &NodeView)| {
            node.presence == Presence::Present && !self.nodes.contains_key(*name)
        };
        for (name, _) in before.nodes.iter().filter(gone) {
            events.push(ClusterEvent::NodeLost {
                node: Arc::clone(name),
                reason: "left the source set".to_owned(),
            });
        }
        if self.term > before.term {
            events.push(ClusterEvent::TermAdvanced { from: before.term, to: self.term });
        }
        if self.leader != before.leader {
            events.push(ClusterEvent::LeaderChanged { from: before.leader, to: self.leader });
        }
        if self.voters != before.voters {
            events.push(ClusterEvent::MembershipChanged {
                from: before.voters.clone(),
                to: self.voters.clone(),
            });
        }
        if self.applied > before.applied {
            events.push(ClusterEvent::AppliedAdvanced { from: before.applied, to: self.applied });
        }
        events
    }
}

impl NodeView {
    /// The same node, if this is all that counts of it. That it does not answer for too long is so whenever it was
    /// asked.
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

/// Which nodes can be believed at `now`.
fn seen(
    sources: &[ObservedSource<NodeClient>],
    answers: &PerSourceSnapshot<NodeState>,
    now: Instant,
) -> BTreeMap<Arc<str>, NodeView> {
    // The answers are in the order of the sources.
    let view = |(node, source): (&ObservedSource<NodeClient>, SourceView<'_, NodeState>)| {
        let failure = source.facts.last_failure.as_ref().filter(|_| source.is_failing());
        let presence = match failure {
            _ if source.value.is_none() => Presence::Unseen,
            Some(failure) => Presence::Failing(failure.message.clone()),
            None if source.freshness(now).is_fresh() => Presence::Present,
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
            // An error may be its own cause.
            let causes = std::iter::successors(source.source(), |cause| cause.source()).take(32);
            let root = causes.last().map_or_else(|| source.to_string(), ToString::to_string);
            format!("unreachable: {root}").into()
        }
        _ => error.into(),
    }
}

/// What a change of one node's presence is called.
fn moved(name: &Arc<str>, was: &Presence, is: &Presence) -> Option<ClusterEvent> {
    let node = Arc::clone(name);
    match (was, is) {
        (Presence::Unseen, Presence::Present) => Some(ClusterEvent::NodeSeen { node }),
        (Presence::Failing(_) | Presence::Stale, Presence::Present) => Some(ClusterEvent::NodeBack { node }),
        (Presence::Present, Presence::Failing(reason)) => {
            Some(ClusterEvent::NodeLost { node, reason: reason.clone() })
        }
        (Presence::Present, Presence::Stale) => {
            Some(ClusterEvent::NodeLost { node, reason: "does not answer".to_owned() })
        }
        (Presence::Present, Presence::Unseen) => {
            Some(ClusterEvent::NodeLost { node, reason: "was replaced".to_owned() })
        }
        _ => None,
    }
}

impl fmt::Display for Leader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{} (term {})", self.node_id, self.term)
    }
}

impl fmt::Display for ClusterEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let voters = |voters: &BTreeSet<NodeId>| {
            voters.iter().map(|id| format!("n{id}")).collect::<Vec<_>>().join(" ")
        };
        match self {
            Self::LeaderChanged { to: Some(leader), .. } => write!(f, "leader is {leader}"),
            Self::LeaderChanged { to: None, .. } => f.write_str("no leader is agreed on"),
            Self::TermAdvanced { from, to } => write!(f, "term {from} -> {to}"),
            Self::NodeSeen { node } => write!(f, "{node} is up"),
            Self::NodeLost { node, reason } => write!(f, "{node} is lost: {reason}"),
            Self::NodeBack { node } => write!(f, "{node} is back"),
            Self::MembershipChanged { to, .. } => write!(f, "voters are {}", voters(to)),
            Self::AppliedAdvanced { from, to } => write!(f, "applied {from} -> {to}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use watchkeeper::{Cause, ProbeFailure, SourceFacts};

    use super::*;

    /// A node that says who leads in which term; node 0 leads nobody.
    fn node(id: NodeId, leader: NodeId, term: u64, presence: Presence) -> (Arc<str>, NodeView) {
        let state = NodeState {
            node_id: id,
            public_addr: String::new(),
            role: if id == leader { Role::Leader } else { Role::Follower },
            current_leader: (leader > 0).then_some(leader),
            current_term: term,
            last_log_index: Some(term),
            last_applied_index: Some(term),
            voters: BTreeSet::from([1, 2, 3]),
            kv: BTreeMap::new(),
        };
        (
            Arc::from(format!("n{id}")),
            NodeView {
                presence,
                state: Some(Arc::new(state)),
                client: NodeClient::new("127.0.0.1:1"),
                health: SourceHealth::new(SourceFacts::default(), Duration::ZERO),
            },
        )
    }

    #[test]
    fn a_leader_is_agreed_on_by_a_quorum_of_those_that_can_be_believed() {
        use Presence::{Present, Stale};
        let refused = || Presence::Failing("refused".to_owned());
        let cases = [
            ("all agree", [(1, 1, Present), (1, 1, Present), (1, 1, Present)], Some(1)),
            ("one is stale", [(1, 1, Present), (1, 1, Present), (1, 1, Stale)], Some(1)),
            ("two are stale: no quorum", [(1, 1, Present), (1, 1, Stale), (1, 1, Stale)], None),
            (
                "the leader is dead, the others do not know yet",
                [(1, 1, refused()), (1, 1, Present), (1, 1, Present)],
                None,
            ),
            ("the leader hangs", [(1, 1, Stale), (1, 1, Present), (1, 1, Present)], None),
            ("an election is on", [(0, 2, Present), (0, 2, Present), (0, 2, Present)], None),
            (
                "the old leader does not know of the new one",
                [(1, 1, Present), (2, 2, Present), (2, 2, Present)],
                Some(2),
            ),
            ("the same leader in two terms", [(1, 1, Present), (1, 1, Stale), (1, 2, Present)], None),
        ];
        for (what, nodes, leader) in cases {
            let nodes =
                (1..).zip(nodes).map(|(id, (leader, term, presence))| node(id, leader, term, presence));
            let view = ClusterView::derive(nodes.collect(), &ClusterView::default());
            assert_eq!(view.leader.map(|leader| leader.node_id), leader, "{what}");
        }
    }

    #[test]
    fn a_cluster_that_is_gone_and_comes_back_is_told_as_such() {
        let up = || (1..=3).map(|id| node(id, 1, 4, Presence::Present)).collect();
        let down = || (1..=3).map(|id| node(id, 1, 4, Presence::Failing("refused".to_owned()))).collect();
        let first = ClusterView::derive(up(), &ClusterView::default());
        let gone = ClusterView::derive(down(), &first);
        let back = ClusterView::derive(up(), &gone);
        let told = |events: Vec<ClusterEvent>| events.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            told(gone.since(&first)),
            ["n1 is lost: refused", "n2 is lost: refused", "n3 is lost: refused", "no leader is agreed on"],
        );
        assert_eq!(
            told(back.since(&gone)),
            ["n1 is back", "n2 is back", "n3 is back", "leader is n1 (term 4)"]
        );
    }

    #[test]
    fn as_json_nodes_go_by_their_names() {
        let (name, unseen) = node(3, 0, 0, Presence::Unseen);
        let unseen = (name, NodeView { state: None, ..unseen });
        let nodes = [node(1, 1, 4, Presence::Present), node(2, 1, 4, Presence::Present), unseen];
        let view = ClusterView::derive(nodes.into(), &ClusterView::default());
        let said = |presence: &str, role: &str| json!({ "presence": presence, "role": role, "term": 4, "applied": 4, "kv": {} });
        assert_eq!(
            view.to_json(),
            json!({
                "leader": "n1", "term": 4, "applied": 4, "voters": ["n1", "n2", "n3"], "present": 2,
                "nodes": {
                    "n1": said("present", "leader"),
                    "n2": said("present", "follower"),
                    "n3": { "presence": "unseen", "role": null, "term": null, "applied": null, "kv": null },
                },
            })
        );
    }

    /// A node that was asked at these times, in milliseconds: for its last answer, and then without success.
    fn asked(id: NodeId, began: Instant, answered: u64, failed: Option<u64>) -> (Arc<str>, NodeView) {
        let at = |millis| began + Duration::from_millis(millis);
        let mut facts = SourceFacts::default();
        facts.answered(at(answered), at(answered + 1));
        let presence = match failed {
            None => Presence::Present,
            Some(asked) => {
                let failure = ProbeFailure::new(at(asked), at(asked + 1), Cause::Error, "refused");
                facts.failed(failure);
                Presence::Failing("refused".to_owned())
            }
        };
        let (name, view) = node(id, 1, 4, presence);
        (name, NodeView { health: SourceHealth::new(facts, Duration::from_secs(1)), ..view })
    }

    #[test]
    fn what_was_asked_of_a_node_before_does_not_count() {
        use Presence::{Present, Unseen};
        let began = Instant::now();
        let refused = || Presence::Failing("refused".to_owned());
        // (when each was asked last; its presence by what was asked since 500 ms, and who leads then)
        let cases = [
            ("all since", [(500, None), (600, None), (700, None)], [Present, Present, Present], Some(1)),
            ("one before", [(600, None), (600, None), (499, None)], [Present, Present, Unseen], Some(1)),
            ("the leader before", [(400, None), (600, None), (600, None)], [Unseen, Present, Present], None),
            ("two before", [(600, None), (400, None), (400, None)], [Present, Unseen, Unseen], None),
            (
                "failed since",
                [(600, None), (600, None), (400, Some(600))],
                [Present, Present, refused()],
                Some(1),
            ),
            (
                "failed before",
                [(600, None), (600, None), (300, Some(400))],
                [Present, Present, Unseen],
                Some(1),
            ),
        ];
        for (what, times, presence, leader) in cases {
            let nodes = (1..).zip(times).map(|(id, (answered, failed))| asked(id, began, answered, failed));
            let view = ClusterView::derive(nodes.collect(), &ClusterView::default());
            let since = RaftObserver::asked_since(&view, began + Duration::from_millis(500));
            assert_eq!(since.is_none(), what == "all since", "{what}");
            let seen = since.unwrap_or(view);
            let is: Vec<_> = seen.nodes.values().map(|node| node.presence.clone()).collect();
            assert_eq!((is, seen.leader.map(|leader| leader.node_id)), (presence.to_vec(), leader), "{what}");
            let unseen = seen.nodes.values().filter(|node| node.presence == Unseen);
            assert!(unseen.clone().all(|node| node.state.is_none()), "{what}");
            assert_eq!(seen.voters, BTreeSet::from([1, 2, 3]), "{what}");
        }
        let nobody: BTreeMap<_, _> = (1..=3).map(|id| asked(id, began, 100, None)).collect();
        let view = ClusterView::derive(nobody, &ClusterView::default());
        let seen = RaftObserver::asked_since(&view, began + Duration::from_secs(1)).unwrap();
        assert_eq!((seen.leader, seen.term), (None, 4), "terms only grow");
        assert_eq!(seen.voters, BTreeSet::from([1, 2, 3]), "what was known is not forgotten");
    }
}
