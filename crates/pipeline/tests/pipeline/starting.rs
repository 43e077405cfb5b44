//! The start of several stages.

use futures_util::stream;
use watchkeeper_pipeline::{OnStageFailure, Pipeline, StageState, Upstream, stage};

use crate::common::{LONG, Published, Seen, has_committed, pass, scripted};

#[tokio::test(start_paused = true)]
async fn an_isolated_stage_that_fails_at_its_first_item_lets_the_others_start() {
    let mut source = Published::new(64);
    let fails = scripted(&Seen::default(), |_, _| Err("never".into()));
    let items = Upstream::seekable("items", |_| stream::iter([1]));
    let started = Pipeline::builder("starting")
        .stage(stage("fails", fails).from(items).retries(0))
        .stage(
            stage("passes", scripted(&Seen::default(), pass))
                .from(Upstream::observation("numbers", &source.handle())),
        )
        .on_stage_failure(OnStageFailure::Isolate)
        .start();
    let pipeline = tokio::time::timeout(LONG, started).await.unwrap().unwrap();
    source.batch([1]);
    has_committed(&pipeline, "passes", 1).await;
    assert_eq!(pipeline.stage("fails").unwrap().state(), StageState::Failed);
}
