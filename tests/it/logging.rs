//! What tracing is told: a span for each runtime, cycles at debug, transitions at trace; failures in
//! a row warn at 1, 2, 4, 8 ..., and the recovery informs with their count.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::common::{Act, App, Call, at, each_second, ms};

/// Writes down every line and every span.
#[derive(Clone, Default)]
pub(crate) struct Listener {
    heard: Arc<Mutex<Heard>>,
    spans: Arc<AtomicU64>,
}

#[derive(Default)]
struct Heard {
    spans: BTreeMap<u64, String>,
    entered: Vec<u64>,
    lines: Vec<Line>,
}

struct Line {
    level: Level,
    text: String,
    span: Option<u64>,
}

/// `message field=value ...`
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0.insert_str(0, &format!("{value:?}"));
        } else {
            write!(self.0, " {}={value:?}", field.name()).unwrap();
        }
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("watchkeeper")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.spans.fetch_add(1, Ordering::Relaxed) + 1;
        let mut text = Text::default();
        span.record(&mut text);
        self.heard.lock().unwrap().spans.insert(id, format!("{}{}", span.metadata().name(), text.0));
        Id::from_u64(id)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let mut heard = self.heard.lock().unwrap();
        let span = heard.entered.last().copied();
        heard.lines.push(Line { level: *event.metadata().level(), text: text.0, span });
    }

    fn enter(&self, span: &Id) {
        self.heard.lock().unwrap().entered.push(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        assert_eq!(self.heard.lock().unwrap().entered.pop(), Some(span.into_u64()));
    }
}

impl Listener {
    /// The lines of one level that begin like this.
    pub(crate) fn lines(&self, level: Level, beginning: &str) -> Vec<String> {
        let heard = self.heard.lock().unwrap();
        let lines = heard.lines.iter().filter(|line| line.level == level && line.text.starts_with(beginning));
        lines.map(|line| line.text.clone()).collect()
    }

    fn count(&self, level: Level) -> usize {
        self.lines(level, "").len()
    }

    /// The span that each line like this one was written in.
    pub(crate) fn spans_of(&self, text: &str) -> Vec<String> {
        let heard = self.heard.lock().unwrap();
        let lines = heard.lines.iter().filter(|line| line.text == text);
        lines.map(|line| line.span.map_or(String::new(), |span| heard.spans[&span].clone())).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_failures_warn_seven_times_and_the_recovery_informs_once() {
    let listener = Listener::default();
    let _listening = tracing::subscriber::set_default(listener.clone());
    let app = App::new();
    app.then(Call::Poll, (0..100).map(|_| Act::Err("down")));
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    at(start, 100_500).await;

    let warned: Vec<_> = [1, 2, 4, 8, 16, 32, 64]
        .map(|n| format!("cycle failed cycle={n} stage=poll cause=error in_a_row={n} error=\"down\""))
        .into();
    assert_eq!(listener.lines(Level::WARN, ""), warned);
    assert_eq!(listener.lines(Level::DEBUG, "cycle failed").len(), 93, "the others are told at debug");
    assert_eq!((listener.count(Level::INFO), listener.count(Level::ERROR)), (0, 0));

    at(start, 103_500).await;
    assert_eq!(listener.lines(Level::INFO, ""), ["recovered cycle=101 after_failures=100"]);
    assert_eq!(listener.count(Level::WARN), 7);
    drop(runtime);
}

#[tokio::test(start_paused = true)]
async fn a_new_row_of_failures_warns_anew() {
    let listener = Listener::default();
    let _listening = tracing::subscriber::set_default(listener.clone());
    let app = App::new();
    let polls = [Act::Err("a"), Act::Err("b"), Act::Err("c"), Act::Ok(vec![]), Act::Err("d")];
    app.then(Call::Poll, polls);
    let start = Instant::now();
    let _runtime = app.start(each_second()).await;
    at(start, 6_500).await;
    let warned: Vec<_> =
        listener.lines(Level::WARN, "").iter().map(|line| line[line.len() - 3..].to_owned()).collect();
    assert_eq!(warned, ["\"a\"", "\"b\"", "\"d\""]);
    let informed = listener.lines(Level::INFO, "");
    assert_eq!(informed, ["recovered cycle=4 after_failures=3", "recovered cycle=6 after_failures=1"]);
}

#[tokio::test(start_paused = true)]
async fn cycles_at_debug_and_transitions_at_trace() {
    let listener = Listener::default();
    let _listening = tracing::subscriber::set_default(listener.clone());
    let app = App::new();
    app.then(Call::Poll, [Act::slow(100), Act::Err("down")]);
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    at(start, 2_500).await;
    let _ = runtime.stop().await;

    let cycles = [
        "cycle succeeded cycle=0 generation=1 elapsed=0ns sources=1",
        "cycle succeeded cycle=1 generation=1 elapsed=100ms sources=1",
    ];
    assert_eq!(listener.lines(Level::DEBUG, ""), cycles);
    let moved: Vec<_> = [
        "from=starting to=idle cycle=0",
        "from=idle to=refreshing cycle=1",
        "from=refreshing to=polling cycle=1",
        "from=polling to=idle cycle=1",
        "from=idle to=refreshing cycle=2",
        "from=refreshing to=polling cycle=2",
        "from=polling to=failed (poll, 1 in a row) cycle=2",
        "from=failed (poll, 1 in a row) to=stopped (stop was requested) cycle=2",
    ]
    .map(|moved| format!("transition {moved}"))
    .into();
    assert_eq!(listener.lines(Level::TRACE, ""), moved);
}

#[tokio::test(start_paused = true)]
async fn one_span_for_each_runtime_names_instance_and_observer() {
    let listener = Listener::default();
    let _listening = tracing::subscriber::set_default(listener.clone());
    let start = Instant::now();
    let runtimes = [App::new().start(each_second()).await, App::new().start(each_second()).await];
    at(start, 3_500).await;
    for runtime in &runtimes {
        let _ = runtime.stop().await;
    }

    let heard = listener.heard.lock().unwrap();
    let spans: Vec<_> = heard.spans.values().cloned().collect();
    let [(first, of_first), (second, of_second)] = [0, 1].map(|nth: usize| {
        let named = spans[nth].strip_prefix("observation instance=").unwrap();
        named.split_once(' ').unwrap()
    });
    assert_eq!(spans.len(), 2);
    assert!(first.parse::<u64>().unwrap() < second.parse::<u64>().unwrap(), "{spans:?}");
    assert_eq!([of_first, of_second], ["observer=\"it::common::App\""; 2]);
    // Every line is told inside the span of its runtime, four cycles and the end in each.
    for span in heard.spans.keys() {
        let lines = heard.lines.iter().filter(|line| line.span == Some(*span));
        let cycles = lines.filter(|line| line.text.starts_with("cycle succeeded")).count();
        assert_eq!(cycles, 4, "span {span}");
    }
    assert!(heard.lines.iter().all(|line| line.span.is_some()));
}

/// What nobody can be blamed for is not lost either.
#[tokio::test(start_paused = true)]
async fn an_app_s_own_lines_are_inside_the_span_too() {
    let listener = Listener::default();
    let _listening = tracing::subscriber::set_default(listener.clone());
    let provider = watchkeeper::source_fn(async || {
        tracing::info!(target: "watchkeeper::test", "looking");
        Ok(vec![])
    });
    let runtime = watchkeeper::ObservationRuntime::start(provider, App::new(), each_second()).await.unwrap();
    tokio::time::sleep(ms(2_500)).await;
    drop(runtime);
    let heard = listener.heard.lock().unwrap();
    let inside = heard.lines.iter().filter(|line| line.text == "looking" && line.span == Some(1)).count();
    assert_eq!(inside, 3);
}
