//! The main job: a cluster is observed, its leader is killed, and a person sees what happened.
//!
//! Whatever is waited for here is waited for on the observation's handle.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;
use watchkeeper::{
    ObservationConfig, ObservationHandle, ObservationRuntime, ObservationRuntimeError, ObservedSource, Unmet,
    source_fn,
};

use crate::api::NodeId;
use crate::observer::{Leader, RaftObserver};
use crate::timeline::{Style, Summary, Timeline};
use crate::{ClientError, ClusterError, ClusterOptions, LocalCluster};

/// How long anything that is waited for may take.
const WINDOW: Duration = Duration::from_secs(30);
/// Keys that are written before and after the failover each.
const KEYS: usize = 8;
/// How often one write is tried before it is given up, each time with another leader.
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
    #[error("cannot write {key} after {TRIES} tries")]
    Write {
        /// Which key.
        key: String,
        /// What the last leader said.
        source: ClientError,
    },
}

/// Runs the demo to its end; with `keep`, for ever. Dropping the future ends it and leaves no
/// process and no directory behind.
///
/// # Errors
///
/// [`DemoError`]; nothing is left behind then either.
pub async fn run(flags: &DemoFlags) -> Result<(), DemoError> {
    if flags.nodes < 3 {
        return Err(DemoError::TooFewNodes { nodes: flags.nodes });
    }
    let style = match (flags.json, std::io::stdout().is_terminal()) {
        (true, _) => Style::Json,
        (false, true) => Style::Terminal,
        (false, false) => Style::Plain,
    };
    let timeline = Timeline::new(style);
    let options = ClusterOptions { nodes: flags.nodes, ..ClusterOptions::default() };
    timeline.step(format_args!("starting {} nodes", flags.nodes));
    let mut cluster = LocalCluster::start(options).await?;
    // Declared behind the cluster: however this ends, the observer goes before its nodes.
    let runtime = observe(&cluster, flags.interval).await?;
    let told = timeline.follow(&runtime.handle());
    let mut scenario = Scenario { cluster: &mut cluster, handle: runtime.handle(), timeline: &timeline };
    let summary = scenario.run().await?;
    timeline.summary(&summary);
    if flags.keep {
        timeline.step(format_args!("watching until Ctrl-C"));
        std::future::pending::<()>().await;
    }
    let _ = runtime.stop().await;
    told.to_the_end().await;
    Ok(())
}

/// Watches every node of the cluster, dead ones too: that they are lost is what there is to see.
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
        let name = |client: &crate::NodeClient| format!("n{}", client.id().unwrap_or_default());
        let nodes = roster.all().into_iter().map(|client| ObservedSource::new(&name(&client), client)).collect();
        async { Ok(nodes) }
    });
    let stale_after = Duration::from_secs(1).max(interval.saturating_mul(3));
    let observer = RaftObserver::new(interval, stale_after);
    let config = ObservationConfig { interval, history_limit: 1024, ..ObservationConfig::default() };
    ObservationRuntime::start(nodes, observer, config).await
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
        let first = self.leader("a leader is agreed on").await?;
        self.write_keys(0..KEYS).await?;

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
        let second = elected.value.leader.unwrap_or(first);
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

    async fn leader(&self, label: &str) -> Result<Leader, DemoError> {
        let agreed = self.handle.eventually(label, |cluster| cluster.leader.is_some()).or_now().within(WINDOW);
        let snapshot = agreed.await?;
        // The predicate has seen one.
        snapshot.value.leader.ok_or_else(|| unreachable!("a snapshot without a leader was accepted"))
    }

    async fn write_keys(&self, keys: std::ops::Range<usize>) -> Result<(), DemoError> {
        self.timeline.step(format_args!("writing {} keys", keys.len()));
        for key in keys {
            self.write(&format!("key-{key:02}"), &format!("value {key}")).await?;
        }
        Ok(())
    }

    /// Writes to whoever leads. A write that was interrupted by an election is repeated with its
    /// serial, so that it is applied once.
    async fn write(&self, key: &str, value: &str) -> Result<(), DemoError> {
        let mut leader = self.leader("there is a leader to write to").await?;
        for tried in 1.. {
            match self.client(leader.node_id)?.write(key, value, 1).await {
                Ok(_) => return Ok(()),
                Err(source) if tried == TRIES => return Err(DemoError::Write { key: key.to_owned(), source }),
                Err(_) => {
                    // Only what is seen from now on can be news.
                    let found = self
                        .handle
                        .eventually("there is a leader to write to", |cluster| cluster.leader.is_some())
                        .within(WINDOW)
                        .await?;
                    leader = found.value.leader.unwrap_or(leader);
                }
            }
        }
        Ok(())
    }

    fn client(&self, id: NodeId) -> Result<crate::NodeClient, ClusterError> {
        self.cluster.client(id)
    }
}
