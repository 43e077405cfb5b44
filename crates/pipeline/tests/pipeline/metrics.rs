//! The figures of the stages are an observation.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use watchkeeper::ObservationHandle;
use watchkeeper::runtime::State;
use watchkeeper_pipeline::{
    Item, OnError, OnStageFailure, Pipeline, StageMetrics, StageProbes, StageState, Upstream, stage,
};

use crate::common::{
    LONG, Published, Refusing, STEADY, Seen, gated, has_committed, has_seen, pass, scripted,
};

/// Waits for figures of a stage.
async fn figures(
    metrics: &ObservationHandle<StageProbes>,
    stage: &'static str,
    label: &str,
    found: impl Fn(&StageMetrics) -> bool + Send + Sync,
) -> StageMetrics {
    let wait =
        metrics.eventually(label, |stages| stages.answer(stage).is_some_and(&found)).within(LONG).await;
    wait.unwrap().value.answer(stage).unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn items_errors_retries_commits_and_dead_letters_are_counted() {
    let mut source = Published::new(64);
    let store = Refusing::default();
    let act = |item, attempt| match (item, attempt) {
        (Item::Event(2), 1 | 2) | (Item::Event(3), _) => Err("failed".into()),
        (Item::Event(4), _) => Ok(vec![4, 4, 4]),
        _ => pass(item, attempt),
    };
    let pipeline = Pipeline::builder("metrics")
        .metrics(Duration::from_millis(500))
        .stage(
            stage("one", scripted(&Seen::default(), act))
                .from(Upstream::observation("numbers", &source.handle()))
                .store(store.clone())
                .retries(2)
                .on_error(OnError::DeadLetter)
                .backoff(STEADY),
        )
        .start()
        .await
        .unwrap();
    let metrics = pipeline.metrics();
    let begin = metrics.latest_snapshot().unwrap().value.answer("one").cloned().unwrap();
    assert_eq!((begin.items, begin.outputs, begin.commits, begin.errors, begin.retries), (0, 0, 0, 0, 0));
    source.batch([1, 2, 3, 4]);
    let found = figures(&metrics, "one", "four items", |stage| stage.items == 4).await;
    // 1 alone; 2 with the first failure of 3; 3 as a dead letter with 4.
    assert_eq!((found.outputs, found.commits, found.errors, found.retries), (5, 3, 5, 4));
    assert_eq!((found.dead_letters, found.lag, found.state), (1, Some(0), StageState::Running));
    pipeline.stage("one").unwrap().discard(0).await.unwrap();
    let found = figures(&metrics, "one", "no dead letter", |stage| stage.dead_letters == 0).await;
    assert_eq!((found.items, found.commits), (4, 4));
    store.refusals.store(2, std::sync::atomic::Ordering::Relaxed);
    source.batch([5]);
    let found = figures(&metrics, "one", "five items", |stage| stage.items == 5).await;
    assert_eq!((found.errors, found.retries), (7, 6), "refused commits count");
}

#[tokio::test(start_paused = true)]
async fn the_lag_is_what_was_published_and_is_not_committed() {
    let mut source = Published::new(64);
    let (seen, gate) = (Seen::default(), Arc::new(Semaphore::new(0)));
    let pipeline = Pipeline::builder("metrics")
        .stage(
            stage("first", scripted(&Seen::default(), pass))
                .from(Upstream::observation("numbers", &source.handle())),
        )
        .stage(stage("sink", gated(&seen, &gate)).from(Upstream::stage("first")))
        .stage(
            stage("streaming", scripted(&Seen::default(), pass))
                .from(Upstream::stream("numbers", futures_util::stream::pending())),
        )
        .start()
        .await
        .unwrap();
    let metrics = pipeline.metrics();
    gate.add_permits(1);
    source.batch([0]);
    has_committed(&pipeline, "sink", 1).await;
    (1..=6).for_each(|number| source.batch([number]));
    let found = figures(&metrics, "sink", "a lag", |stage| stage.lag == Some(6)).await;
    assert_eq!((found.items, found.state), (1, StageState::Running));
    figures(&metrics, "first", "no lag", |stage| stage.lag == Some(0) && stage.items == 7).await;
    gate.add_permits(2);
    figures(&metrics, "sink", "two less", |stage| stage.lag == Some(4)).await;
    gate.add_permits(100);
    figures(&metrics, "sink", "no lag", |stage| stage.lag == Some(0)).await;
    figures(&metrics, "streaming", "never known", |stage| stage.lag.is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn the_lag_is_known_before_the_first_commit() {
    let mut source = Published::new(64);
    let (seen, gate) = (Seen::default(), Arc::new(Semaphore::new(0)));
    let pipeline = Pipeline::builder("metrics")
        .stage(stage("one", gated(&seen, &gate)).from(Upstream::observation("numbers", &source.handle())))
        .start()
        .await
        .unwrap();
    (0..3).for_each(|number| source.batch([number]));
    figures(&pipeline.metrics(), "one", "a lag", |stage| stage.lag == Some(3)).await;
}

#[tokio::test(start_paused = true)]
async fn states_and_waits_for_all_stages() {
    let mut source = Published::new(64);
    let act = |item, attempt| if item == Item::Event(2) { Err("two".into()) } else { pass(item, attempt) };
    let pipeline = Pipeline::builder("metrics")
        .on_stage_failure(OnStageFailure::Isolate)
        .stage(
            stage("one", scripted(&Seen::default(), act))
                .from(Upstream::observation("numbers", &source.handle()))
                .retries(1)
                .backoff(watchkeeper::runtime::Backoff { first: Duration::from_secs(10), ..STEADY }),
        )
        .stage(stage("two", scripted(&Seen::default(), pass)).from(Upstream::stage("one")))
        .start()
        .await
        .unwrap();
    let metrics = pipeline.metrics();
    assert_eq!(metrics.name().map(|name| &**name), Some("metrics"));
    let names: Vec<_> =
        metrics.latest_snapshot().unwrap().value.iter().map(|view| view.name.to_string()).collect();
    assert_eq!(names, ["one", "two"]);
    let running = |stage: &StageMetrics| stage.state == StageState::Running;
    metrics.all_sources("all run", running).within(LONG).await.unwrap();
    source.batch([1, 2]);
    figures(&metrics, "one", "backing off", |stage| stage.state == StageState::BackingOff).await;
    figures(&metrics, "one", "failed", |stage| stage.state == StageState::Failed).await;
    metrics.any_source("the other runs", running).within(LONG).await.unwrap();
    let unmet = metrics.all_sources("all run", running).within(Duration::from_secs(5)).await.unwrap_err();
    assert!(unmet.to_string().contains("Failed"), "{unmet}");
}

#[tokio::test(start_paused = true)]
async fn the_last_figures_are_observed_at_the_end() {
    let mut source = Published::new(64);
    let (seen, gate) = (Seen::default(), Arc::new(Semaphore::new(0)));
    let pipeline = Pipeline::builder("metrics")
        .metrics(Duration::from_secs(3_600))
        .stage(stage("one", gated(&seen, &gate)).from(Upstream::observation("numbers", &source.handle())))
        .start()
        .await
        .unwrap();
    source.batch([1, 2]);
    has_seen(&seen, 1).await;
    let metrics = pipeline.metrics();
    gate.add_permits(2);
    pipeline.stop().await;
    assert!(matches!(metrics.state(), State::Stopped { .. }), "{:?}", metrics.state());
    let last = metrics.latest_snapshot().unwrap().value.answer("one").cloned().unwrap();
    let progress = pipeline.output::<u64>("one").unwrap().latest_snapshot().unwrap().value;
    assert_eq!((last.state, last.items), (StageState::Drained, progress.items));
    assert!(last.items > 0);
}

#[tokio::test(start_paused = true)]
async fn the_time_in_the_handler_is_counted() {
    let mut source = Published::new(64);
    let (seen, gate) = (Seen::default(), Arc::new(Semaphore::new(0)));
    let pipeline = Pipeline::builder("metrics")
        .stage(
            stage("one", gated(&seen, &gate))
                .from(Upstream::observation("numbers", &source.handle()))
                .item_timeout(Duration::from_secs(5))
                .retries(0)
                .on_error(OnError::DeadLetter),
        )
        .start()
        .await
        .unwrap();
    source.batch([1, 2]);
    let found = figures(&pipeline.metrics(), "one", "two items", |stage| stage.items == 2).await;
    assert_eq!(found.handler_time, Duration::from_secs(10));
}
