//! The outputs of a stage are an observation.

use std::time::Duration;

use watchkeeper::runtime::State;
use watchkeeper::subscription::RecvError;
use watchkeeper_pipeline::{Item, MemoryStore, Pipeline, StageOutputError, Upstream, handler_fn, stage};

use crate::common::{LONG, Published, Seen, has_committed, pass, scripted};

async fn pipeline(source: &Published, capacity: usize, store: &MemoryStore<u64, u64>) -> Pipeline {
    Pipeline::builder("outputs")
        .metrics(Duration::from_secs(24 * 3_600))
        .stage(
            stage("one", scripted(&Seen::default(), pass))
                .from(Upstream::observation("numbers", &source.handle()))
                .capacity(capacity)
                .store(store.clone()),
        )
        .start()
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn outputs_have_cursors_and_a_history_of_the_capacity() {
    let mut source = Published::new(64);
    let pipeline = pipeline(&source, 4, &MemoryStore::new()).await;
    let outputs = pipeline.output::<u64>("one").unwrap();
    assert_eq!(outputs.name().map(|name| &**name), Some("one"));
    let mut early = outputs.subscribe();
    let begin = early.cursor();
    (0..10).for_each(|number| source.batch([number, 100 + number]));
    has_committed(&pipeline, "one", 20).await;
    let history: Vec<_> = outputs.history().iter().map(|batch| (batch.seq, batch.events.clone())).collect();
    assert_eq!(history, (6..10).map(|number| (number, vec![number, 100 + number])).collect::<Vec<_>>());
    // A subscriber outside of the pipeline is one of an observation: it may lag.
    let Err(RecvError::Lagged { missed: 6, resume }) = early.recv().await else { panic!("no lag") };
    assert_eq!(resume, begin.at(6));
    assert_eq!(early.recv().await.unwrap().events, [6, 106]);
    let mut again = outputs.subscribe_from(begin.at(8)).unwrap();
    assert_eq!(again.recv().await.unwrap().events, [8, 108]);
    assert_eq!(outputs.latest_snapshot().unwrap().cursor, begin.at(10));
}

#[tokio::test(start_paused = true)]
async fn the_snapshot_is_the_progress_of_the_last_commit() {
    let mut source = Published::new(64);
    let store = MemoryStore::new();
    let act = |item: Item<u64>, _| {
        Ok(item.event().into_iter().flat_map(|number| (0..number).map(move |_| number)).collect())
    };
    let pipeline = Pipeline::builder("outputs")
        .stage(
            stage("one", scripted(&Seen::default(), act))
                .from(Upstream::observation("numbers", &source.handle()))
                .store(store),
        )
        .start()
        .await
        .unwrap();
    let outputs = pipeline.output::<u64>("one").unwrap();
    assert!(outputs.latest_snapshot().is_none(), "nothing is committed");
    let mut read = outputs.subscribe();
    source.batch([0, 0]);
    has_committed(&pipeline, "one", 2).await;
    source.batch([3]);
    has_committed(&pipeline, "one", 3).await;
    let progress = outputs.latest_snapshot().unwrap().value;
    assert_eq!((progress.items, progress.outputs, progress.commits), (3, 3, 2));
    assert_eq!(read.recv().await.unwrap().events, [3, 3, 3]);
    assert_eq!(read.cursor(), outputs.latest_snapshot().unwrap().cursor);
}

#[tokio::test(start_paused = true)]
async fn waits_on_outputs() {
    let mut source = Published::new(64);
    let pipeline = pipeline(&source, 4, &MemoryStore::new()).await;
    let outputs = pipeline.output::<u64>("one").unwrap();
    let event = outputs.event("seven", |number| *number == 7).within(LONG);
    let items = outputs.eventually("two items", |progress| progress.items >= 2).within(LONG);
    source.batch([6]);
    source.batch([7]);
    assert_eq!(*event.await.unwrap().event(), 7);
    assert_eq!(items.await.unwrap().value.items, 2);
    outputs.eventually("ten items", |progress| progress.items >= 10).within(LONG).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn outputs_are_fresh_for_a_day_without_a_commit() {
    let mut source = Published::new(64);
    let pipeline = pipeline(&source, 4, &MemoryStore::new()).await;
    let outputs = pipeline.output::<u64>("one").unwrap();
    source.batch([1]);
    has_committed(&pipeline, "one", 1).await;
    tokio::time::sleep(Duration::from_secs(24 * 3_600 - 60)).await;
    assert!(outputs.freshness().is_fresh(), "{:?}", outputs.freshness());
}

#[tokio::test(start_paused = true)]
async fn outputs_end_with_their_stage() {
    let mut source = Published::new(64);
    let pipeline = pipeline(&source, 4, &MemoryStore::new()).await;
    let outputs = pipeline.output::<u64>("one").unwrap();
    let mut read = outputs.subscribe();
    source.batch([1]);
    has_committed(&pipeline, "one", 1).await;
    pipeline.stop().await;
    assert_eq!(read.recv().await.unwrap().events, [1]);
    assert!(matches!(read.recv().await, Err(RecvError::Closed(_))));
    assert!(matches!(outputs.state(), State::Stopped { .. }));
}

#[tokio::test(start_paused = true)]
async fn cursors_continue_in_the_next_pipeline_on_the_same_store() {
    let mut source = Published::new(64);
    let store = MemoryStore::new();
    let begun = pipeline(&source, 4, &store).await;
    let mut read = begun.output::<u64>("one").unwrap().subscribe();
    source.batch([1]);
    source.batch([2]);
    has_committed(&begun, "one", 2).await;
    assert_eq!(read.recv().await.unwrap().events, [1]);
    assert_eq!(read.recv().await.unwrap().events, [2]);
    let cursor = read.cursor();
    begun.stop().await;
    let again = pipeline(&source, 4, &store).await;
    let mut read = again.output::<u64>("one").unwrap().subscribe_from(cursor).unwrap();
    source.batch([3]);
    let batch = read.recv().await.unwrap();
    assert_eq!((batch.seq, &*batch.events), (cursor.seq(), &[3][..]));
}

#[tokio::test(start_paused = true)]
async fn another_type_and_another_stage_are_refused() {
    async fn nothing(_: Item<u64>) -> Result<Vec<String>, watchkeeper::DynError> {
        Ok(Vec::new())
    }
    let source = Published::new(64);
    let pipeline = Pipeline::builder("outputs")
        .stage(stage("one", || handler_fn(nothing)).from(Upstream::observation("numbers", &source.handle())))
        .stage(
            stage("t\nwo", scripted(&Seen::default(), pass))
                .from(Upstream::observation("n", &source.handle())),
        )
        .start()
        .await
        .unwrap();
    let error = pipeline.output::<u64>("one").unwrap_err();
    let text = "the outputs of stage one are alloc::string::String, not u64: ask for them as that type";
    assert_eq!(error.to_string(), text);
    let StageOutputError::Type(error) = error else { panic!("{error}") };
    assert_eq!(pipeline.stage("one").unwrap().output::<u64>().unwrap_err(), error);
    let error = pipeline.output::<u64>("th\nree").unwrap_err();
    assert_eq!(error.to_string(), r"the pipeline has no stage th\nree; there are: one, t\nwo");
    assert!(matches!(error, StageOutputError::Stage(_)));
    assert!(pipeline.output::<String>("one").is_ok());
}
