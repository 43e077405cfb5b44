//! What is wrong with a graph or a setting is refused before anything starts.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::{FutureExt, stream};
use watchkeeper::runtime::Backoff;
use watchkeeper::supervise::FailureWindow;
use watchkeeper_pipeline::{MemoryStore, OnError, Pipeline, PipelineBuilder, StageBuilder, Upstream, stage};

use crate::common::{Scripted, Seen, pass};

type Stage =
    StageBuilder<u64, Scripted<fn(watchkeeper_pipeline::Item<u64>, u64) -> Passed>, MemoryStore<u64, u64>>;
type Passed = Result<Vec<u64>, watchkeeper::DynError>;

/// A stage whose factory counts its calls.
fn counted(name: &str, made: &Arc<AtomicU64>) -> Stage {
    let made = Arc::clone(made);
    stage(name, move || {
        made.fetch_add(1, Relaxed);
        Scripted { seen: Seen::default(), act: pass as fn(_, _) -> _ }
    })
}

fn endless(name: &str) -> Upstream<u64> {
    Upstream::stream(name, stream::pending())
}

fn from_stage(name: &str) -> Upstream<u64> {
    Upstream::stage(name)
}

/// The pipeline is refused with this text, and no handler is made.
async fn refused(text: &str, build: impl FnOnce(PipelineBuilder, &dyn Fn(&str) -> Stage) -> PipelineBuilder) {
    let made = Arc::default();
    let pipeline = build(Pipeline::builder("graph"), &|name| counted(name, &made));
    let error = pipeline.start().await.err().map(|error| error.to_string());
    assert_eq!(error.as_deref(), Some(text));
    tokio::task::yield_now().await;
    assert_eq!(made.load(Relaxed), 0, "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_graph_that_is_none_is_refused() {
    refused("the pipeline has no stage: add one with PipelineBuilder::stage", |pipeline, _| pipeline).await;
    refused("two stages are called one: give each a name of its own", |pipeline, stage| {
        pipeline.stage(stage("one").from(endless("a"))).stage(stage("one").from(endless("a")))
    })
    .await;
    refused("stage two has no upstream: give it one with StageBuilder::from", |pipeline, stage| {
        pipeline.stage(stage("one").from(endless("a"))).stage(stage("two"))
    })
    .await;
    refused(
        "stage one has two upstreams called a: give each a name of its own, their positions are stored by it",
        |pipeline, stage| {
            pipeline.stage(stage("one").from(endless("a")).from(endless("b")).from(endless("a")))
        },
    )
    .await;
    refused(
        "stage two reads stage three, which is not in the pipeline; there are: one, two",
        |pipeline, stage| {
            pipeline.stage(stage("one").from(endless("a"))).stage(stage("two").from(from_stage("three")))
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_circle_is_named_in_the_order_of_its_items() {
    refused(
        "the stages one read each other in a circle: items go one way, remove one of these upstreams",
        |pipeline, stage| pipeline.stage(stage("one").from(from_stage("one"))),
    )
    .await;
    refused(
        "the stages c, b, a read each other in a circle: items go one way, remove one of these upstreams",
        |pipeline, stage| {
            pipeline
                .stage(stage("before").from(endless("x")))
                .stage(stage("a").from(from_stage("b")))
                .stage(stage("b").from(from_stage("c")).from(from_stage("before")))
                .stage(stage("c").from(from_stage("a")))
                .stage(stage("after").from(from_stage("a")))
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn outputs_of_another_type_are_refused() {
    refused(
        "stage two reads alloc::string::String from stage one, whose outputs are u64: convert them with Upstream::map",
        |pipeline, stage| {
            let two = stage("two").from(Upstream::<String>::stage("one").map(|text| text.len() as u64));
            pipeline.stage(stage("one").from(endless("a"))).stage(two)
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn names_have_1_to_256_bytes_and_are_escaped_in_errors() {
    let long = "n".repeat(257);
    refused("a stage has a name of 0 bytes: a name has 1 to 256", |pipeline, stage| {
        pipeline.stage(stage("").from(endless("a")))
    })
    .await;
    refused("a stage has a name of 257 bytes: a name has 1 to 256", |pipeline, stage| {
        pipeline.stage(stage(&long).from(endless("a")))
    })
    .await;
    refused("an upstream has a name of 0 bytes: a name has 1 to 256", |pipeline, stage| {
        pipeline.stage(stage("one").from(endless("")))
    })
    .await;
    refused("an upstream has a name of 257 bytes: a name has 1 to 256", |pipeline, stage| {
        pipeline.stage(stage("one").from(from_stage(&long)))
    })
    .await;
    for name in ["", &long] {
        let text = format!("the pipeline has a name of {} bytes: a name has 1 to 256", name.len());
        refused(&text, |_, stage| Pipeline::builder(name).stage(stage("one").from(endless("a")))).await;
    }
    refused(
        r"stage one\ntwo\u{1b} has no upstream: give it one with StageBuilder::from",
        |pipeline, stage| pipeline.stage(stage("one\ntwo\u{1b}")),
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn names_with_256_bytes_and_with_escapes_start() {
    let made = Arc::default();
    for name in ["n".repeat(256).as_str(), "one\ntwo\u{1b}", " "] {
        let pipeline =
            Pipeline::builder(name).stage(counted(name, &made).from(endless(name))).start().await.unwrap();
        assert_eq!(pipeline.stage(name).unwrap().name(), name);
        pipeline.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn settings_out_of_range_are_refused() {
    const HOUR: Duration = Duration::from_secs(3_600);
    const OVER: Duration = Duration::from_nanos(24 * 3_600_000_000_000 + 1);
    let range =
        "`first` must be more than zero, `max` at least `first` and at most 24 h, `jitter` between 0 and 1";
    let valid = Backoff { first: HOUR, max: HOUR, jitter: 0.0, seed: 0 };
    for (backoff, field) in [
        (Backoff { first: Duration::ZERO, ..valid }, "first is 0ns"),
        (Backoff { max: HOUR / 2, ..valid }, "max is 1800s"),
        (Backoff { max: OVER, ..valid }, "max is 86400.000000001s"),
        (Backoff { jitter: 1.5, ..valid }, "jitter is 1.5"),
        (Backoff { jitter: f64::NAN, ..valid }, "jitter is NaN"),
    ] {
        refused(&format!("stage one: Backoff::{field}: {range}"), |pipeline, stage| {
            pipeline.stage(stage("one").from(endless("a")).backoff(backoff))
        })
        .await;
    }
    refused("stage one: capacity is 0: there must be room for at least one batch", |pipeline, stage| {
        pipeline.stage(stage("one").from(endless("a")).capacity(0))
    })
    .await;
    for (limit, shown) in [(Duration::ZERO, "0ns"), (OVER, "86400.000000001s")] {
        let range = format!("is {shown}: it must be more than zero and at most 24 h");
        refused(&format!("stage one: item_timeout {range}"), |pipeline, stage| {
            pipeline.stage(stage("one").from(endless("a")).item_timeout(limit))
        })
        .await;
        refused(&format!("the pipeline: drain {range}"), |pipeline, stage| {
            pipeline.drain(limit).stage(stage("one").from(endless("a")))
        })
        .await;
        let text = "stage one: the time of the FailureWindow must be more than zero and at most 24 h";
        refused(text, |pipeline, stage| {
            let window = FailureWindow::new(3, limit);
            pipeline.stage(stage("one").from(endless("a")).on_error(OnError::Poison(window)))
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn metrics_that_cannot_be_observed_are_refused() {
    refused("PipelineBuilder::metrics: ObservationConfig::interval is 0ns: it must be more than zero and at most 24 h", |pipeline, stage| {
        pipeline.metrics(Duration::ZERO).stage(stage("one").from(endless("a")))
    })
    .await;
}

#[test]
fn without_a_tokio_runtime_nothing_starts() {
    let made = Arc::default();
    let pipeline = Pipeline::builder("graph").stage(counted("one", &made).from(endless("a")));
    let error = pipeline.start().now_or_never().unwrap().err().unwrap();
    assert_eq!(error.to_string(), "the tasks of the pipeline were not spawned");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("tokio runtime"), "{source}");
    assert_eq!(made.load(Relaxed), 0);
}
