//! The failover scenario, the same for every deployer.
//!
//! It forms a cluster, writes to it and kills the leader. With [`Failover::all`], it also makes a node hang and
//! cuts a leader off. Each time the observation has to see the fault, the other nodes have to go on, and the
//! broken node has to come back. What a deployer cannot do is left out, and printed as such.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watchkeeper::wait::{Invariant, Unmet, WaitBuilder};
use watchkeeper::{ObservationConfig, ObservationHandle, ObservationSnapshot, async_trait};
use watchkeeper_scenario::{
    BuildError, DynError, Expectation, Limits, NodeControlError, RunContext, Scenario, Workload,
};

use crate::ClientError;
use crate::api::{Role, Written};
use crate::deploy::{Deployment, RaftKv, form};
use crate::observer::{ClusterView, Leader, Presence, RaftObserver};
use crate::timeline::{Summary, Timeline};

/// The name of the scenario's observer.
pub const OBSERVER: &str = "raft";
/// The window of every wait.
const WINDOW: Duration = Duration::from_secs(30);
/// How many keys are written at a time.
const KEYS: usize = 8;
/// How often a failed write is repeated, each time on the current leader.
const TRIES: usize = 5;

/// The settings of the scenario.
#[derive(Clone, Debug)]
pub struct Failover {
    /// How often the cluster is polled.
    pub interval: Duration,
    /// Whether a follower also hangs and a leader is cut off.
    pub all: bool,
    /// If set, watching continues after the summary until this is cancelled.
    pub keep: Option<CancellationToken>,
    /// What prints the run.
    pub timeline: Timeline,
}

/// A write that no leader accepted.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// A write was refused by one leader after the other.
    #[error(
        "cannot write {key}, even after {TRIES} more tries: wait for a leader and repeat it with its serial"
    )]
    Refused {
        /// Which key.
        key: String,
        /// The answer of the last leader.
        source: ClientError,
    },
    /// There was no leader to write to.
    #[error(transparent)]
    NoLeader(#[from] Unmet),
}

crate::errors::debug_is_the_text!(WriteError);

/// The scenario on `deployment`.
///
/// # Errors
///
/// [`BuildError`]: the interval is zero or out of range.
pub fn failover(deployment: Deployment, failover: Failover) -> Result<Scenario<RaftKv>, BuildError> {
    let Failover { interval, all, keep, timeline } = failover;
    let limits = limits(keep.is_some());
    let observer = move |_: &RunContext<RaftKv>| RaftObserver::new();
    Scenario::builder("failover", deployment)
        .limits(limits)
        .with_observer(OBSERVER, observer, config(interval))
        .with_workload(Break { all, timeline, keep })
        .with_expectation(OneLeaderATerm { watched: None })
        .expect_wait("every node holds the same keys", |context| async move {
            let nodes = context.require_observer::<RaftObserver>(OBSERVER)?;
            let same = nodes.eventually("every node holds the same keys", |cluster| {
                let mut kinds = cluster.present().map(|(_, node)| &node.kv);
                let first = kinds.next();
                cluster.all(|_| true) && kinds.all(|kv| Some(kv) == first)
            });
            same.or_now().within(WINDOW).await?;
            Ok(())
        })
        .build()
}

/// Longer than the deployers' own limits: their errors say why nodes did not start or stop. The first build of an
/// image takes minutes on a busy machine.
fn limits(keep: bool) -> Limits {
    let defaults = Limits::default();
    Limits {
        deploy: Duration::from_secs(600),
        workloads: if keep { Duration::from_secs(24 * 3600) } else { defaults.workloads },
        cleanup: Duration::from_secs(180),
        ..defaults
    }
}

/// The observation of a cluster at this interval.
#[must_use]
pub fn config(interval: Duration) -> ObservationConfig {
    ObservationConfig { interval, history_limit: 1024, ..ObservationConfig::default() }
}

/// Writes to the current leader. A write that an election interrupts is repeated with its serial, so that it
/// is applied once.
///
/// # Errors
///
/// [`WriteError`]: every try was refused, or there was no leader.
pub async fn write(
    handle: &ObservationHandle<RaftObserver>,
    (key, value, serial): (&str, &str, u64),
) -> Result<Written, WriteError> {
    let mut seen = leading(handle).or_now().within(WINDOW).await?;
    let mut tried = 0;
    loop {
        let Some(leader) = seen.value.leader_client() else { unreachable!("the wait was for a leader") };
        match leader.write(key, value, serial).await {
            Ok(written) => return Ok(written),
            Err(_) if tried < TRIES => tried += 1,
            Err(source) => return Err(WriteError::Refused { key: key.to_owned(), source }),
        }
        // Only what is observed from now on can show another leader.
        seen = leading(handle).within(WINDOW).await?;
    }
}

/// A wait for an agreed leader.
fn leading(
    handle: &ObservationHandle<RaftObserver>,
) -> WaitBuilder<'static, RaftObserver, Arc<ObservationSnapshot<ClusterView>>> {
    handle.eventually("a leader is agreed on", |cluster| cluster.leader.is_some())
}

/// Breaks nodes, and waits on the observation for the consequences.
struct Break {
    all: bool,
    timeline: Timeline,
    keep: Option<CancellationToken>,
}

/// One run of [`Break`].
struct Breaking<'a> {
    context: &'a RunContext<RaftKv>,
    handle: ObservationHandle<RaftObserver>,
    timeline: &'a Timeline,
    written: usize,
}

#[async_trait]
impl Workload<RaftKv> for Break {
    fn name(&self) -> &'static str {
        "failover"
    }

    async fn init(&mut self, context: &RunContext<RaftKv>) -> Result<(), DynError> {
        let handle = context.require_observer::<RaftObserver>(OBSERVER)?;
        self.timeline.follow(&handle);
        Ok(())
    }

    async fn start(&mut self, context: &RunContext<RaftKv>) -> Result<(), DynError> {
        let handle = context.require_observer::<RaftObserver>(OBSERVER)?;
        let mut breaking = Breaking { context, handle: handle.clone(), timeline: &self.timeline, written: 0 };
        let summary = breaking.run(self.all).await?;
        self.timeline.summary(&summary);
        if let Some(interrupted) = &self.keep {
            self.timeline.step(format_args!("watching until Ctrl-C"));
            self.timeline.watch_until(&handle, interrupted.cancelled()).await;
        }
        Ok(())
    }
}

impl Breaking<'_> {
    async fn run(&mut self, all: bool) -> Result<Summary, DynError> {
        let began = Instant::now();
        self.timeline.step(format_args!("forming the cluster"));
        form(self.context.clients(), WINDOW).await?;
        self.write_keys().await?;
        let (first, second, failover) = self.kill_the_leader().await?;
        if all {
            self.hang_a_follower().await?;
            self.cut_the_leader_off().await?;
        }
        let status = self.handle.status();
        Ok(Summary {
            nodes: self.context.clients().names().len(),
            keys: self.written,
            first,
            second,
            failover,
            cycles: status.cycle + 1,
            failures: self.handle.failures().len(),
            missed_ticks: status.missed_ticks,
            elapsed: began.elapsed(),
        })
    }

    async fn kill_the_leader(&mut self) -> Result<(Leader, Leader, Duration), DynError> {
        // The leader may have changed while keys were written: the current one is killed.
        let (name, first) = self.leader().await?;
        self.timeline.step(format_args!("killing the leader, {name}"));
        let killed = Instant::now();
        self.context.control().kill(&name).await?;
        let gone = Instant::now();
        let elected = self
            .handle
            .eventually("a leader leads after the kill", move |cluster| leads_after(cluster, first, gone));
        let elected = elected.within(WINDOW).await?;
        let Some(second) = elected.value.leader else { unreachable!("the wait was for a leader") };
        let failover = elected.observed_at - killed;
        self.write_keys().await?;
        self.timeline.step(format_args!("restarting {name}"));
        // Where the platform itself restarts what was killed, there is nothing to start.
        self.done(self.context.control().start(&name).await)?;
        self.all_agree().await?;
        Ok((first, second, failover))
    }

    async fn hang_a_follower(&mut self) -> Result<(), DynError> {
        let (_, leader) = self.leader().await?;
        let seen = self.handle.latest_snapshot();
        let followers = seen.iter().flat_map(|seen| seen.value.present());
        let follower =
            followers.filter(|(_, node)| node.node_id != leader.node_id).map(|(name, _)| name).next();
        let Some(name) = follower.map(Arc::clone) else { return Ok(()) };
        self.timeline.step(format_args!("freezing {name}"));
        if !self.done(self.context.control().pause(&name).await)? {
            return Ok(());
        }
        self.no_longer_present(&name).await?;
        self.write_keys().await?;
        self.timeline.step(format_args!("waking {name}"));
        self.context.control().resume(&name).await?;
        self.all_agree().await
    }

    async fn cut_the_leader_off(&mut self) -> Result<(), DynError> {
        let (name, leader) = self.leader().await?;
        self.timeline.step(format_args!("cutting the leader, {name}, off"));
        if !self.done(self.context.control().isolate(&name).await)? {
            return Ok(());
        }
        let (gone, elected) = tokio::join!(self.no_longer_present(&name), self.another_leader(leader));
        gone?;
        elected?;
        self.write_keys().await?;
        self.timeline.step(format_args!("healing the cut"));
        self.context.control().rejoin(&name).await?;
        self.all_agree().await
    }

    /// Whether it was done; what this deployer cannot do is left out, and printed as such.
    fn done(&self, result: Result<(), NodeControlError>) -> Result<bool, NodeControlError> {
        match result {
            Err(unsupported @ NodeControlError::Unsupported { .. }) => {
                self.timeline.step(format_args!("left out: {unsupported}"));
                Ok(false)
            }
            result => result.map(|()| true),
        }
    }

    /// The current leader, with the name of its node.
    async fn leader(&self) -> Result<(String, Leader), Unmet> {
        let seen = leading(&self.handle).or_now().within(WINDOW).await?;
        let Some((name, leader)) = seen.value.leader_name().zip(seen.value.leader) else {
            unreachable!("the wait was for a leader")
        };
        Ok((name.to_string(), leader))
    }

    async fn another_leader(&self, than: Leader) -> Result<Arc<ObservationSnapshot<ClusterView>>, Unmet> {
        let another =
            |cluster: &ClusterView| cluster.leader.is_some_and(|leader| leader.node_id != than.node_id);
        self.handle.eventually("another leader is agreed on", another).within(WINDOW).await
    }

    async fn no_longer_present(&self, name: &str) -> Result<(), DynError> {
        let lost = |cluster: &ClusterView| {
            let node = cluster.nodes.get(name);
            // Not present is not enough: a node that was not asked since is unseen.
            node.is_some_and(|node| matches!(node.presence, Presence::Failing(_) | Presence::Stale))
        };
        self.handle.eventually(format!("{name} is lost"), lost).within(WINDOW).await?;
        Ok(())
    }

    /// Waits until every node is back and has every key.
    async fn all_agree(&self) -> Result<(), DynError> {
        let keys = self.written;
        let agree = move |cluster: &ClusterView| {
            cluster.leader.is_some()
                && cluster.all(|node| node.kv.len() == keys && node.voters == cluster.voters)
        };
        self.handle
            .eventually(format!("all nodes hold {keys} keys and agree on the voters"), agree)
            .within(WINDOW)
            .await?;
        Ok(())
    }

    async fn write_keys(&mut self) -> Result<(), WriteError> {
        self.timeline.step(format_args!("writing {KEYS} keys"));
        for key in self.written..self.written + KEYS {
            write(&self.handle, (&format!("key-{key:02}"), &format!("value {key}"), 1)).await?;
            self.written += 1;
        }
        Ok(())
    }
}

/// Whether there is a leader after `first` was killed, which had ended at `gone`: one of a later term, or `first`
/// again, if it has answered since. A platform may restart it before the others notice. An answer from before
/// `gone` does not count, however fresh it is.
fn leads_after(cluster: &ClusterView, first: Leader, gone: Instant) -> bool {
    let Some(leader) = cluster.leader else { return false };
    let answered = cluster.leader_name().and_then(|name| cluster.nodes.get(name)?.health.facts.last_success);
    leader.term > first.term || answered.is_some_and(|probed| probed > gone)
}

/// Raft's election safety: no term has two leaders.
struct OneLeaderATerm {
    watched: Option<Invariant>,
}

#[async_trait]
impl Expectation<RaftKv> for OneLeaderATerm {
    fn name(&self) -> &'static str {
        "no term has two leaders"
    }

    async fn start_capture(&mut self, context: &RunContext<RaftKv>) -> Result<(), DynError> {
        let nodes = context.require_observer::<RaftObserver>(OBSERVER)?;
        self.watched = Some(nodes.invariant("no term has two leaders", one_leader_a_term));
        Ok(())
    }

    async fn check_during_capture(&mut self, _: &RunContext<RaftKv>) -> Result<(), DynError> {
        match self.watched.as_ref().and_then(Invariant::violation) {
            Some(violation) => Err(violation.into()),
            None => Ok(()),
        }
    }

    async fn evaluate(&mut self, _: &RunContext<RaftKv>) -> Result<(), DynError> {
        if let Some(watched) = self.watched.take() {
            watched.finish().await?;
        }
        Ok(())
    }
}

fn one_leader_a_term(cluster: &ClusterView) -> bool {
    let mut terms = HashSet::new();
    let leaders = cluster.present().filter(|(_, node)| node.role == Role::Leader);
    leaders.map(|(_, node)| node.current_term).all(|term| terms.insert(term))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use watchkeeper::source::{SourceFacts, SourceHealth};

    use super::*;
    use crate::NodeClient;
    use crate::api::NodeState;
    use crate::observer::NodeView;

    #[cfg(feature = "k8s")]
    #[test]
    fn the_limits_of_deployers_are_shorter_than_those_of_the_scenario() {
        use watchkeeper_deploy::k8s::K8sOptions;

        let K8sOptions { answer_within, ready_within, gone_within, .. } = K8sOptions::default();
        for keep in [false, true] {
            let limits = limits(keep);
            assert!(limits.deploy > answer_within + ready_within + gone_within, "{limits:?}");
            assert!(limits.cleanup > gone_within, "{limits:?}");
        }
    }

    /// Node 1 leads in term 4 and is killed; it has ended at `gone`.
    #[test]
    fn a_leader_after_the_kill_has_a_later_term_or_a_later_answer() {
        let began = Instant::now();
        let at = |secs| began + Duration::from_secs(secs);
        let gone = at(5);
        let cases = [
            ("no leader is agreed on", None, 9, false),
            ("the old answer is still fresh", Some((1, 4)), 4, false),
            ("the probe began when the node was dying", Some((1, 4)), 5, false),
            ("it is back before an election", Some((1, 4)), 6, true),
            ("it was elected again", Some((1, 5)), 6, true),
            ("another was elected, and was probed before the first had ended", Some((2, 5)), 4, true),
        ];
        for (what, leader, probed, expected) in cases {
            let leader = leader.map(|(node_id, term)| Leader { node_id, term });
            let nodes =
                leader.map(|leader| (Arc::from("n"), leading(leader, at(probed)))).into_iter().collect();
            let cluster = ClusterView { nodes: Arc::new(nodes), leader, ..ClusterView::default() };
            let first = Leader { node_id: 1, term: 4 };
            assert_eq!(leads_after(&cluster, first, gone), expected, "{what}");
        }
    }

    fn leading(leader: Leader, probed: Instant) -> NodeView {
        let state = NodeState {
            node_id: leader.node_id,
            public_addr: String::new(),
            role: Role::Leader,
            current_leader: Some(leader.node_id),
            current_term: leader.term,
            last_log_index: None,
            last_applied_index: None,
            voters: BTreeSet::from([leader.node_id]),
            kv: BTreeMap::new(),
        };
        let mut facts = SourceFacts::default();
        facts.last_success = Some(probed);
        NodeView {
            presence: Presence::Present,
            state: Some(Arc::new(state)),
            client: NodeClient::new("127.0.0.1:1"),
            health: SourceHealth::new(facts, Duration::from_secs(1)),
        }
    }
}
