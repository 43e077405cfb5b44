//! Tells events as they come: to a person, or as JSON lines to a program.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use watchkeeper::{ObservationHandle, ObservationSnapshot, RecvError};
use watchkeeper_chain::adapter::ChainError;
use watchkeeper_chain::adapter::ethereum::EthereumTransaction;
use watchkeeper_chain::{Block, Header, NodeView, Transaction};

use super::watched::{Event, Observer};

/// Prints lines with the time since it was made.
pub(crate) struct Teller {
    began: Instant,
    json: bool,
    out: Mutex<Box<dyn Write + Send>>,
    /// How many events were printed.
    events: watch::Sender<u64>,
}

impl Teller {
    pub(crate) fn new(json: bool) -> Self {
        Self::to(Box::new(io::stdout()), json)
    }

    fn to(out: Box<dyn Write + Send>, json: bool) -> Self {
        Self { began: Instant::now(), json, out: Mutex::new(out), events: watch::Sender::new(0) }
    }

    /// Says what is done, or how it went.
    pub(crate) fn say(&self, kind: &str, text: fmt::Arguments<'_>) {
        let text = text.to_string();
        self.tell(kind, &text, || json!({ kind: text }));
    }

    /// Says something in words, or as `json`.
    pub(crate) fn tell(&self, kind: &str, text: &str, json: impl FnOnce() -> Value) {
        self.line(Instant::now(), kind, text, json);
    }

    /// Prints every event, until the observation ends.
    pub(crate) async fn follow(&self, handle: ObservationHandle<Observer>) {
        let mut events = handle.subscribe();
        loop {
            match events.recv().await {
                Ok(batch) => {
                    for event in &batch.events {
                        let json = || json!({ "cycle": batch.cycle, "event": as_json(event) });
                        self.line(batch.observed_at, "chain", &as_text(event), json);
                    }
                    self.events.send_modify(|told| *told += batch.events.len() as u64);
                }
                Err(RecvError::Closed(reason)) => {
                    self.events.send_replace(u64::MAX);
                    return self.say("ended", format_args!("{reason}"));
                }
                Err(missed) => {
                    // What was missed is not printed any more: nobody waits for it.
                    let told = handle.latest_snapshot().map_or(0, |snapshot| snapshot.event_count);
                    self.events.send_replace(told);
                    self.say("missed", format_args!("{missed}"));
                }
            }
        }
    }

    /// Waits until all events up to a snapshot are printed by [`follow`](Self::follow), so that what is said of the
    /// snapshot comes behind them.
    pub(crate) async fn told<S>(&self, snapshot: &ObservationSnapshot<S>) {
        let _ = self.events.subscribe().wait_for(|told| *told >= snapshot.event_count).await;
    }

    /// Prints every turn of a node, until the observation ends: that it answers, fails or is not believed. Also that
    /// a whole cycle fails, where the one before did not or for another reason.
    pub(crate) async fn follow_nodes(&self, handle: ObservationHandle<Observer>) {
        let mut watch = handle.watch();
        let (mut told, mut failed) = (BTreeMap::new(), None);
        let mut status = watch.status();
        loop {
            let failure = status.last_error.as_deref();
            if let Some(failure) = failure.filter(|failure| failed.as_ref() != Some(&failure.message)) {
                let json = || json!({ "failed": failure.message, "cycle": failure.cycle });
                self.tell("failed", &failure.to_string(), json);
            }
            failed = failure.map(|failure| failure.message.clone());
            let seen = status.snapshot.iter().flat_map(|snapshot| snapshot.value.chain.nodes.iter());
            for (name, node) in seen {
                let turn = turn(node);
                if told.insert(Arc::clone(name), turn.clone()).as_ref() != Some(&turn) {
                    let json = || json!({ "node": &**name, "is": turn });
                    self.tell("node", &format!("{name} {turn}"), json);
                }
            }
            match watch.changed().await {
                Ok(next) => status = next,
                Err(_) => return,
            }
        }
    }

    fn line(&self, at: Instant, kind: &str, text: &str, json: impl FnOnce() -> Value) {
        let at = at.saturating_duration_since(self.began).as_secs_f64();
        // Lines stay whole.
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever reads may have gone; what is observed goes on.
        let _ = if self.json {
            let mut json = json();
            json["at_s"] = json!((at * 1000.0).round() / 1000.0);
            writeln!(out, "{json}")
        } else {
            let mut lines = text.lines();
            let first = lines.next().unwrap_or_default();
            let first = writeln!(out, "{at:8.3}s  {kind:<7} {first}");
            lines.fold(first, |written, line| written.and_then(|()| writeln!(out, "{:18}{line}", "")))
        };
        let _ = out.flush();
    }
}

/// What is worth a line of a node.
fn turn(node: &NodeView) -> String {
    let failure = node.health.facts.last_failure.as_ref().filter(|_| node.health.is_failing());
    match (failure, &node.error, node.head) {
        (Some(failure), ..) => format!("fails: {failure}"),
        // A node with a head has blocks, only not the one to begin with.
        (None, Some(ChainError::Empty { .. }), Some(head)) => {
            format!("answers, but is at {}, below where the observation is to begin", head.height)
        }
        (None, Some(error), _) => format!("answers, but: {error}"),
        (None, None, Some(_)) => "answers".to_owned(),
        (None, None, None) => "has not answered yet".to_owned(),
    }
}

struct At<'a>(&'a Header);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:.8})", self.0.height, self.0.hash)
    }
}

fn as_text(event: &Event) -> String {
    match event {
        Event::Committed { new } => {
            let transactions: usize = new.iter().map(|block| block.transactions.len()).sum();
            match &new[..] {
                [block] => format!("block {} with {transactions} transactions", At(&block.header)),
                new => format!(
                    "blocks {} to {} with {transactions} transactions",
                    At(&new[0].header),
                    At(&new[new.len() - 1].header)
                ),
            }
        }
        Event::Reorged { old, new, ancestor } => {
            let tip = new.last().map_or(ancestor, |block| &block.header);
            format!(
                "reorg: {} blocks left, {} joined above {}; the tip is {}",
                old.len(),
                new.len(),
                At(ancestor),
                At(tip)
            )
        }
        Event::Reverted { old, ancestor } => {
            format!("{} blocks left; the tip is {}", old.len(), At(ancestor))
        }
        Event::Finalised { block } => format!("final up to {}", At(block)),
        Event::Rivals { tip, rival } => {
            format!("{} and {} weigh the same; the first stays", At(tip), At(rival))
        }
        Event::Lagging { node, behind } => format!("{node} is {behind} blocks behind"),
        Event::CaughtUp { node } => format!("{node} has caught up"),
        Event::Rewound { node, from, to } => format!("{node} went back from {} to {}", At(from), At(to)),
        Event::FinalityBreached { node, finalised, head } => {
            format!("{node} is at {} without the final block {}: not believed", At(head), At(finalised))
        }
        Event::IdentityChanged { node, expected, found } => format!(
            "{node} is on chain {} ({:.8}), not on {} ({:.8}): not believed",
            found.id, found.genesis, expected.id, expected.genesis
        ),
        other => format!("{other:?}"),
    }
}

fn header(header: &Header) -> Value {
    json!({ "height": header.height, "hash": format!("0x{}", header.hash) })
}

fn as_json(event: &Event) -> Value {
    let blocks = |new: &[Arc<Block<EthereumTransaction>>]| {
        let block = |block: &Arc<Block<EthereumTransaction>>| {
            let mut shown = header(&block.header);
            let ids = block.transactions.iter().map(|transaction| format!("0x{}", transaction.id()));
            shown["transactions"] = ids.collect::<Vec<_>>().into();
            shown
        };
        new.iter().map(block).collect::<Vec<_>>()
    };
    let headers = |old: &[Header]| old.iter().map(header).collect::<Vec<_>>();
    match event {
        Event::Committed { new } => json!({ "kind": "committed", "new": blocks(new) }),
        Event::Reorged { old, new, ancestor } => {
            json!({ "kind": "reorged", "old": headers(old), "new": blocks(new), "ancestor": header(ancestor) })
        }
        Event::Reverted { old, ancestor } => {
            json!({ "kind": "reverted", "old": headers(old), "ancestor": header(ancestor) })
        }
        Event::Finalised { block } => json!({ "kind": "finalised", "block": header(block) }),
        Event::Rivals { tip, rival } => {
            json!({ "kind": "rivals", "tip": header(tip), "rival": header(rival) })
        }
        Event::Lagging { node, behind } => json!({ "kind": "lagging", "node": &**node, "behind": behind }),
        Event::CaughtUp { node } => json!({ "kind": "caught_up", "node": &**node }),
        Event::Rewound { node, from, to } => {
            json!({ "kind": "rewound", "node": &**node, "from": header(from), "to": header(to) })
        }
        Event::FinalityBreached { node, finalised, head } => json!({
            "kind": "finality_breached", "node": &**node, "finalised": header(finalised), "head": header(head),
        }),
        Event::IdentityChanged { node, expected, found } => json!({
            "kind": "identity_changed", "node": &**node, "expected": expected.id, "found": found.id,
        }),
        other => json!({ "kind": "other", "text": format!("{other:?}") }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use tokio::time::timeout;
    use watchkeeper::ObservedSource;
    use watchkeeper_chain::adapter::ethereum::EthereumClient;
    use watchkeeper_chain::{ChainConfig, ChainSource};

    use super::super::watched::Watched;
    use super::*;

    struct Lines(mpsc::Sender<Vec<u8>>);

    impl Write for Lines {
        fn write(&mut self, part: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(part.to_vec());
            Ok(part.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn an_observation_that_cannot_begin_is_told_once() {
        let client = EthereumClient::new("http://127.0.0.1:1".parse().unwrap()).unwrap();
        let nodes = vec![ObservedSource::new("rpc1", ChainSource::local(client))];
        let config = ChainConfig { backfill: 0, ..ChainConfig::every(Duration::from_millis(20)) };
        let watched = Watched::start(nodes, config, None).unwrap();
        let (sender, lines) = mpsc::channel();
        let teller = Teller::to(Box::new(Lines(sender)), true);
        let handle = watched.handle();
        let fails_again = async {
            let mut watch = handle.watch();
            while watch.changed().await.unwrap().last_error.is_none_or(|failure| failure.in_a_row < 3) {}
            let _ = watched.runtime.stop().await;
        };
        let told = async { tokio::join!(teller.follow_nodes(watched.handle()), fails_again) };
        timeout(Duration::from_mins(1), told).await.unwrap();
        drop(teller);
        let told = String::from_utf8(lines.iter().flatten().collect()).unwrap();
        let told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [line] = &told[..] else { panic!("{told:?}") };
        assert_eq!(
            (&line["cycle"], line["failed"].as_str().unwrap().contains("backfill is zero")),
            (&json!(0), true)
        );
    }
}
