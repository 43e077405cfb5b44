//! The main job: a cluster is observed, its leader is killed, and a person sees what happened.
//!
//! Whatever is waited for here is waited for on the observation's handle.

use std::io::IsTerminal;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;
use watchkeeper::{
    ObservationConfig, ObservationHandle, ObservationRuntime, ObservationRuntimeError, ObservationSnapshot,
    ObservedSource, SourceProvider, Unmet, WaitBuilder, source_fn,
};

use crate::api::Written;
use crate::observer::{ClusterView, RaftObserver};
use crate::timeline::{Style, Summary, Timeline};
use crate::{ClientError, ClusterError, ClusterOptions, LocalCluster, NodeClient};

/// How long anything that is waited for may take.
const WINDOW: Duration = Duration::from_secs(30);
/// Keys that are written before and after the failover each.
const KEYS: usize = 8;
/// How often one write is repeated before it is given up, each time with the leader then.
const TRIES: usize = 5;

/// What the demo can be told.
#[derive(Clone, Debug, Args)]
pub struct DemoFlags {
    /// How many nodes, at least 3: fewer do not survive the loss of one
    #[arg(long, default_value_t = 3)]
    pub nodes: u64,
    /// How often the cluster is looked at, such as 50ms or 1s
    #[arg(long, default_value = "100ms", value_parser = humantime::parse_duration)]
    pub interval: Duration,
    /// Keep running and watching until Ctrl-C
    #[arg(long)]
    pub keep: bool,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Why the demo failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// The cluster cannot survive what is about to happen to it.
    #[error("--nodes is {nodes}: the cluster must survive the loss of its leader, which takes 3 or more")]
    TooFewNodes {
        /// What was asked for.
        nodes: u64,
    },
    /// The processes could not be handled.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The observation did not start.
    #[error("cannot observe the cluster")]
    Observation(#[from] ObservationRuntimeError),
    /// The cluster did not do what was waited for.
    #[error(transparent)]
    Unmet(#[from] Unmet),
    /// A write was refused by one leader after the other.
    #[error("cannot write {key}, also not after {TRIES} more tries")]
    Write {
        /// Which key.
        key: String,
        /// What the last leader said.
        source: ClientError,
    },
    /// A signal came first.
    #[error("interrupted; the cluster is gone")]
    Interrupted,
}

/// Runs the demo to its end; with `keep`, it then watches until `interrupted`.
///
/// However it ends, no process and no directory is left behind; also when the future is dropped.
///
/// # Errors
///
/// [`DemoError`].
pub async fn run(flags: &DemoFlags, interrupted: impl Future<Output = ()>) -> Result<(), DemoError> {
    let style = match (flags.json, std::io::stdout().is_terminal()) {
        (true, _) => Style::Json,
        (false, true) => Style::Terminal,
        (false, false) => Style::Plain,
    };
    let timeline = Timeline::new(style);
    let mut interrupted = pin!(interrupted);
    let mut cluster = tokio::select! {
        cluster = start(flags, &timeline) => cluster?,
        () = &mut interrupted => return Err(DemoError::Interrupted),
    };
    // Declared behind the cluster: even a panic drops the observer before its nodes.
    let runtime = observe(&cluster, flags.interval).await?;
    let printed = timeline.follow(&runtime.handle());
    let mut scenario = Scenario { cluster: &mut cluster, handle: runtime.handle(), timeline: &timeline };
    let result = tokio::select! {
        summary = scenario.run() => summary.map(|summary| timeline.summary(&summary)),
        () = &mut interrupted => Err(DemoError::Interrupted),
    };
    if result.is_ok() && flags.keep {
        timeline.step(format_args!("watching until Ctrl-C"));
        interrupted.await;
    }
    let _ = runtime.stop().await;
    printed.to_the_end().await;
    result
}

async fn start(flags: &DemoFlags, timeline: &Timeline) -> Result<LocalCluster, DemoError> {
    if flags.nodes < 3 {
        return Err(DemoError::TooFewNodes { nodes: flags.nodes });
    }
    timeline.step(format_args!("starting {} nodes", flags.nodes));
    let options = ClusterOptions { nodes: flags.nodes, ..ClusterOptions::default() };
    Ok(LocalCluster::start(options).await?)
}

/// Watches every node that the cluster ever started, dead ones too: that they are lost is what
/// there is to see.
///
/// # Errors
///
/// [`ObservationRuntimeError`]: the interval is zero or absurd.
pub async fn observe(
    cluster: &LocalCluster,
    interval: Duration,
) -> Result<ObservationRuntime<RaftObserver>, ObservationRuntimeError> {
    let roster = cluster.roster();
    let nodes = source_fn(move || {
        let nodes = sources(&roster.all());
        async { Ok(nodes) }
    });
    observe_nodes(nodes, interval).await
}

/// Watches the nodes that `nodes` provides.
///
/// # Errors
///
/// [`ObservationRuntimeError`]: the interval is zero or absurd.
pub async fn observe_nodes(
    nodes: impl SourceProvider<NodeClient>,
    interval: Duration,
) -> Result<ObservationRuntime<RaftObserver>, ObservationRuntimeError> {
    let stale_after =
        interval.saturating_mul(3).clamp(Duration::from_secs(1), Duration::from_secs(24 * 3600));
    let observer = RaftObserver::new(interval, stale_after);
    let config = ObservationConfig { interval, history_limit: 1024, ..ObservationConfig::default() };
    ObservationRuntime::start(nodes, observer, config).await
}

/// Nodes as sources, called `n1`, `n2` and so on.
#[must_use]
pub fn sources(clients: &[NodeClient]) -> Vec<ObservedSource<NodeClient>> {
    let source = |client: &NodeClient| {
        let name = client.id().map_or_else(|| client.addr().to_owned(), |id| format!("n{id}"));
        ObservedSource::new(&name, client.clone())
    };
    clients.iter().map(source).collect()
}

/// Writes to whoever leads. A write that an election interrupts is repeated with its serial, so
/// that it is applied once.
///
/// # Errors
///
/// [`DemoError::Write`] when leader after leader refused, [`DemoError::Unmet`] when there was none
/// to write to.
pub async fn write(
    handle: &ObservationHandle<RaftObserver>,
    (key, value, serial): (&str, &str, u64),
) -> Result<Written, DemoError> {
    let mut seen = leading(handle).or_now().within(WINDOW).await?;
    let mut tried = 0;
    loop {
        let Some(leader) = seen.value.leader_client() else { unreachable!("the wait was for a leader") };
        match leader.write(key, value, serial).await {
            Ok(written) => return Ok(written),
            Err(_) if tried < TRIES => tried += 1,
            Err(source) => return Err(DemoError::Write { key: key.to_owned(), source }),
        }
        // Only what is seen from now on can be news.
        seen = leading(handle).within(WINDOW).await?;
    }
}

/// A wait for a leader that is agreed on.
fn leading(
    handle: &ObservationHandle<RaftObserver>,
) -> WaitBuilder<'static, RaftObserver, Arc<ObservationSnapshot<ClusterView>>> {
    handle.eventually("a leader is agreed on", |cluster| cluster.leader.is_some())
}

struct Scenario<'a> {
    cluster: &'a mut LocalCluster,
    handle: ObservationHandle<RaftObserver>,
    timeline: &'a Timeline,
}

impl Scenario<'_> {
    async fn run(&mut self) -> Result<Summary, DemoError> {
        let began = Instant::now();
        self.timeline.step(format_args!("forming the cluster"));
        self.cluster.form().await?;
        self.write_keys(0..KEYS).await?;
        // Nothing keeps the leader from changing while keys are written: who leads now is killed.
        let written = leading(&self.handle).or_now().within(WINDOW).await?;
        let Some(first) = written.value.leader else { unreachable!("the wait was for a leader") };

        self.timeline.step(format_args!("killing the leader, n{}, with SIGKILL", first.node_id));
        let killed = Instant::now();
        self.cluster.kill(first.node_id).await?;
        let elected = self
            .handle
            .eventually("another leader is agreed on", |cluster| {
                cluster.leader.is_some_and(|leader| leader.node_id != first.node_id)
            })
            .within(WINDOW)
            .await?;
        let Some(second) = elected.value.leader else { unreachable!("the wait was for a leader") };
        let failover = elected.observed_at - killed;
        self.write_keys(KEYS..2 * KEYS).await?;

        self.timeline.step(format_args!("restarting n{}", first.node_id));
        self.cluster.restart(first.node_id).await?;
        self.handle
            .eventually("all nodes hold 16 keys and agree on the voters", |cluster| {
                cluster.all(|node| node.kv.len() == 2 * KEYS && node.voters == cluster.voters)
            })
            .within(WINDOW)
            .await?;
        let status = self.handle.status();
        Ok(Summary {
            nodes: self.cluster.clients().len(),
            keys: 2 * KEYS,
            first,
            second,
            failover,
            cycles: status.cycle + 1,
            failures: self.handle.failures().len(),
            missed_ticks: status.missed_ticks,
            elapsed: began.elapsed(),
        })
    }

    async fn write_keys(&self, keys: std::ops::Range<usize>) -> Result<(), DemoError> {
        self.timeline.step(format_args!("writing {} keys", keys.len()));
        for key in keys {
            write(&self.handle, (&format!("key-{key:02}"), &format!("value {key}"), 1)).await?;
        }
        Ok(())
    }
}
