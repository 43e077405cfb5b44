//! Items go through stages, are committed, and come out as an observation.

use futures_util::stream;
use watchkeeper::DynError;
use watchkeeper_pipeline::{Item, MemoryStore, Pipeline, PipelineState, StageState, Upstream, stage};

use crate::common::{LONG, Published, Seen, numbers, pass, scripted};

#[tokio::test(start_paused = true)]
async fn items_go_from_an_observation_through_two_stages() {
    let mut source = Published::new(64);
    let (first, second) = (Seen::default(), Seen::default());
    let store = MemoryStore::new();
    let pipeline = Pipeline::builder("flow")
        .stage(stage("pass", scripted(&first, pass)).from(Upstream::observation("numbers", &source.handle())))
        .stage(
            stage(
                "double",
                scripted(&second, |item, _| Ok(item.event().map(|n| 2 * n).into_iter().collect())),
            )
            .from(Upstream::stage("pass"))
            .store(store.clone()),
        )
        .start()
        .await
        .unwrap();
    let outputs = pipeline.output::<u64>("double").unwrap();
    let mut batches = outputs.subscribe();
    source.batch([1, 2]);
    source.batch([3]);
    outputs.eventually("three items", |progress| progress.items == 3).within(LONG).await.unwrap();
    assert_eq!(numbers(&first), [1, 2, 3]);
    assert_eq!(numbers(&second), [1, 2, 3]);
    assert_eq!(batches.recv().await.unwrap().events, [2, 4]);
    assert_eq!(batches.recv().await.unwrap().events, [6]);
    let status = pipeline.stop().await;
    assert_eq!(status.state, PipelineState::Drained);
    assert_eq!(pipeline.stage("pass").unwrap().state(), StageState::Drained);
    assert_eq!(store.stored().position.get("pass").unwrap().number(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_drains_when_its_sources_end() {
    let mut source = Published::new(64);
    let seen = Seen::default();
    let pipeline = Pipeline::builder("flow")
        .stage(stage("one", scripted(&seen, pass)).from(Upstream::observation("numbers", &source.handle())))
        .stage(stage("two", scripted(&Seen::default(), pass)).from(Upstream::stage("one")))
        .start()
        .await
        .unwrap();
    source.batch([1]);
    source.end();
    assert_eq!(pipeline.ended().await.state, PipelineState::Drained);
    assert_eq!(numbers(&seen), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_that_has_ended_at_once_has_started() {
    let seen = Seen::default();
    for (act, state) in [(pass as fn(_, _) -> _, PipelineState::Drained), (refuse, PipelineState::Failed)] {
        let pipeline = Pipeline::builder("flow")
            .stage(
                stage("one", scripted(&seen, act))
                    .from(Upstream::stream("numbers", stream::iter([1, 2])))
                    .retries(0),
            )
            .stage(stage("two", scripted(&Seen::default(), pass)).from(Upstream::stage("one")))
            .start()
            .await
            .unwrap();
        assert_eq!(pipeline.ended().await.state, state);
    }
    assert_eq!(numbers(&seen), [1, 2, 1]);
}

fn refuse(_: Item<u64>, _: u64) -> Result<Vec<u64>, DynError> {
    Err("refused".into())
}
