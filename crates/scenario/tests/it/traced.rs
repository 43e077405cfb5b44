//! What is traced: a span for each phase, and a warning for each failure.

use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::instrument::WithSubscriber;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use watchkeeper_scenario::Limits;

use crate::common::{Diary, Goes, Memory, nothing, observed, secs};

/// Records the spans of the phases and the warnings.
#[derive(Default)]
pub struct Listener {
    pub entries: Diary,
    spans: AtomicU64,
}

/// `field=value ...`
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("watchkeeper_scenario")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        if span.metadata().name() == "phase" {
            let mut text = Text::default();
            span.record(&mut text);
            self.entries.note(format!("phase{}", text.0));
        }
        Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        if *event.metadata().level() == Level::WARN {
            self.entries.note(format!("warning{}", text.0));
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test(start_paused = true)]
async fn each_phase_has_its_span_and_each_failure_its_warning() {
    let listener = Listener::default();
    let entries = listener.entries.clone();
    let _guard = tracing::subscriber::set_default(listener);
    let memory = Memory::default();
    let scenario = observed(&memory)
        .workload("quick", nothing)
        .endless_workload("endless", |context| async move {
            context.cancelled().await;
            Err("lost".into())
        })
        .cooldown(secs(1));
    scenario.build().unwrap().run(&memory).await.unwrap_err();
    let phase = |name: &str| format!(r#"phase scenario="numbers" phase={name}"#);
    assert_eq!(
        entries.read(),
        [
            phase("deploy"),
            phase("prepare"),
            phase("start_capture"),
            phase("workloads"),
            phase("cooldown"),
            phase("drain"),
            "warning message=workload \"endless\" failed (drain, +1.000s)\n  lost scenario=\"numbers\""
                .to_owned(),
            phase("evaluate"),
            phase("cleanup"),
        ]
    );
}

/// The thread on which its limit would be noticed is blocked, so another thread logs the warning.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployer_that_blocks_its_thread_is_logged_meanwhile() {
    let listener = Listener::default();
    let entries = listener.entries.clone();
    let memory = Memory { up: Goes::Blocks(2_000), ..Memory::default() };
    let limits = Limits { deploy: Duration::from_millis(50), ..Limits::default() };
    let scenario = observed(&memory).limits(limits).workload("w", nothing).build().unwrap();
    scenario.run(&memory).with_subscriber(listener).await.unwrap_err();
    let warnings =
        entries.read().into_iter().filter(|noted| noted.starts_with("warning")).collect::<Vec<_>>();
    let expected = "warning message=deployer \"memory\" blocks its thread, and its limit of 50ms is over: put what \
                    blocks into tokio::task::spawn_blocking";
    assert_eq!(warnings[0], expected);
    assert!(warnings[1].contains("was not done within 50ms"), "{warnings:?}");
}
