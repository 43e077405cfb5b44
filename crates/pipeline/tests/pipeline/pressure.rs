//! A slow stage makes the stages before it wait, and never the observation.

use std::sync::Arc;

use tokio::sync::Semaphore;
use watchkeeper_pipeline::{Item, Pipeline, Upstream, stage};

use crate::common::{Published, Seen, gated, has_committed, has_seen, numbers, pass, scripted};

/// `first` passes to `sink`, which needs a permit for each item.
async fn slow(
    source: &Published,
    first: &Seen,
    sink: &Seen,
    gate: &Arc<Semaphore>,
    capacity: usize,
) -> Pipeline {
    Pipeline::builder("pressure")
        .stage(
            stage("first", scripted(first, pass))
                .from(Upstream::observation("numbers", &source.handle()))
                .capacity(capacity),
        )
        .stage(stage("sink", gated(sink, gate)).from(Upstream::stage("first")))
        .start()
        .await
        .unwrap()
}

/// Waits until nothing moves any more: the paused clock advances only then.
async fn all_is_quiet() {
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_sink_makes_its_upstream_stage_wait_at_its_capacity() {
    for capacity in [1, 3] {
        let mut source = Published::new(64);
        let (first, sink, gate) = (Seen::default(), Seen::default(), Arc::new(Semaphore::new(0)));
        let pipeline = slow(&source, &first, &sink, &gate, capacity).await;
        (0..20).for_each(|number| source.batch([number]));
        has_seen(&sink, 1).await;
        all_is_quiet().await;
        // `capacity` batches are published, and one more is handled and waits for room.
        assert_eq!(numbers(&first).len(), capacity + 1);
        let published = pipeline.output::<u64>("first").unwrap().latest_snapshot().unwrap().value;
        assert_eq!(published.items, capacity as u64);
        gate.add_permits(1);
        has_seen(&sink, 2).await;
        all_is_quiet().await;
        assert_eq!(numbers(&first).len(), capacity + 2, "one more for each committed batch");
        gate.add_permits(100);
        has_committed(&pipeline, "sink", 20).await;
        assert_eq!(numbers(&sink), (0..20).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn the_observation_goes_on_and_its_first_reader_lags_by_what_its_history_has_lost() {
    let mut source = Published::new(5);
    let (first, sink, gate) = (Seen::default(), Seen::default(), Arc::new(Semaphore::new(0)));
    let pipeline = slow(&source, &first, &sink, &gate, 2).await;
    (0..3).for_each(|number| source.batch([number]));
    has_seen(&first, 3).await;
    all_is_quiet().await;
    // 0 and 1 wait in the link, 2 is handled: 3 to 7 fit into the history.
    (3..8).for_each(|number| source.batch([number]));
    gate.add_permits(8);
    has_committed(&pipeline, "sink", 8).await;
    assert_eq!(numbers(&sink), (0..8).collect::<Vec<_>>());
    all_is_quiet().await;
    (8..11).for_each(|number| source.batch([number]));
    has_seen(&first, 11).await;
    all_is_quiet().await;
    (11..20).for_each(|number| source.batch([number]));
    gate.add_permits(100);
    has_committed(&pipeline, "sink", 16).await;
    let lagged: Vec<_> = first.lock().unwrap().iter().map(|(item, ..)| *item).skip(11).collect();
    assert_eq!(lagged[0], Item::Lagged { missed: 4 });
    assert_eq!(lagged[1..], (15..20).map(Item::Event).collect::<Vec<_>>());
    // Nothing is lost between the stages.
    assert_eq!(numbers(&sink), (0..11).chain(15..20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn the_slowest_of_several_readers_holds_the_room() {
    let mut source = Published::new(64);
    let (first, slow, fast) = (Seen::default(), Seen::default(), Seen::default());
    let gate = Arc::new(Semaphore::new(0));
    let pipeline = Pipeline::builder("pressure")
        .stage(
            stage("first", scripted(&first, pass))
                .from(Upstream::observation("numbers", &source.handle()))
                .capacity(2),
        )
        .stage(stage("slow", gated(&slow, &gate)).from(Upstream::stage("first")))
        .stage(stage("fast", scripted(&fast, pass)).from(Upstream::stage("first")))
        .start()
        .await
        .unwrap();
    (0..10).for_each(|number| source.batch([number]));
    has_seen(&fast, 2).await;
    all_is_quiet().await;
    assert_eq!(numbers(&fast), [0, 1]);
    gate.add_permits(100);
    has_committed(&pipeline, "slow", 10).await;
    has_committed(&pipeline, "fast", 10).await;
    assert_eq!(numbers(&slow), numbers(&fast));
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_no_stage_reads_never_waits() {
    let mut source = Published::new(256);
    let seen = Seen::default();
    let pipeline = Pipeline::builder("pressure")
        .stage(
            stage("one", scripted(&seen, pass))
                .from(Upstream::observation("numbers", &source.handle()))
                .capacity(1),
        )
        .start()
        .await
        .unwrap();
    (0..200).for_each(|number| source.batch([number]));
    has_committed(&pipeline, "one", 200).await;
    assert_eq!(numbers(&seen), (0..200).collect::<Vec<_>>());
}
