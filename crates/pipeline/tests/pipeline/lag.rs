//! Gaps and rebuilds are items: handled in order, committed, retried.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use watchkeeper_pipeline::{
    Item, MemoryStore, OnError, Pipeline, PipelineState, StageState, Upstream, UpstreamPosition, stage,
};

use crate::common::{Published, STEADY, Seen, has_committed, is_in, pass, scripted};

fn items(seen: &Seen) -> Vec<Item<u64>> {
    seen.lock().unwrap().iter().map(|(item, ..)| *item).collect()
}

/// Six numbers with a rebuild before the last: a history of three batches has lost 1, 2 and 3.
fn publish(source: &mut Published) {
    for number in 1..=5 {
        source.batch([number]);
    }
    source.rebuild();
    source.batch([6]);
}

#[tokio::test(start_paused = true)]
async fn gaps_and_rebuilds_come_in_order_and_are_committed() {
    let mut source = Published::new(3);
    let (seen, store) = (Seen::default(), MemoryStore::new());
    let build = |seen: &Seen| {
        let upstream = Upstream::observation("numbers", &source.handle());
        Pipeline::builder("lag").stage(stage("one", scripted(seen, pass)).from(upstream).store(store.clone()))
    };
    let first = build(&seen);
    let second = build(&seen);
    publish(&mut source);
    let pipeline = first.start().await.unwrap();
    has_committed(&pipeline, "one", 5).await;
    let expected = [
        Item::Lagged { missed: 3 },
        Item::Event(4),
        Item::Event(5),
        Item::Rebuilt { generation: 2 },
        Item::Event(6),
    ];
    assert_eq!(items(&seen), expected);
    let position = UpstreamPosition::Batch { cursor: source.cursor(), done: 0 };
    assert_eq!(store.stored().position.get("numbers"), Some(position));
    pipeline.abort().await;
    let pipeline = second.start().await.unwrap();
    source.batch([7]);
    has_committed(&pipeline, "one", 1).await;
    assert_eq!(items(&seen)[5..], [Item::Event(7)]);
}

#[tokio::test(start_paused = true)]
async fn a_gap_and_a_rebuild_that_fail_are_retried_and_become_dead_letters() {
    let mut source = Published::new(3);
    let (seen, store) = (Seen::default(), MemoryStore::new());
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = Arc::clone(&mended);
    let act = move |item: Item<u64>, attempt| {
        if item.event().is_none() && !is_mended.load(Relaxed) {
            Err("a gap".into())
        } else {
            pass(item, attempt)
        }
    };
    let begin = source.cursor();
    let pipeline = Pipeline::builder("lag").stage(
        stage("one", scripted(&seen, act))
            .from(Upstream::observation("numbers", &source.handle()))
            .store(store.clone())
            .retries(1)
            .on_error(OnError::DeadLetter)
            .backoff(STEADY),
    );
    publish(&mut source);
    let pipeline = pipeline.start().await.unwrap();
    has_committed(&pipeline, "one", 5).await;
    let (gap, rebuilt) = (Item::Lagged { missed: 3 }, Item::Rebuilt { generation: 2 });
    let handled = [gap, gap, Item::Event(4), Item::Event(5), rebuilt, rebuilt, Item::Event(6)];
    assert_eq!(items(&seen), handled);
    let one = pipeline.stage("one").unwrap();
    let shown: Vec<_> =
        one.dead_letters().iter().map(|letter| (letter.item.clone(), letter.attempts)).collect();
    assert_eq!(shown, [("Lagged { missed: 3 }".to_owned(), 2), ("Rebuilt { generation: 2 }".to_owned(), 2)]);
    assert_eq!(store.stored().dead_letters[0].item, gap);
    assert_eq!(one.dead_letters()[0].position, UpstreamPosition::Batch { cursor: begin, done: 0 });
    mended.store(true, Relaxed);
    one.replay(0).await.unwrap();
    one.replay(1).await.unwrap();
    assert_eq!(items(&seen)[7..], [gap, rebuilt]);
}

#[tokio::test(start_paused = true)]
async fn a_gap_that_is_not_committed_comes_again_with_the_batches_lost_since() {
    let mut source = Published::new(3);
    let (seen, store) = (Seen::default(), MemoryStore::new());
    let build = |seen: &Seen, fails: bool| {
        let act = move |item: Item<u64>, attempt| {
            if fails && item.event().is_none() { Err("a gap".into()) } else { pass(item, attempt) }
        };
        let upstream = Upstream::observation("numbers", &source.handle());
        Pipeline::builder("lag")
            .stage(stage("one", scripted(seen, act)).from(upstream).store(store.clone()).retries(0))
    };
    let (first, second, third) = (build(&seen, false), build(&seen, true), build(&seen, false));
    source.batch([1]);
    let pipeline = first.start().await.unwrap();
    has_committed(&pipeline, "one", 1).await;
    pipeline.abort().await;
    (2..=5).for_each(|number| source.batch([number]));
    let pipeline = second.start().await.unwrap();
    assert_eq!(pipeline.ended().await.state, PipelineState::Failed);
    assert_eq!(items(&seen)[1..], [Item::Lagged { missed: 1 }]);
    source.batch([6]);
    let pipeline = third.start().await.unwrap();
    has_committed(&pipeline, "one", 4).await;
    assert_eq!(
        items(&seen)[2..],
        [Item::Lagged { missed: 2 }, Item::Event(4), Item::Event(5), Item::Event(6)]
    );
    is_in(&pipeline, "one", StageState::Running).await;
}

#[tokio::test(start_paused = true)]
async fn items_of_a_partly_committed_batch_are_not_delivered_again() {
    let mut source = Published::new(8);
    let (seen, store) = (Seen::default(), MemoryStore::new());
    let build = |seen: &Seen, fails: bool| {
        let act = move |item: Item<u64>, attempt| {
            if fails && item == Item::Event(3) { Err("three".into()) } else { pass(item, attempt) }
        };
        let upstream = Upstream::observation("numbers", &source.handle());
        Pipeline::builder("lag")
            .stage(stage("one", scripted(seen, act)).from(upstream).store(store.clone()).retries(0))
    };
    let (first, second) = (build(&seen, true), build(&seen, false));
    source.batch([1, 2, 3, 4]);
    source.batch([5, 6]);
    let pipeline = first.start().await.unwrap();
    assert_eq!(pipeline.ended().await.state, PipelineState::Failed);
    let pipeline = second.start().await.unwrap();
    has_committed(&pipeline, "one", 4).await;
    let events: Vec<_> = [1, 2, 3, 3, 4, 5, 6].map(Item::Event).into();
    assert_eq!(items(&seen), events);
    let positions: Vec<_> = seen.lock().unwrap()[2..4].iter().map(|(_, position, _)| *position).collect();
    assert_eq!(positions[0], positions[1]);
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_batch_that_is_lost_with_its_generation_is_a_gap() {
    let mut source = Published::new(3);
    let (seen, store) = (Seen::default(), MemoryStore::new());
    let stops_at_3 = |item: Item<u64>, attempt| {
        if item.event() == Some(3) { Err("three".into()) } else { pass(item, attempt) }
    };
    let upstream = Upstream::observation("numbers", &source.handle());
    let one = stage("one", scripted(&seen, stops_at_3)).from(upstream).retries(0).store(store.clone());
    let pipeline = Pipeline::builder("lag").stage(one).start().await.unwrap();
    source.batch([0]);
    let resumed = source.cursor();
    source.batch([1, 2, 3, 4]);
    assert_eq!(pipeline.ended().await.state, PipelineState::Failed);
    let committed = UpstreamPosition::Batch { cursor: resumed, done: 2 };
    assert_eq!(store.stored().position.get("numbers"), Some(committed));

    // The next process has recorded what was before that batch, and finds other events under its number.
    let mut source = Published::resumed(3, Some(resumed));
    source.rebuild();
    source.batch([7, 8, 9]);
    let seen = Seen::default();
    let stops_at_the_rebuild = |item: Item<u64>, attempt| {
        if item == (Item::Rebuilt { generation: 2 }) { Err("rebuilt".into()) } else { pass(item, attempt) }
    };
    let upstream = Upstream::observation("numbers", &source.handle());
    let one =
        stage("one", scripted(&seen, stops_at_the_rebuild)).from(upstream).retries(0).store(store.clone());
    let pipeline = Pipeline::builder("lag").stage(one).start().await.unwrap();
    assert_eq!(pipeline.ended().await.state, PipelineState::Failed);
    let upstream = Upstream::observation("numbers", &source.handle());
    let one = stage("one", scripted(&seen, pass)).from(upstream).store(store.clone());
    let pipeline = Pipeline::builder("lag").stage(one).start().await.unwrap();
    has_committed(&pipeline, "one", 4).await;
    let expected = [
        Item::Lagged { missed: 1 },
        Item::Rebuilt { generation: 2 },
        Item::Rebuilt { generation: 2 },
        Item::Event(7),
        Item::Event(8),
        Item::Event(9),
    ];
    assert_eq!(items(&seen), expected);
    let end = UpstreamPosition::Batch { cursor: source.cursor(), done: 0 };
    assert_eq!(store.stored().position.get("numbers"), Some(end));
}
