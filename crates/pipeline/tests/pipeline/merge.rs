//! Several upstreams of one stage, and the positions of each.

use futures_util::{StreamExt, stream};
use watchkeeper_pipeline::{
    Item, MemoryStore, Pipeline, PipelineError, PipelineState, StageFailureKind, Upstream, UpstreamPosition,
    handler_fn, stage,
};

use crate::common::{LONG, Published, Seen, has_committed, numbers, pass, scripted};

/// The numbers of an upstream from `first` on, 1000 apart.
fn of(seen: &Seen, from: u64) -> Vec<u64> {
    numbers(seen).into_iter().filter(|number| number / 1_000 == from).collect()
}

#[tokio::test(start_paused = true)]
async fn upstreams_are_read_in_turn_and_each_keeps_its_order() {
    let (mut a, mut b) = (Published::new(64), Published::new(64));
    let seen = Seen::default();
    let pipeline = Pipeline::builder("merge").stage(
        stage("one", scripted(&seen, pass))
            .from(Upstream::observation("a", &a.handle()))
            .from(Upstream::observation("b", &b.handle()))
            .from(Upstream::stream("c", stream::iter(2_000..2_600))),
    );
    for number in 0..20 {
        a.batch([number]);
        b.batch([1_000 + number]);
    }
    let pipeline = pipeline.start().await.unwrap();
    has_committed(&pipeline, "one", 640).await;
    assert_eq!(of(&seen, 0), (0..20).collect::<Vec<_>>());
    assert_eq!(of(&seen, 1), (1_000..1_020).collect::<Vec<_>>());
    assert_eq!(of(&seen, 2), (2_000..2_600).collect::<Vec<_>>());
    // A batch or a piece of each in turn: none waits for the end of another.
    let turns: Vec<u64> =
        numbers(&seen).chunk_by(|a, b| a / 1_000 == b / 1_000).map(|chunk| chunk[0] / 1_000).collect();
    assert_eq!(turns[..9], [0, 1, 2, 0, 1, 2, 0, 1, 2]);
    // The end of one is not the end of the others.
    a.batch([20]);
    has_committed(&pipeline, "one", 641).await;
    a.end();
    b.batch([1_020]);
    has_committed(&pipeline, "one", 642).await;
    b.end();
    assert_eq!(pipeline.ended().await.state, PipelineState::Drained);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_always_has_something_does_not_starve_the_others() {
    let mut source = Published::new(64);
    let seen = Seen::default();
    let pipeline = Pipeline::builder("merge")
        .stage(
            stage("one", scripted(&seen, pass))
                .from(Upstream::stream("endless", stream::repeat(0)))
                .from(Upstream::observation("numbers", &source.handle())),
        )
        .start()
        .await
        .unwrap();
    source.batch([7]);
    while !numbers(&seen).contains(&7) {
        tokio::task::yield_now().await;
        assert!(numbers(&seen).len() < 100_000, "starved");
    }
    assert_eq!(pipeline.stop().await.state, PipelineState::Drained);
}

#[tokio::test(start_paused = true)]
async fn a_mapped_upstream_has_the_type_of_the_others() {
    async fn keep(item: Item<String>) -> Result<Vec<String>, watchkeeper::DynError> {
        Ok(item.event().into_iter().collect())
    }
    let mut source = Published::new(2);
    let pipeline = Pipeline::builder("merge")
        .stage(
            stage("length", scripted(&Seen::default(), pass))
                .from(Upstream::observation("a", &source.handle())),
        )
        .stage(
            stage("text", || handler_fn(keep))
                .from(Upstream::stream("words", stream::iter(["one".to_owned()])))
                .from(Upstream::<u64>::stage("length").map(|number| format!("number {number}")))
                .from(Upstream::observation("b", &source.handle()).map(|number| format!("b {number}"))),
        )
        .start()
        .await
        .unwrap();
    let outputs = pipeline.output::<String>("text").unwrap();
    source.batch([5, 6]);
    source.end();
    pipeline.ended().await;
    let mut texts: Vec<String> = outputs.history().iter().flat_map(|batch| batch.events.clone()).collect();
    texts.sort();
    assert_eq!(texts, ["b 5", "b 6", "number 5", "number 6", "one"]);
}

#[tokio::test(start_paused = true)]
async fn a_map_that_panics_fails_the_stage_and_a_restart_reads_the_same_items_again() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use watchkeeper_pipeline::{OnStageFailure, StageState};

    let mut source = Published::new(64);
    let (seen, mended) = (Seen::default(), Arc::new(AtomicBool::new(false)));
    let is_mended = Arc::clone(&mended);
    let map = move |number: &u64| {
        assert!(*number != 2 || is_mended.load(Relaxed), "no map for 2");
        10 * number
    };
    let pipeline = Pipeline::builder("merge")
        .on_stage_failure(OnStageFailure::Isolate)
        .stage(
            stage("one", scripted(&seen, pass))
                .from(Upstream::observation("numbers", &source.handle()).map(map)),
        )
        .start()
        .await
        .unwrap();
    source.batch([1]);
    source.batch([2, 3]);
    crate::common::is_in(&pipeline, "one", StageState::Failed).await;
    let one = pipeline.stage("one").unwrap();
    let failure = one.status().failure.unwrap();
    assert_eq!(failure.kind, StageFailureKind::Read);
    assert_eq!(failure.to_string(), "reading: numbers panicked: no map for 2");
    mended.store(true, Relaxed);
    one.restart().await.unwrap();
    has_committed(&pipeline, "one", 3).await;
    assert_eq!(numbers(&seen), [10, 20, 30]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_replayed_continues_after_the_committed_items() {
    let (seen, store) = (Seen::default(), MemoryStore::new());
    let build = |fails: bool| {
        let act = move |item, attempt| {
            if fails && item == Item::Event(403) { Err("403".into()) } else { pass(item, attempt) }
        };
        let upstream = Upstream::seekable("numbers", |committed| stream::iter(committed..600));
        Pipeline::builder("merge")
            .stage(stage("one", scripted(&seen, act)).from(upstream).store(store.clone()).retries(0))
    };
    let pipeline = build(true).start().await.unwrap();
    assert_eq!(pipeline.ended().await.state, PipelineState::Failed);
    assert_eq!(store.stored().position.get("numbers"), Some(UpstreamPosition::Count(403)));
    let pipeline = build(false).start().await.unwrap();
    assert_eq!(pipeline.ended().await.state, PipelineState::Drained);
    assert_eq!(numbers(&seen), (0..=403).chain(403..600).collect::<Vec<_>>());
    let positions: Vec<_> = seen.lock().unwrap().iter().map(|(_, position, _)| *position).collect();
    assert_eq!(positions[405], UpstreamPosition::Count(404));
    assert_eq!(store.stored().position.get("numbers"), Some(UpstreamPosition::Count(600)));
}

#[tokio::test(start_paused = true)]
async fn what_is_read_of_a_stream_is_handled_while_it_has_no_more() {
    let seen = Seen::default();
    let numbers_then_none = stream::iter(0..3).chain(stream::pending());
    let pipeline = Pipeline::builder("merge")
        .stage(stage("one", scripted(&seen, pass)).from(Upstream::stream("numbers", numbers_then_none)))
        .start()
        .await
        .unwrap();
    has_committed(&pipeline, "one", 3).await;
    assert_eq!(numbers(&seen), [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_renamed_upstream_is_refused_until_its_old_name_is_forgotten() {
    let mut source = Published::new(64);
    let (seen, store) = (Seen::default(), MemoryStore::new());
    let build = |upstream: &str| {
        stage("one", scripted(&seen, pass))
            .from(Upstream::observation(upstream, &source.handle()))
            .store(store.clone())
    };
    let (first, renamed, forgetting) = (build("a"), build("b"), build("b").forget("a"));
    let pipeline = Pipeline::builder("merge").stage(first).start().await.unwrap();
    source.batch([1]);
    has_committed(&pipeline, "one", 1).await;
    pipeline.stop().await;
    let error = Pipeline::builder("merge").stage(renamed).start().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "stage one is failed: it cannot start: upstream a: there is a committed position and no such upstream: give \
         the upstream its old name back, or name it in StageBuilder::forget"
    );
    let PipelineError::NotStarted { failure: Some(failure), .. } = error else { panic!("{error}") };
    assert_eq!(failure.kind, StageFailureKind::Open);
    source.batch([2]);
    let pipeline = Pipeline::builder("merge").stage(forgetting).start().await.unwrap();
    has_committed(&pipeline, "one", 2).await;
    assert_eq!(numbers(&seen), [1, 1, 2], "b begins where its upstream was described");
    let names: Vec<_> = store.stored().position.iter().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(names, ["b"]);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_is_still_there_is_not_forgotten() {
    let (seen, store) = (Seen::default(), MemoryStore::new());
    for _ in 0..2 {
        let upstream = Upstream::seekable("numbers", |committed| stream::iter(committed..3));
        let stage = stage("one", scripted(&seen, pass)).from(upstream).store(store.clone());
        let pipeline = Pipeline::builder("merge").stage(stage.forget("numbers")).start().await.unwrap();
        tokio::time::timeout(LONG, pipeline.ended()).await.unwrap();
    }
    assert_eq!(numbers(&seen), [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_position_of_another_kind_and_of_another_observation_is_refused() {
    let (mut source, other) = (Published::new(64), Published::new(64));
    let store = MemoryStore::new();
    let build = |upstream| {
        let one = stage("one", scripted(&Seen::default(), pass)).from(upstream).store(store.clone());
        Pipeline::builder("merge").stage(one).start()
    };
    let pipeline = build(Upstream::observation("numbers", &source.handle())).await.unwrap();
    source.batch([1]);
    has_committed(&pipeline, "one", 1).await;
    pipeline.stop().await;
    let error = build(Upstream::seekable("numbers", |_| stream::pending())).await.unwrap_err();
    assert!(
        error.to_string().contains("is of another kind of upstream: give the upstream its old name"),
        "{error}"
    );
    let error = build(Upstream::observation("numbers", &other.handle())).await.unwrap_err();
    let text = "stage one is failed: it cannot start: upstream numbers: the committed position cannot be read from: ";
    assert!(error.to_string().starts_with(text), "{error}");
}
