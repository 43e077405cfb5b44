//! `history()` holds the newest batches, at most `history_limit` of them.

use std::sync::{Arc, Mutex};

use tokio::time::Instant;
use watchkeeper::{
    DynError, ObservationConfig, ObservationHandle, ObservationRuntime, ObservedSource, Observer,
    StaticSourceProvider, async_trait,
};

use crate::common::{Act, App, Call, at, each_second};

#[tokio::test(start_paused = true)]
async fn the_newest_are_kept_oldest_first() {
    for (limit, kept) in
        [(0, &[][..]), (1, &[5]), (3, &[3, 4, 5]), (5, &[1, 2, 3, 4, 5]), (64, &[1, 2, 3, 4, 5])]
    {
        let app = App::new();
        app.then(Call::Poll, (1..=5).map(|n| Act::Ok(vec![n, n + 100])));
        let start = Instant::now();
        let runtime = app.start(ObservationConfig { history_limit: limit, ..each_second() }).await;
        let handle = runtime.handle();
        assert!(handle.history().is_empty(), "limit {limit}: init finds no events");
        at(start, 5_500).await;

        let history = handle.history();
        let found: Vec<_> = history.iter().map(|batch| batch.cycle).collect();
        assert_eq!(found, kept, "limit {limit}");
        for batch in history {
            let n = batch.cycle;
            assert_eq!((batch.seq, &batch.events[..]), (n - 1, &[n, n + 100][..]), "limit {limit}");
            assert_eq!(batch.observed_at, start + std::time::Duration::from_secs(n), "limit {limit}");
            assert_eq!((batch.generation, batch.source_count), (1, 1), "limit {limit}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_cycle_without_events_makes_no_batch() {
    let app = App::new();
    app.then(Call::Poll, [Act::Ok(vec![1]), Act::Ok(vec![]), Act::Err("down"), Act::Ok(vec![2])]);
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    at(start, 4_500).await;
    let history = runtime.handle().history();
    let found: Vec<_> = history.iter().map(|batch| (batch.seq, batch.cycle)).collect();
    assert_eq!(found, [(0, 1), (1, 4)], "batches are numbered without gaps");
}

#[tokio::test(start_paused = true)]
async fn a_batch_and_its_snapshot_share_their_moment() {
    let app = App::new();
    app.then(Call::Poll, [Act::slow(300), Act::Ok(vec![1]).after(300)]);
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    at(start, 2_500).await;
    let handle = runtime.handle();
    let (batch, snapshot) = (handle.history().remove(0), handle.latest_snapshot().unwrap());
    assert_eq!((batch.cycle, batch.observed_at), (snapshot.cycle, snapshot.observed_at));
    assert_eq!(batch.system_time, snapshot.system_time);
    assert_eq!(snapshot.cursor.seq(), batch.seq + 1, "the snapshot contains the batch");
}

/// Batches that the history no longer holds are counted too, and so are those of a state that was lost.
#[tokio::test(start_paused = true)]
async fn a_snapshot_counts_every_event_before_it() {
    let app = App::new();
    app.then(Call::Poll, [Act::Ok(vec![1, 2]), Act::Ok(vec![]), Act::Panic("lost"), Act::Ok(vec![3, 4, 5])]);
    let start = Instant::now();
    let runtime = app.start(ObservationConfig { history_limit: 1, ..each_second() }).await;
    let handle = runtime.handle();
    let counted = || handle.latest_snapshot().unwrap().event_count;
    let mut counts = vec![counted()];
    for second in 1..=5 {
        at(start, second * 1_000 + 500).await;
        counts.push(counted());
    }
    assert_eq!(counts, [0, 2, 2, 2, 2, 5], "the fifth cycle rebuilds the state");
}

/// Batches are shared, not copied.
#[tokio::test(start_paused = true)]
async fn every_reader_gets_the_same_batch() {
    let app = App::new();
    app.then(Call::Poll, [Act::Ok(vec![1])]);
    let runtime = app.start(each_second()).await;
    let handle = runtime.handle();
    let (mut one, mut other) = (handle.subscribe(), handle.subscribe());
    let (one, other) = (one.recv().await.unwrap(), other.recv().await.unwrap());
    assert!(Arc::ptr_eq(&one, &other));
    assert!(Arc::ptr_eq(&one, &handle.history()[0]));
}

/// What its readers found in the history, each time a snapshot was dropped: that is between the moment a batch is
/// published and the moment it may be read.
#[derive(Clone, Default)]
struct Peeks {
    handle: Arc<Mutex<Option<ObservationHandle<Self>>>>,
    found: Arc<Mutex<Vec<Vec<u64>>>>,
}

struct Peek(Peeks);

impl Drop for Peek {
    fn drop(&mut self) {
        let handle = self.0.handle.lock().unwrap().clone();
        if let Some(handle) = handle {
            let found = handle.history().iter().map(|batch| batch.seq).collect();
            self.0.found.lock().unwrap().push(found);
        }
    }
}

#[async_trait]
impl Observer for Peeks {
    type Source = ();
    type State = ();
    type Snapshot = Peek;
    type Event = ();

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<(), DynError> {
        Ok(())
    }

    async fn poll(&self, _: &[ObservedSource<()>], (): &mut ()) -> Result<Vec<()>, DynError> {
        Ok(vec![()])
    }

    fn snapshot(&self, (): &()) -> Peek {
        Peek(self.clone())
    }
}

#[tokio::test(start_paused = true)]
async fn while_a_batch_is_published_the_one_that_it_displaces_is_still_there() {
    for (limit, expected) in [(1, [vec![], vec![0], vec![1]]), (2, [vec![], vec![0], vec![0, 1]])] {
        let peeks = Peeks::default();
        let start = Instant::now();
        let config = ObservationConfig { history_limit: limit, ..each_second() };
        let sources = StaticSourceProvider::new(vec![]);
        let runtime = ObservationRuntime::start(sources, peeks.clone(), config).await.unwrap();
        *peeks.handle.lock().unwrap() = Some(runtime.handle());
        at(start, 3_500).await;
        let newest = runtime.handle().history().iter().map(|batch| batch.seq).collect::<Vec<_>>();
        assert_eq!(newest, if limit == 1 { vec![2] } else { vec![1, 2] });
        assert_eq!(*peeks.found.lock().unwrap(), expected, "limit {limit}");
        peeks.handle.lock().unwrap().take();
    }
}
