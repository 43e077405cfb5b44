//! What a stage that gives up means for the others.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use watchkeeper_pipeline::{
    Item, MemoryStore, OnStageFailure, Pipeline, PipelineBuilder, PipelineState, StageFailureKind,
    StageState, Upstream, stage,
};

use crate::common::{LONG, Published, Seen, has_committed, is_in, numbers, pass, scripted};

struct Seens {
    first: Seen,
    failing: Seen,
    last: Seen,
    other: Seen,
}

impl Seens {
    fn new() -> Self {
        Self {
            first: Seen::default(),
            failing: Seen::default(),
            last: Seen::default(),
            other: Seen::default(),
        }
    }
}

/// `first`, `failing` and `last` in a chain, and `other` beside it. `failing` fails at 3 until it is mended.
fn chain(source: &Published, seen: &Seens, mended: &Arc<AtomicBool>) -> PipelineBuilder {
    let is_mended = Arc::clone(mended);
    let act = move |item, attempt| {
        if item == Item::Event(3) && !is_mended.load(Relaxed) {
            Err("three".into())
        } else {
            pass(item, attempt)
        }
    };
    Pipeline::builder("isolation")
        .stage(
            stage("first", scripted(&seen.first, pass))
                .from(Upstream::observation("numbers", &source.handle()))
                .capacity(2),
        )
        .stage(stage("failing", scripted(&seen.failing, act)).from(Upstream::stage("first")).retries(0))
        .stage(stage("last", scripted(&seen.last, pass)).from(Upstream::stage("failing")))
        .stage(
            stage("other", scripted(&seen.other, pass))
                .from(Upstream::observation("numbers", &source.handle())),
        )
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_gives_up_fails_the_pipeline_and_the_others_drain() {
    let mut source = Published::new(64);
    let (seen, mended) = (Seens::new(), Arc::default());
    let pipeline = chain(&source, &seen, &mended).start().await.unwrap();
    source.batch([1, 2, 3, 4]);
    let status = pipeline.ended().await;
    assert_eq!((status.state, status.cut_off), (PipelineState::Failed, vec![]));
    let (stage, failed) = status.failed.unwrap();
    assert_eq!((&*stage, failed.state), ("failing", StageState::Failed));
    let failure = failed.failure.unwrap();
    assert_eq!((failure.attempt, &*failure.message), (1, "three"));
    assert!(matches!(&failure.kind, StageFailureKind::Item { upstream, .. } if &**upstream == "first"));
    for (name, state) in [
        ("first", StageState::Drained),
        ("failing", StageState::Failed),
        ("last", StageState::Drained),
        ("other", StageState::Drained),
    ] {
        assert_eq!(pipeline.stage(name).unwrap().state(), state, "{name}");
    }
    assert_eq!(numbers(&seen.last), [1, 2]);
    assert_eq!(numbers(&seen.other), [1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn others_go_on_beside_an_isolated_stage_and_its_restart_loses_nothing() {
    let mut source = Published::new(64);
    let (seen, mended) = (Seens::new(), Arc::new(AtomicBool::new(false)));
    let isolate = OnStageFailure::Isolate;
    let pipeline = chain(&source, &seen, &mended).on_stage_failure(isolate).start().await.unwrap();
    (1..=10).for_each(|number| source.batch([number]));
    is_in(&pipeline, "failing", StageState::Failed).await;
    has_committed(&pipeline, "other", 10).await;
    has_committed(&pipeline, "last", 2).await;
    tokio::time::sleep(LONG).await;
    // 3 and 4 wait for the failed stage, 5 waits for room.
    assert_eq!(numbers(&seen.first), [1, 2, 3, 4, 5]);
    let status = pipeline.status();
    assert_eq!((status.state, status.failed), (PipelineState::Running, None));
    for name in ["first", "last", "other"] {
        assert_eq!(pipeline.stage(name).unwrap().state(), StageState::Running, "{name}");
    }
    mended.store(true, Relaxed);
    pipeline.stage("failing").unwrap().restart().await.unwrap();
    has_committed(&pipeline, "last", 10).await;
    let all: Vec<u64> = (1..=10).collect();
    assert_eq!(numbers(&seen.first), all);
    assert_eq!(numbers(&seen.last), all);
    assert_eq!(numbers(&seen.failing), [1, 2, 3, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(pipeline.stop().await.state, PipelineState::Drained);
}

#[tokio::test(start_paused = true)]
async fn what_waited_for_a_failed_stage_is_there_in_the_next_pipeline() {
    let mut source = Published::new(64);
    let seen = Seens::new();
    let stores: [MemoryStore<u64, u64>; 3] = Default::default();
    let build = |fails: bool| {
        let act = move |item, attempt| {
            if fails && item == Item::Event(3) { Err("three".into()) } else { pass(item, attempt) }
        };
        let [first, failing, last] = stores.clone();
        Pipeline::builder("isolation")
            .stage(
                stage("first", scripted(&seen.first, pass))
                    .from(Upstream::observation("numbers", &source.handle()))
                    .store(first),
            )
            .stage(
                stage("failing", scripted(&seen.failing, act))
                    .from(Upstream::stage("first"))
                    .retries(0)
                    .store(failing),
            )
            .stage(stage("last", scripted(&seen.last, pass)).from(Upstream::stage("failing")).store(last))
    };
    let (first, second) = (build(true), build(false));
    let pipeline = first.start().await.unwrap();
    source.batch([1, 2]);
    source.batch([3, 4]);
    source.batch([5]);
    assert_eq!(pipeline.ended().await.state, PipelineState::Failed);
    // What was consumed is dropped with a later commit.
    assert!(stores[0].stored().outputs.ends_with(&[vec![3, 4], vec![5]]));
    let pipeline = second.start().await.unwrap();
    source.batch([6]);
    has_committed(&pipeline, "last", 4).await;
    assert_eq!(numbers(&seen.first), [1, 2, 3, 4, 5, 6], "nothing is handled again there");
    assert_eq!(numbers(&seen.failing), [1, 2, 3, 3, 4, 5, 6]);
    assert_eq!(numbers(&seen.last), [1, 2, 3, 4, 5, 6]);
    let progress = pipeline.output::<u64>("first").unwrap().latest_snapshot().unwrap().value;
    assert_eq!(
        (progress.items, progress.outputs, progress.commits),
        (1, 1, 1),
        "since the pipeline was started"
    );
}
