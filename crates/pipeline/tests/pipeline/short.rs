//! A pipeline that ends as soon as it has started.

use futures_util::stream as streams;
use watchkeeper_pipeline::{Pipeline, PipelineState, StageFailureKind, StageState, Upstream, stage};

use crate::common::{Seen, numbers, pass, scripted};

#[tokio::test(start_paused = true)]
async fn a_pipeline_whose_upstreams_are_at_their_end_starts_and_drains() {
    let upstream = Upstream::stream("numbers", streams::empty());
    let pipeline = Pipeline::builder("short")
        .stage(stage("pass", scripted(&Seen::default(), pass)).from(upstream))
        .start()
        .await
        .unwrap();
    assert_eq!(pipeline.ended().await.state, PipelineState::Drained);
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_whose_first_item_fails_at_once_has_started() {
    let seen = Seen::default();
    let upstream = Upstream::stream("numbers", streams::iter([1]));
    let pipeline = Pipeline::builder("short")
        .stage(stage("fail", scripted(&seen, |_, _| Err("no".into()))).from(upstream).retries(0))
        .start()
        .await
        .unwrap();
    let status = pipeline.ended().await;
    assert_eq!(status.state, PipelineState::Failed);
    let (stage, status) = status.failed.unwrap();
    assert_eq!((&*stage, status.state), ("fail", StageState::Failed));
    assert!(matches!(status.failure.unwrap().kind, StageFailureKind::Item { .. }));
    assert_eq!(numbers(&seen), [1]);
}
