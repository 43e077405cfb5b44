//! Prints events as they come: as text, or as JSON lines.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use watchkeeper::subscription::RecvError;
use watchkeeper::{ObservationBatch, ObservationFailure, ObservationHandle, ObservationSnapshot};
use watchkeeper_chain::{Detail, Hash};
use watchkeeper_console::{Hold, Lines, Style};

use super::condition::{Condition, Conditions, Note};
use super::event::{as_json, as_text};
use super::watched::{Event, Observer};

/// Prints lines with the time since it was made.
pub(crate) struct Reporter {
    lines: Lines,
    /// How much of each block is to be read: less is printed as such.
    wanted: Detail,
    /// The number of the batch of events that is printed next.
    next: watch::Sender<u64>,
    /// Whether events were dropped before they could be printed.
    missed: AtomicBool,
    /// The block where a checkpoint begins, and what helps if a node is on a branch without it.
    begins: OnceLock<(Hash, String)>,
}

impl Reporter {
    pub(crate) fn new(json: bool) -> Self {
        Self::to(io::stdout(), json)
    }

    fn to(out: impl Write + Send + 'static, json: bool) -> Self {
        let style = if json { Style::Json } else { Style::Plain };
        let lines = Lines::to(out, style).kind_width(7);
        let (next, missed, begins) = (watch::Sender::new(0), AtomicBool::new(false), OnceLock::new());
        Self { lines, wanted: Detail::Results, next, missed, begins }
    }

    /// Blocks are expected to be read this far.
    pub(crate) fn expecting(self, wanted: Detail) -> Self {
        Self { wanted, ..self }
    }

    /// Waits until a line cannot be written any more: nobody reads the pipe, or the disk is full.
    pub(crate) async fn unread(&self) {
        self.lines.closed().await;
    }

    /// Whether every line so far could be written.
    pub(crate) fn is_read(&self) -> bool {
        !self.lines.is_closed()
    }

    /// Whether events were dropped before they could be printed.
    pub(crate) fn has_missed(&self) -> bool {
        self.missed.load(Ordering::Relaxed)
    }

    /// Says what helps with an event about a node on a branch without this block, with which a checkpoint begins.
    pub(crate) fn begins_with(&self, lowest: Hash, fix: String) {
        let _ = self.begins.set((lowest, fix));
    }

    /// Holds lines back while a table has the terminal.
    pub(crate) fn hold(&self) -> Hold {
        self.lines.hold()
    }

    /// Prints a line; as JSON, `kind` is the key of the text.
    pub(crate) fn say(&self, kind: &str, text: fmt::Arguments<'_>) {
        let text = text.to_string();
        self.report(kind, &text, || json!({ kind: text }));
    }

    /// Prints a line as text, or as `json`.
    pub(crate) fn report(&self, kind: &str, text: &str, json: impl FnOnce() -> Value) {
        self.line(Instant::now(), kind, text, json);
    }

    /// Prints every event, until the observation ends; also earlier ones that the history still has.
    pub(crate) async fn follow(&self, handle: ObservationHandle<Observer>) {
        let now = handle.subscribe();
        let mut events = handle.subscribe_from(now.cursor().at(0)).unwrap_or(now);
        loop {
            match events.recv().await {
                Ok(batch) => {
                    self.batch(&batch);
                    self.next.send_replace(batch.seq + 1);
                }
                Err(RecvError::Closed(reason)) => {
                    self.next.send_replace(u64::MAX);
                    return self.say("ended", format_args!("{reason}"));
                }
                Err(missed) => {
                    self.missed.store(true, Ordering::Relaxed);
                    // Missed events are never printed: a wait for them must end.
                    self.next.send_replace(events.cursor().seq());
                    self.say("missed", format_args!("{missed}"));
                }
            }
        }
    }

    fn batch(&self, batch: &ObservationBatch<Event>) {
        for event in &batch.events {
            let fix = self.fix(event);
            let json = || {
                let mut json = json!({ "cycle": batch.cycle, "event": as_json(event, self.wanted) });
                if let Some(fix) = fix {
                    json["fix"] = fix.into();
                }
                json
            };
            let text = as_text(event, self.wanted);
            let text = fix.map_or_else(|| text.clone(), |fix| format!("{text}; {fix}"));
            self.line(batch.observed_at, "chain", &text, json);
        }
    }

    fn fix(&self, event: &Event) -> Option<&str> {
        let Event::FinalityBreached { finalised, .. } = event else { return None };
        let (_, fix) = self.begins.get().filter(|(lowest, _)| *lowest == finalised.hash)?;
        Some(fix)
    }

    /// Waits until [`follow`](Self::follow) has printed all events up to a snapshot, so that lines about the snapshot
    /// come after them.
    pub(crate) async fn wait_until_printed<S>(&self, snapshot: &ObservationSnapshot<S>) {
        let _ = self.next.subscribe().wait_for(|next| *next >= snapshot.cursor.seq()).await;
    }

    /// Prints every change of a node's condition, until the observation ends: it answers, fails or is not believed.
    /// Also prints a failed cycle, unless the previous one failed in the same way. A cycle begins each `interval`.
    pub(crate) async fn follow_nodes(&self, handle: ObservationHandle<Observer>, interval: Duration) {
        let mut watch = handle.watch();
        let (mut nodes, mut cycles) = (BTreeMap::new(), Conditions::every(interval));
        let mut status = watch.status();
        loop {
            self.cycle(Instant::now(), status.last_error.as_deref(), &mut cycles);
            let seen = status.snapshot.iter().flat_map(|snapshot| snapshot.value.chain.nodes.iter());
            for (name, node) in seen {
                let conditions = nodes.entry(Arc::clone(name)).or_insert_with(|| Conditions::every(interval));
                if let Some(is) = conditions.note(Instant::now(), &Condition::of(node)) {
                    self.node(name, &is);
                }
            }
            match watch.changed().await {
                Ok(next) => status = next,
                Err(_) => return,
            }
        }
    }

    /// Prints how the last cycle failed, if that has changed. That cycles succeed is printed only after they alternated.
    fn cycle(&self, now: Instant, failure: Option<&ObservationFailure>, cycles: &mut Conditions) {
        let condition = Condition::cycle(failure);
        let alternated = cycles.alternates();
        let Some(note) = cycles.judge(now, &condition) else { return };
        let text = match note {
            Note::Is if failure.is_none() && !alternated => return,
            Note::Is => condition.text().to_owned(),
            Note::Alternates(window) => {
                let window = humantime::format_duration(window);
                let text = condition.text();
                format!(
                    "cycles alternate: printed again when one outcome has stayed for {window}; for now {text}"
                )
            }
        };
        let alternates = matches!(note, Note::Alternates(_));
        self.report("failed", &text, || {
            let failed = failure.map(|failure| &failure.message);
            let mut json = json!({ "failed": failed, "cycle": failure.map(|failure| failure.cycle) });
            if alternates {
                json["alternates"] = true.into();
            }
            json
        });
    }

    /// Prints the condition of a node.
    pub(super) fn node(&self, name: &str, is: &str) {
        self.report("node", &format!("{name} {is}"), || json!({ "node": name, "is": is }));
    }

    fn line(&self, at: Instant, kind: &str, text: &str, json: impl FnOnce() -> Value) {
        self.lines.line(at, kind, text, |at| {
            let mut json = json();
            json["at_s"] = json!(at);
            json
        });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::mpsc;

    use tokio::time::timeout;
    use watchkeeper::{ObservationFailure, ObservedSource};
    use watchkeeper_chain::{ChainConfig, ChainSource, Start};
    use watchkeeper_chain_ethereum::EthereumClient;

    use super::super::watched::{Seen, Watched};
    use super::*;
    use crate::fake::{FakeNode, branch, chain};

    const INTERVAL: Duration = Duration::from_millis(20);

    struct Pipe(mpsc::Sender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, part: &[u8]) -> io::Result<usize> {
            self.0.send(part.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(part.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn that_nobody_reads_any_more_is_noticed_with_the_next_line() {
        let (sender, lines) = mpsc::channel();
        let reporter = Reporter::to(Pipe(sender), false);
        reporter.say("step", format_args!("one"));
        drop(lines);
        timeout(Duration::from_secs(1), reporter.unread()).await.unwrap_err();
        reporter.say("step", format_args!("two"));
        timeout(Duration::from_secs(1), reporter.unread()).await.unwrap();
    }

    #[tokio::test]
    async fn an_observation_that_cannot_begin_is_reported_once() {
        let client = EthereumClient::new("http://127.0.0.1:1".parse().unwrap()).unwrap();
        let nodes = vec![ObservedSource::new("rpc1", ChainSource::local(client))];
        let config = ChainConfig { backfill: 0, ..ChainConfig::every(INTERVAL) };
        let watched = Watched::start(nodes, config, None).unwrap();
        let (sender, lines) = mpsc::channel();
        let reporter = Reporter::to(Pipe(sender), true);
        let handle = watched.handle();
        let fails_again = async {
            let mut watch = handle.watch();
            let third = |failure: &Arc<ObservationFailure>| failure.consecutive >= 3;
            watch.wait_for(|status| status.last_error.as_ref().is_some_and(third)).await.unwrap();
            let _ = watched.runtime.stop().await;
        };
        let printing = async { tokio::join!(reporter.follow_nodes(watched.handle(), INTERVAL), fails_again) };
        timeout(Duration::from_mins(1), printing).await.unwrap();
        drop(reporter);
        let printed = String::from_utf8(lines.iter().flatten().collect()).unwrap();
        let printed: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [line] = &printed[..] else { panic!("{printed:?}") };
        assert_eq!(
            (&line["cycle"], line["failed"].as_str().unwrap().contains("backfill is zero")),
            (&json!(0), true)
        );
    }

    /// ```text
    /// cycles:   fails, succeeds, fails, ... once a second for five minutes, other words each time | then succeeds
    /// printed:  twice, "alternate"                                                                 after a minute
    /// ```
    #[tokio::test]
    async fn cycles_that_fail_now_and_then_are_printed_as_such_once() {
        let client = EthereumClient::new("http://127.0.0.1:1".parse().unwrap()).unwrap();
        let nodes = vec![ObservedSource::new("rpc1", ChainSource::local(client))];
        let config = ChainConfig { backfill: 0, ..ChainConfig::every(INTERVAL) };
        let watched = Watched::start(nodes, config, None).unwrap();
        let failed = watched.handle().watch().wait_for(|status| status.last_error.is_some()).await.unwrap();
        let mut failure = ObservationFailure::clone(failed.last_error.as_deref().unwrap());
        let (sender, lines) = mpsc::channel();
        let reporter = Reporter::to(Pipe(sender), true);
        let (began, mut cycles) = (Instant::now(), Conditions::every(Duration::from_secs(1)));
        for second in 0..500 {
            failure.message = format!("no answer after {second} ms");
            let failure = (second < 300 && second % 2 == 0).then_some(&failure);
            reporter.cycle(began + Duration::from_secs(second), failure, &mut cycles);
        }
        drop(reporter);
        let printed = String::from_utf8(lines.iter().flatten().collect()).unwrap();
        let printed: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let shown: Vec<_> = printed.iter().map(|line| (&line["failed"], &line["alternates"])).collect();
        let message = |second: u64| json!(format!("no answer after {second} ms"));
        let expected = [
            (&message(0), &Value::Null),
            (&message(2), &Value::Null),
            (&message(4), &json!(true)),
            (&Value::Null, &Value::Null),
        ];
        assert_eq!(shown, expected);
    }

    /// ```text
    /// events:  blocks 1 to 3                                   (nothing more comes)
    /// reporter:                  begins to follow, waits for them
    /// ```
    #[tokio::test]
    async fn earlier_events_are_printed_and_a_wait_for_them_returns() {
        let node = FakeNode::answering(chain("0x1", branch(0, 3))).await;
        let nodes = vec![ObservedSource::new("rpc1", ChainSource::local(node.client()))];
        let config = ChainConfig { start: Start::Genesis, ..ChainConfig::every(Duration::from_millis(50)) };
        let watched = Watched::start(nodes, config, None).unwrap();
        let handle = watched.handle();
        let is_at_3 = |seen: &Seen| seen.chain.tip.is_some_and(|tip| tip.height == 3);
        let wait = handle.eventually("the tip is at 3", is_at_3).or_now().within(Duration::from_mins(1));
        let seen = wait.await.unwrap();
        let (sender, lines) = mpsc::channel();
        let reporter = Reporter::to(Pipe(sender), false);
        tokio::select! {
            () = reporter.follow(watched.handle()) => panic!("it goes on"),
            waited = timeout(Duration::from_mins(1), reporter.wait_until_printed(&seen)) => waited.unwrap(),
        }
        drop(reporter);
        let printed = String::from_utf8(lines.iter().flatten().collect()).unwrap();
        assert!(printed.contains(" 3 (") && !printed.contains("missed"), "{printed}");
    }
}
