//! Code that blocks a thread is logged while it blocks, by another thread.

use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use watchkeeper::ObservationConfig;

use crate::common::threads::{Flavour, Gate, Opens, block_on, executor};
use crate::common::{Act, App, Call, each_second, ms};

/// Passes on each warning with its span.
struct Warnings {
    lines: mpsc::Sender<(String, Option<u64>)>,
    spans: AtomicU64,
}

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

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("watchkeeper")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        if *event.metadata().level() == Level::WARN {
            let mut text = Text::default();
            event.record(&mut text);
            self.lines.send((text.0, event.parent().map(Id::into_u64))).unwrap();
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

const NEVER: Duration = Duration::from_secs(30);

/// Only cycles that are asked for: none blocks the thread that starts the runtime.
fn by_hand() -> ObservationConfig {
    ObservationConfig { interval: Duration::from_secs(3600), ..ObservationConfig::default() }
}

/// The warnings of what runs on this thread, and of the runtimes that are started on it.
fn warnings() -> (tracing::subscriber::DefaultGuard, mpsc::Receiver<(String, Option<u64>)>) {
    let (sender, lines) = mpsc::channel();
    (tracing::subscriber::set_default(Warnings { lines: sender, spans: AtomicU64::new(0) }), lines)
}

#[test]
fn a_poll_that_blocks_its_thread_is_logged_while_it_does() {
    for (flavour, logged) in [
        (Flavour::CurrentThread, "the executor gave no turn for "),
        (Flavour::MultiThread, "the observation had no turn for "),
    ] {
        let (_listening, lines) = warnings();
        let executor = executor(flavour);
        let gate = Gate::default();
        let app = App::new();
        app.then(Call::Poll, [Act::Held(gate.clone(), Box::new(Act::Ok(vec![])))]);
        let runtime = executor.block_on(app.start(by_hand()));
        let wait = runtime.handle().eventually("it is polled", |seen| seen.polls > 0).within(NEVER);
        let driving = thread::spawn(move || executor.block_on(wait).is_ok());
        block_on(runtime.control().poll_now()).unwrap();
        gate.wait_until_reached();
        let open = Opens(gate);
        let (line, span) = lines.recv_timeout(NEVER).expect("it is logged");
        drop(open);
        assert!(line.starts_with(logged) && line.contains(" s: a probe blocks its thread"), "{line}");
        assert_eq!(span, Some(1), "the observation's span");
        assert!(driving.join().unwrap(), "then it goes on");
        assert_eq!(lines.try_recv(), Err(mpsc::TryRecvError::Empty), "once");
    }
}

#[test]
fn a_predicate_that_blocks_its_thread_is_logged_by_its_label() {
    let (_listening, lines) = warnings();
    let executor = executor(Flavour::MultiThread);
    let runtime = executor.block_on(App::new().start(ObservationConfig { interval: ms(1), ..each_second() }));
    let gate = Gate::default();
    let handle = runtime.handle();
    let waiting = thread::spawn({
        let gate = gate.clone();
        move || {
            let passes = |_: &_| {
                gate.pass();
                true
            };
            block_on(handle.eventually("it\nblocks", passes).within(NEVER)).is_ok()
        }
    });
    let open = Opens(gate);
    let (line, _) = lines.recv_timeout(NEVER).expect("it is logged");
    drop(open);
    assert!(line.starts_with("a predicate blocked its thread for "), "{line}");
    assert!(line.ends_with(r#"wait="it\\nblocks""#), "{line}");
    assert!(waiting.join().unwrap(), "then it goes on");
}

/// Nobody waits: nothing is spawned on the executor, and no thread wakes for it.
#[test]
fn an_executor_that_nobody_waits_for_is_left_alone() {
    let executor = executor(Flavour::CurrentThread);
    let runtime = executor.block_on(App::new().start(each_second()));
    let tasks = || executor.metrics().num_alive_tasks();
    let before = tasks();
    let wait = runtime.handle().eventually("nothing", |_| false).within(ms(600));
    let waited = thread::spawn(|| block_on(wait).unwrap_err());
    let unmet = waited.join().unwrap();
    assert!(unmet.to_string().contains("gave it no turn"), "{unmet}");
    assert_eq!(tasks(), before + 1, "asked once, whatever the wait");
    executor.block_on(async { tokio::time::sleep(ms(1)).await });
    assert_eq!(tasks(), before, "it was answered, and nothing else is asked");
}
