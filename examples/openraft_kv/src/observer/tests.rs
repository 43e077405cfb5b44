//! What the observer derives from the nodes' answers.

use serde_json::json;
use tokio::sync::watch;
use watchkeeper::check::Check;
use watchkeeper::runtime::Cause;
use watchkeeper::source::{ProbeFailure, SourceFacts};
use watchkeeper::{ObservationConfig, ObservationRuntime, StaticSourceProvider};

use super::*;

/// A node that names the leader in a term; 0 is no leader.
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
fn a_leader_is_agreed_on_by_a_quorum_of_the_present_voters() {
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
        let nodes = (1..).zip(nodes).map(|(id, (leader, term, presence))| node(id, leader, term, presence));
        let view = ClusterView::derive(nodes.collect(), &ClusterView::default());
        assert_eq!(view.leader.map(|leader| leader.node_id), leader, "{what}");
    }
}

#[test]
fn nodes_and_events_add_to_the_weight_of_a_view() {
    let view = |nodes: NodeId| {
        let nodes = (1..=nodes).map(|id| node(id, 1, 1, Presence::Present));
        ClusterView::derive(nodes.collect(), &ClusterView::default())
    };
    let weight = |nodes, events: &[ClusterEvent]| RaftObserver::weight(&view(nodes), events);
    assert_eq!(weight(5, &[]) - weight(3, &[]), 2 * size_of::<(Arc<str>, NodeView)>());
    let events =
        [1, 2].map(|id| ClusterEvent::NodeSeen { node: Arc::from(format!("n{id}")), asked_at: None });
    assert_eq!(weight(3, &events) - weight(3, &[]), size_of_val(&events));
}

#[test]
fn the_loss_and_return_of_a_cluster_are_events() {
    let up = || (1..=3).map(|id| node(id, 1, 4, Presence::Present)).collect();
    let down = || (1..=3).map(|id| node(id, 1, 4, Presence::Failing("refused".to_owned()))).collect();
    let first = ClusterView::derive(up(), &ClusterView::default());
    let gone = ClusterView::derive(down(), &first);
    let back = ClusterView::derive(up(), &gone);
    let lines = |events: Vec<ClusterEvent>| events.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        lines(gone.since(&first)),
        ["n1 is lost: refused", "n2 is lost: refused", "n3 is lost: refused", "no leader is agreed on"],
    );
    assert_eq!(lines(back.since(&gone)), ["n1 is back", "n2 is back", "n3 is back", "leader is n1 (term 4)"]);
}

#[test]
fn as_json_nodes_go_by_their_names() {
    let (name, unseen) = node(3, 0, 0, Presence::Unseen);
    let unseen = (name, NodeView { state: None, ..unseen });
    let nodes = [node(1, 1, 4, Presence::Present), node(2, 1, 4, Presence::Present), unseen];
    let view = ClusterView::derive(nodes.into(), &ClusterView::default());
    let present = |presence: &str, role: &str| json!({ "presence": presence, "role": role, "term": 4, "applied": 4, "kv": {} });
    assert_eq!(
        view.to_json(),
        json!({
            "leader": "n1", "term": 4, "applied": 4, "voters": ["n1", "n2", "n3"], "present": 2,
            "nodes": {
                "n1": present("present", "leader"),
                "n2": present("present", "follower"),
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
        ("failed before", [(600, None), (600, None), (300, Some(400))], [Present, Present, Unseen], Some(1)),
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
    let old: BTreeMap<_, _> = (1..=3).map(|id| asked(id, began, 100, None)).collect();
    let view = ClusterView::derive(old, &ClusterView::default());
    let seen = RaftObserver::asked_since(&view, began + Duration::from_secs(1)).unwrap();
    assert_eq!((seen.leader, seen.term), (None, 4), "terms only grow");
    assert_eq!(seen.voters, BTreeSet::new(), "no node has answered since");
}

/// The events, and when their answers were asked for, in milliseconds; none for silence.
fn dated(events: &[ClusterEvent], began: Instant) -> Vec<(String, Option<u128>)> {
    let millis = |at: Instant| at.saturating_duration_since(began).as_millis();
    events.iter().map(|event| (event.to_string(), event.asked_at().map(millis))).collect()
}

/// An event counted by its cycle, although its probe began before.
#[test]
fn an_event_is_dated_by_the_oldest_answer_that_it_needs() {
    let began = Instant::now();
    let view = |times: [(u64, Option<u64>); 3], before: &ClusterView| {
        let nodes = (1..).zip(times).map(|(id, (answered, failed))| asked(id, began, answered, failed));
        ClusterView::derive(nodes.collect(), before)
    };
    let nothing = ClusterView::default();
    let up = view([(600, None), (500, None), (700, None)], &nothing);
    let mut expected = [
        ("n1 is up", 600),
        ("n2 is up", 500),
        ("n3 is up", 700),
        // Each of them is shown by the newest answer alone, and the leader by the first and the third.
        ("term 0 -> 4", 700),
        ("leader is n1 (term 4)", 600),
        ("voters are n1 n2 n3", 700),
        ("applied 0 -> 4", 700),
    ]
    .map(|(event, at)| (event.to_owned(), Some(at)));
    assert_eq!(dated(&up.since(&nothing), began), expected);
    // It needs the leader's own answer, however old.
    let late = view([(400, None), (500, None), (700, None)], &nothing);
    (expected[0].1, expected[4].1) = (Some(400), Some(400));
    assert_eq!(dated(&late.since(&nothing), began), expected);

    let lost = |times, before: &ClusterView| dated(&view(times, before).since(before), began);
    let none = |at| ("no leader is agreed on".to_owned(), at);
    let refused = |node: &str, at| (format!("{node} is lost: refused"), Some(at));
    let leader = lost([(600, Some(900)), (500, Some(800)), (700, None)], &up);
    assert_eq!(leader, [refused("n1", 900), refused("n2", 800), none(Some(900))]);
    let followers = lost([(600, None), (500, Some(800)), (700, Some(900))], &up);
    assert_eq!(followers, [refused("n2", 800), refused("n3", 900), none(Some(800))]);

    let mut nodes = (*up.nodes).clone();
    nodes.get_mut("n1").unwrap().presence = Presence::Stale;
    let silent = ClusterView::derive(nodes, &up);
    let expected = [("n1 is lost: does not answer".to_owned(), None), none(None)];
    assert_eq!(dated(&silent.since(&up), began), expected);
}

const INTERVAL: Duration = Duration::from_millis(100);
/// So long that no answer becomes too old.
const STALE_AFTER: Duration = Duration::from_hours(1);
const SOON: Duration = Duration::from_secs(2);

/// The answers of nodes; those that are missing hang.
#[derive(Default)]
struct Answers {
    of: BTreeMap<String, NodeState>,
    /// Probes that began at this moment or later hang as well.
    until: Option<Instant>,
}

/// Nodes whose answers the test sets.
struct Nodes {
    answers: watch::Sender<Answers>,
    runtime: ObservationRuntime<RaftObserver>,
}

impl Nodes {
    async fn observed(nodes: NodeId) -> Self {
        let (answers, _) = watch::channel(Answers::default());
        let asked = answers.clone();
        let probe = move |node: ObservedSource<NodeClient>| {
            let (mut answers, began) = (asked.subscribe(), Instant::now());
            async move {
                let is_let = |answers: &Answers| answers.until.is_none_or(|until| began < until);
                let answers =
                    answers.wait_for(|answers| is_let(answers) && answers.of.contains_key(&node.name));
                Ok(answers.await?.of[&node.name].clone())
            }
        };
        let sources =
            (1..=nodes).map(|id| ObservedSource::new(format!("n{id}"), NodeClient::new("127.0.0.1:1")));
        let observer = RaftObserver::asking(probe).stale_after(STALE_AFTER);
        let config = ObservationConfig { interval: INTERVAL, ..ObservationConfig::default() };
        let provider = StaticSourceProvider::new(sources.collect());
        Self { answers, runtime: ObservationRuntime::start(provider, observer, config).await.unwrap() }
    }

    /// All answer from now on that this one leads.
    fn agree(&self, nodes: NodeId, leader: NodeId, term: u64) {
        let answers = (1..=nodes).map(|id| {
            let (name, view) = node(id, leader, term, Presence::Present);
            let state = NodeState { voters: (1..=nodes).collect(), ..(*view.state.unwrap()).clone() };
            (name.to_string(), state)
        });
        self.answers.send_replace(Answers { of: answers.collect(), until: None });
    }

    /// The same, but only probes that are in flight are answered.
    fn agree_in_flight(&self, nodes: NodeId, leader: NodeId, term: u64) {
        self.agree(nodes, leader, term);
        self.answers.send_modify(|answers| answers.until = Some(Instant::now()));
    }

    /// All nodes hang, and the observer has seen that none answers.
    async fn fall_silent(&self, count: NodeId) {
        self.hang(1..=count);
        let none = |cluster: &ClusterView| cluster.present().count() == 0;
        self.runtime.handle().eventually("no node answers", none).within(SOON).await.unwrap();
    }

    fn hang(&self, nodes: impl IntoIterator<Item = NodeId>) {
        self.answers.send_modify(|answers| {
            for id in nodes {
                answers.of.remove(&format!("n{id}"));
            }
        });
    }
}

fn leads(id: NodeId) -> impl Fn(&ClusterView) -> bool {
    move |cluster| cluster.leader.is_some_and(|leader| leader.node_id == id)
}

/// It stayed the agreed leader for as long as its last answer was fresh.
#[tokio::test(start_paused = true)]
async fn a_leader_that_hangs_is_agreed_on_no_more_though_its_answer_is_fresh() {
    let nodes = Nodes::observed(3).await;
    nodes.agree(3, 1, 4);
    let handle = nodes.runtime.handle();
    handle.eventually("n1 leads", leads(1)).within(SOON).await.unwrap();
    nodes.hang([1]);
    let is_stale = |c: &ClusterView| c.nodes["n1"].presence == Presence::Stale;
    handle.eventually("n1 is stale", is_stale).within(SOON).await.unwrap();
    let seen = handle.latest_snapshot().unwrap();
    assert_eq!(seen.value.leader, None, "also where everything counts");
    nodes.agree(3, 1, 4);
    handle.eventually("n1 leads again", leads(1)).within(SOON).await.unwrap();
}

/// The voters stayed those of the last answer.
#[tokio::test(start_paused = true)]
async fn a_wait_for_voters_is_not_met_by_what_was_known_before_it() {
    let nodes = Nodes::observed(4).await;
    nodes.agree(4, 1, 4);
    let handle = nodes.runtime.handle();
    let four = |c: &ClusterView| c.voters.contains(&4);
    handle.eventually("4 is a voter", four).within(SOON).await.unwrap();
    nodes.fall_silent(4).await;
    let mark = handle.mark();
    let unmet = handle.eventually("4 is a voter", four).after(mark).within(SOON).await;
    assert!(unmet.is_err(), "all nodes hang");
    assert!(four(&handle.latest_snapshot().unwrap().value), "what was known is not forgotten");

    nodes.agree(4, 1, 4);
    handle.eventually("4 is a voter", four).after(mark).within(SOON).await.unwrap();
}

/// The probes were in flight at the mark, and their answers come after it.
#[tokio::test(start_paused = true)]
async fn an_event_of_probes_that_were_asked_before_the_mark_does_not_count() {
    let nodes = Nodes::observed(3).await;
    nodes.agree(3, 1, 4);
    let handle = nodes.runtime.handle();
    handle.eventually("n1 leads", leads(1)).within(SOON).await.unwrap();
    nodes.fall_silent(3).await;
    let mark = handle.mark();
    let elected = |event: &ClusterEvent| matches!(event, ClusterEvent::LeaderChanged { to: Some(_), .. });
    let counted = handle.event("a leader is elected", elected).after(mark).within(SOON);
    nodes.agree_in_flight(3, 2, 5);
    assert!(counted.await.is_err(), "the probes were asked before the mark");
    let history = handle.history();
    let emitted = history.iter().flat_map(|batch| &batch.events).filter(|event| elected(event));
    assert_eq!(
        emitted.map(ToString::to_string).collect::<Vec<_>>(),
        ["leader is n1 (term 4)", "leader is n2 (term 5)"]
    );

    nodes.agree(3, 3, 6);
    handle.event("a leader is elected", elected).after(mark).within(SOON).await.unwrap();
}

/// A cluster as its events describe it.
#[derive(Debug, Default, PartialEq)]
struct Folded {
    present: BTreeSet<Arc<str>>,
    leader: Option<Leader>,
    voters: BTreeSet<NodeId>,
    term: u64,
    applied: u64,
}

impl Folded {
    fn shown(view: &ClusterView) -> Self {
        let present = view.present().map(|(name, _)| Arc::clone(name)).collect();
        let ClusterView { leader, voters, term, applied, .. } = view.clone();
        Self { present, leader, voters, term, applied }
    }

    fn take(&mut self, event: &ClusterEvent) {
        match event.clone() {
            ClusterEvent::LeaderChanged { from, to, .. } => {
                assert_eq!(std::mem::replace(&mut self.leader, to), from);
            }
            ClusterEvent::TermAdvanced { from, to, .. } => {
                assert_eq!(std::mem::replace(&mut self.term, to), from);
            }
            ClusterEvent::MembershipChanged { from, to, .. } => {
                assert_eq!(std::mem::replace(&mut self.voters, to), from);
            }
            ClusterEvent::AppliedAdvanced { from, to, .. } => {
                assert_eq!(std::mem::replace(&mut self.applied, to), from);
            }
            ClusterEvent::NodeSeen { node, .. } | ClusterEvent::NodeBack { node, .. } => {
                assert!(self.present.insert(node), "{event}");
            }
            ClusterEvent::NodeLost { node, .. } => assert!(self.present.remove(&node), "{event}"),
        }
    }
}

/// What a node answers in a script.
#[derive(Clone, Copy)]
enum Says {
    /// This node leads in this term.
    Leads(NodeId, u64),
    Refuses,
    /// Until the next poll.
    Hangs,
}

type Script = BTreeMap<String, Result<NodeState, String>>;

fn scripted(
    id: NodeId,
    says: Says,
    voters: &BTreeSet<NodeId>,
) -> Option<(String, Result<NodeState, String>)> {
    let name = format!("n{id}");
    match says {
        Says::Hangs => None,
        Says::Refuses => Some((name, Err("refused".to_owned()))),
        Says::Leads(leader, term) => {
            let (_, view) = node(id, leader, term, Presence::Present);
            Some((name, Ok(NodeState { voters: voters.clone(), ..(*view.state?).clone() })))
        }
    }
}

#[tokio::test(start_paused = true)]
async fn events_add_up_to_the_cluster_and_no_interruption_loses_one() {
    use Says::{Hangs, Leads, Refuses};
    let script = [
        vec![(1, Leads(1, 4)), (2, Leads(1, 4)), (3, Leads(1, 4))],
        vec![(1, Refuses), (2, Leads(0, 5)), (3, Leads(0, 5))],
        vec![(1, Hangs), (2, Leads(2, 5)), (3, Leads(2, 5))],
        vec![(1, Leads(2, 5)), (2, Hangs), (3, Leads(2, 5))],
        vec![(1, Leads(2, 6)), (2, Leads(2, 6)), (4, Leads(2, 6))], // another member
        vec![(1, Hangs), (2, Hangs), (4, Refuses)],
        vec![(1, Leads(4, 7)), (2, Leads(4, 7)), (4, Leads(4, 7))],
    ];
    let (now, _) = watch::channel(Script::new());
    let asked = now.clone();
    let observer = move || {
        let asked = asked.clone();
        RaftObserver::asking(move |node: ObservedSource<NodeClient>| {
            let mut script = asked.subscribe();
            async move {
                // Every answer takes an await.
                tokio::time::sleep(Duration::from_millis(5)).await;
                let script = script.wait_for(|script| script.contains_key(&node.name)).await?;
                Ok(script[&node.name].clone()?)
            }
        })
    };
    let config = ObservationConfig { interval: INTERVAL, ..ObservationConfig::default() };
    let mut check = Check::new(observer).configured(config);
    for nodes in script {
        let now = now.clone();
        check = check.poll(move || {
            let voters = nodes.iter().map(|(id, _)| *id).collect();
            now.send_replace(nodes.iter().filter_map(|(id, says)| scripted(*id, *says, &voters)).collect());
            let source = |(id, _): &(NodeId, Says)| (format!("n{id}"), NodeClient::new("127.0.0.1:1"));
            nodes.iter().map(source).collect::<Vec<_>>()
        });
    }
    let checked = check.folding(Folded::shown, Folded::take).run().await.unwrap();
    assert_eq!((checked.succeeded, checked.failed), (7, 0));
    assert!(checked.events >= 20 && checked.interruptions >= 7, "{checked:?}");
}
