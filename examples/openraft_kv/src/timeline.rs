//! Prints an observation while it runs: for a person, or as JSON lines for a program.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use watchkeeper::ObservationHandle;
use watchkeeper::runtime::{ObservationStatus, State};
use watchkeeper::subscription::RecvError;
pub use watchkeeper_console::Style;
use watchkeeper_console::{Lines, Look, Table};

use crate::observer::{ClusterView, Leader, RaftObserver};
use crate::sync::lock;

/// Prints what happens, with the time since the timeline was made.
#[derive(Clone, Debug)]
pub struct Timeline {
    lines: Lines,
    summed_up: Arc<AtomicBool>,
    /// The tasks that print; each ends with its observation.
    followers: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

/// The result of the demo.
#[derive(Clone, Debug)]
pub struct Summary {
    /// How many nodes run.
    pub nodes: usize,
    /// How many keys each of them holds.
    pub keys: usize,
    /// The leader that was killed.
    pub first: Leader,
    /// The leader after it.
    pub second: Leader,
    /// From the kill until another leader was agreed on.
    pub failover: Duration,
    /// Cycles of the observation.
    pub cycles: u64,
    /// How many of them failed.
    pub failures: usize,
    /// Ticks that were missed.
    pub missed_ticks: u64,
    /// The total time.
    pub elapsed: Duration,
}

impl Timeline {
    /// Times count from now.
    #[must_use]
    pub fn new(style: Style) -> Self {
        Self {
            lines: Lines::new(style).colours(colour),
            summed_up: Arc::default(),
            followers: Arc::default(),
        }
    }

    /// Shows a table of the nodes on a terminal, and the lines of the timeline elsewhere, until `end`.
    pub async fn watch_until(&self, handle: &ObservationHandle<RaftObserver>, end: impl Future) {
        tokio::pin!(end);
        if self.lines.style() == Style::Terminal && Look::of_stdout() != Look::Lines {
            let _hold = self.lines.hold();
            let mut ended = false;
            let table = Table::of(handle, shown).run(async {
                (&mut end).await;
                ended = true;
            });
            // Where the table cannot be drawn any more, the watching goes on.
            let _ = table.await;
            if ended {
                return;
            }
        }
        end.await;
    }

    /// Prints the next step.
    pub fn step(&self, what: fmt::Arguments<'_>) {
        self.line(Instant::now(), "step", &what.to_string(), || json!({ "step": what.to_string() }));
    }

    /// Waits until all that was followed has ended and is printed.
    pub async fn to_the_end(&self) {
        let followers = std::mem::take(&mut *lock(&self.followers));
        for task in followers {
            // A task that panicked has printed why.
            let _ = task.await;
        }
    }

    /// Prints every event, and every change of what the runtime does, from now on.
    pub fn follow(&self, handle: &ObservationHandle<RaftObserver>) {
        let (events, lifecycle) = (self.clone(), self.clone());
        let mut subscription = handle.subscribe();
        let mut watch = handle.watch();
        let print_events = async move {
            loop {
                match subscription.recv().await {
                    Ok(batch) => {
                        for event in &batch.events {
                            let json = || json!({ "cycle": batch.cycle, "event": event });
                            events.line(batch.observed_at, "cluster", &event.to_string(), json);
                        }
                    }
                    Err(RecvError::Closed(_)) => return,
                    Err(gap) => {
                        let gap = gap.to_string();
                        events.line(Instant::now(), "runtime", &gap, || json!({ "runtime": gap }));
                    }
                }
            }
        };
        let print_lifecycle = async move {
            let mut printed = None;
            let mut status = watch.status();
            loop {
                lifecycle.live(&status);
                let activity = activity(&status);
                if printed.as_ref() != Some(&activity) {
                    let json = || json!({ "runtime": activity, "cycle": status.cycle });
                    lifecycle.line(
                        Instant::now(),
                        "runtime",
                        &format!("{activity} (cycle {})", status.cycle),
                        json,
                    );
                    printed = Some(activity);
                }
                match watch.changed().await {
                    Ok(next) => status = next,
                    Err(_) => return lifecycle.live_end(),
                }
            }
        };
        let mut followers = lock(&self.followers);
        followers.extend([tokio::spawn(print_events), tokio::spawn(print_lifecycle)]);
    }

    /// Whether the summary was printed.
    #[must_use]
    pub fn is_summed_up(&self) -> bool {
        self.summed_up.load(Ordering::Relaxed)
    }

    /// Prints the summary.
    pub fn summary(&self, summary: &Summary) {
        self.summed_up.store(true, Ordering::Relaxed);
        let Summary { nodes, keys, first, second, failover, cycles, failures, missed_ticks, elapsed } =
            summary;
        let text = format!(
            "{nodes} nodes hold {keys} keys and agree; {first} was killed, {second} took over after {:.3} s; \
             {cycles} cycles, {failures} failed, {missed_ticks} ticks missed, {:.1} s",
            failover.as_secs_f64(),
            elapsed.as_secs_f64(),
        );
        self.line(Instant::now(), "done", &text, || {
            json!({ "summary": {
                "nodes": nodes, "keys": keys, "killed": first, "elected": second,
                "failover_ms": failover.as_millis(), "cycles": cycles, "failed_cycles": failures,
                "missed_ticks": missed_ticks, "elapsed_ms": elapsed.as_millis(),
            } })
        });
    }

    fn line(&self, at: Instant, kind: &str, text: &str, json: impl FnOnce() -> Value) {
        self.lines.line(at, kind, text, |at| {
            let mut json = json();
            json["at_s"] = json!(at);
            json
        });
    }

    /// The last line of a terminal: what the runtime does now.
    fn live(&self, status: &ObservationStatus<RaftObserver>) {
        let age =
            status.freshness.age().map_or("never".to_owned(), |age| format!("{:.1} s", age.as_secs_f64()));
        self.lines.status(&format!(
            "          {:<10} cycle {}, {} sources, data is {age} old",
            status.state.kind().to_string(),
            status.cycle,
            status.source_names.len(),
        ));
    }

    fn live_end(&self) {
        self.lines.status("");
    }
}

fn colour(kind: &str) -> &'static str {
    match kind {
        "cluster" => "\x1b[36m",
        "done" => "\x1b[32m",
        "step" => "\x1b[1m",
        _ => "\x1b[2m",
    }
}

/// A node in a table.
fn shown(cluster: &ClusterView, name: &str) -> Option<String> {
    let (_, node) = cluster.present().find(|(present, _)| ***present == *name)?;
    let role =
        if cluster.leader.is_some_and(|leader| leader.node_id == node.node_id) { "leads" } else { "follows" };
    Some(format!("{role}, {} keys", node.kv.len()))
}

/// What the runtime does. Refreshing, polling and idle are one: a line for each would hide the rest.
fn activity(status: &ObservationStatus<RaftObserver>) -> String {
    let sources = status.source_names.join(" ");
    match status.state {
        State::Refreshing | State::Polling | State::Idle if status.freshness.is_stale() => {
            "observing, but the data is stale".to_owned()
        }
        State::Refreshing | State::Polling | State::Idle => format!("observing {sources}"),
        State::Failed { .. } => match &status.last_error {
            Some(failure) => format!("failed in {}: {}", failure.stage, failure.message),
            None => "failed".to_owned(),
        },
        State::Starting => "starting".to_owned(),
        State::Stopped { reason } => format!("stopped: {reason}"),
    }
}
