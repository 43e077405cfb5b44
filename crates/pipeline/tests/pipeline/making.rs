//! A handler that cannot be made.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use watchkeeper_pipeline::{
    Item, OnStageFailure, Pipeline, PipelineError, StageFailureKind, StageState, Upstream, stage,
};

use crate::common::{Published, STEADY, Seen, has_committed, is_in, numbers, pass, scripted};

#[tokio::test(start_paused = true)]
async fn a_factory_that_panics_is_an_error_of_the_start() {
    let (source, other) = (Published::new(64), Seen::default());
    let mut make = scripted(&other, pass);
    let error = Pipeline::builder("making")
        .stage(stage("one", scripted(&other, pass)).from(Upstream::observation("numbers", &source.handle())))
        .stage(
            stage("two", move || {
                assert!(source.handle().name().is_some(), "no connection\n");
                make()
            })
            .from(Upstream::stage("one")),
        )
        .start()
        .await
        .unwrap_err();
    let text = "stage two is failed: it cannot start: the factory of the handler panicked: no connection\\n";
    assert_eq!(error.to_string(), text);
    let PipelineError::NotStarted { stage, state, failure: Some(failure) } = error else { panic!("{error}") };
    assert_eq!((&*stage, state, &failure.kind), ("two", StageState::Failed, &StageFailureKind::Open));
}

#[tokio::test(start_paused = true)]
async fn a_factory_that_panics_after_a_panic_of_its_handler_fails_the_stage_until_a_restart() {
    let mut source = Published::new(64);
    let (seen, made) = (Seen::default(), Arc::new(AtomicU64::new(0)));
    let count = Arc::clone(&made);
    let mut make = scripted(&seen, move |item, attempt| {
        assert!(item != Item::Event(2) || count.load(Relaxed) == 3, "two");
        pass(item, attempt)
    });
    let count = Arc::clone(&made);
    let pipeline = Pipeline::builder("making")
        .on_stage_failure(OnStageFailure::Isolate)
        .stage(
            stage("one", move || {
                assert!(count.fetch_add(1, Relaxed) != 1, "no connection");
                make()
            })
            .from(Upstream::observation("numbers", &source.handle()))
            .backoff(STEADY),
        )
        .start()
        .await
        .unwrap();
    source.batch([1, 2, 3]);
    is_in(&pipeline, "one", StageState::Failed).await;
    let one = pipeline.stage("one").unwrap();
    let failure = one.status().failure.unwrap();
    assert_eq!(failure.kind, StageFailureKind::Open);
    assert_eq!(&*failure.message, "the factory of the handler panicked: no connection");
    one.restart().await.unwrap();
    has_committed(&pipeline, "one", 3).await;
    assert_eq!(numbers(&seen), [1, 2, 2, 3]);
    assert_eq!(made.load(Relaxed), 3);
}
