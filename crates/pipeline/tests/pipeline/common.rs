//! What the tests share: a feed of numbers, and handlers that do what a test says.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use watchkeeper::feed::{Feed, FeedSuccess};
use watchkeeper::runtime::Backoff;
use watchkeeper::subscription::Cursor;

use watchkeeper::{
    DynError, ObservationConfig, ObservationHandle, ObservedSource, Observer, async_trait, until,
};
use watchkeeper_pipeline::store::{DeadLetterChange, NewOutputs, StageName, Stored};
use watchkeeper_pipeline::{
    CommitStore, Emitter, Handler, Item, MemoryStore, Pipeline, StagePosition, StageState, UpstreamPosition,
};

pub(crate) const LONG: Duration = Duration::from_secs(600);

/// An observation of numbers that a test publishes.
pub(crate) struct Numbers;

#[async_trait]
impl Observer for Numbers {
    type Source = ();
    type State = ();
    type Snapshot = ();
    type Event = u64;

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<(), DynError> {
        Ok(())
    }

    async fn poll(&self, _: &[ObservedSource<()>], (): &mut ()) -> Result<Vec<u64>, DynError> {
        Ok(Vec::new())
    }

    fn snapshot(&self, (): &()) {}
}

pub(crate) struct Published {
    feed: Feed<Numbers>,
    cycle: u64,
    generation: u64,
}

impl Published {
    pub(crate) fn new(history_limit: usize) -> Self {
        Self::resumed(history_limit, None)
    }

    pub(crate) fn resumed(history_limit: usize, cursor: Option<Cursor>) -> Self {
        let config = ObservationConfig { history_limit, ..ObservationConfig::default() };
        let generation = cursor.map_or(1, |cursor| cursor.generation());
        Self { feed: Feed::live(&config, cursor).unwrap(), cycle: 0, generation }
    }

    pub(crate) fn handle(&self) -> ObservationHandle<Numbers> {
        self.feed.handle()
    }

    pub(crate) fn batch(&mut self, events: impl IntoIterator<Item = u64>) {
        let now = Instant::now();
        let success = FeedSuccess {
            cycle: self.cycle,
            generation: self.generation,
            began: now,
            is_polled: true,
            value: (),
            events: events.into_iter().collect(),
        };
        self.feed.success(now, success).unwrap();
        self.cycle += 1;
    }

    pub(crate) fn rebuild(&mut self) {
        self.generation += 1;
        self.batch([]);
    }

    pub(crate) fn cursor(&self) -> Cursor {
        self.feed.cursor()
    }

    /// The observation ends.
    pub(crate) fn end(self) {
        drop(self.feed);
    }
}

/// What handlers have seen, in order, with the attempt.
pub(crate) type Seen = Arc<Mutex<Vec<(Item<u64>, UpstreamPosition, u64)>>>;

/// Emits each number as the function says, which may fail and panic.
pub(crate) struct Scripted<F> {
    pub(crate) seen: Seen,
    pub(crate) act: F,
}

impl<F> Handler<u64> for Scripted<F>
where
    F: FnMut(Item<u64>, u64) -> Result<Vec<u64>, DynError> + Send + 'static,
{
    type Output = u64;

    async fn handle(&mut self, item: Item<&u64>, out: &mut Emitter<u64>) -> Result<(), DynError> {
        let item = item.cloned();
        self.seen.lock().unwrap().push((item, out.position(), out.attempt()));
        let attempt = out.attempt();
        for output in (self.act)(item, attempt)? {
            out.emit(output);
        }
        Ok(())
    }
}

pub(crate) fn scripted<F>(seen: &Seen, act: F) -> impl FnMut() -> Scripted<F> + Send + 'static
where
    F: FnMut(Item<u64>, u64) -> Result<Vec<u64>, DynError> + Clone + Send + 'static,
{
    let seen = Arc::clone(seen);
    move || Scripted { seen: Arc::clone(&seen), act: act.clone() }
}

/// The numbers that were seen, without gaps and rebuilds.
pub(crate) fn numbers(seen: &Seen) -> Vec<u64> {
    seen.lock().unwrap().iter().filter_map(|(item, ..)| item.event()).collect()
}

pub(crate) fn pass(item: Item<u64>, _: u64) -> Result<Vec<u64>, DynError> {
    Ok(item.event().into_iter().collect())
}

/// Delays of 1 s, 2 s, 4 s and so on.
pub(crate) const STEADY: Backoff =
    Backoff { first: Duration::from_secs(1), max: Duration::from_secs(3_600), jitter: 0.0, seed: 0 };

/// A handler that passes an item on once the gate has a permit for it.
pub(crate) fn gated(seen: &Seen, gate: &Arc<Semaphore>) -> impl FnMut() -> Gated + Send + 'static {
    let (seen, gate) = (Arc::clone(seen), Arc::clone(gate));
    move || Gated { seen: Arc::clone(&seen), gate: Arc::clone(&gate) }
}

/// An item is seen before it waits.
pub(crate) struct Gated {
    seen: Seen,
    gate: Arc<Semaphore>,
}

impl Handler<u64> for Gated {
    type Output = u64;

    async fn handle(&mut self, item: Item<&u64>, out: &mut Emitter<u64>) -> Result<(), DynError> {
        self.seen.lock().unwrap().push((item.cloned(), out.position(), out.attempt()));
        self.gate.acquire().await?.forget();
        item.cloned().event().into_iter().for_each(|number| out.emit(number));
        Ok(())
    }
}

/// A store in memory whose next commits can be refused.
#[derive(Clone, Default)]
pub(crate) struct Refusing {
    pub(crate) kept: MemoryStore<u64, u64>,
    pub(crate) refusals: Arc<AtomicU64>,
}

impl CommitStore<u64, u64> for Refusing {
    async fn load(&mut self, stage: &StageName) -> Result<Stored<u64, u64>, DynError> {
        self.kept.load(stage).await
    }

    async fn commit(
        &mut self,
        position: &StagePosition,
        outputs: NewOutputs<'_, u64>,
        dead_letters: &[DeadLetterChange<u64>],
    ) -> Result<(), DynError> {
        let left = self.refusals.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        if left.is_ok() {
            return Err("the disk is full".into());
        }
        self.kept.commit(position, outputs, dead_letters).await
    }
}

/// Waits until the handlers have seen `count` items.
pub(crate) async fn has_seen(seen: &Seen, count: usize) {
    let has_seen = || async { seen.lock().unwrap().len() >= count };
    until("the items are seen", has_seen).within(LONG).await.unwrap();
}

/// Waits until the stage has committed `items` items.
pub(crate) async fn has_committed(pipeline: &Pipeline, stage: &str, items: u64) {
    let output = pipeline.output::<u64>(stage).unwrap();
    output
        .eventually("the items are committed", move |progress| progress.items >= items)
        .or_now()
        .within(LONG)
        .await
        .unwrap();
}

/// Waits for a state of a stage.
pub(crate) async fn is_in(pipeline: &Pipeline, stage: &str, state: StageState) {
    let stage = pipeline.stage(stage).unwrap();
    stage.wait_for(state.to_string(), move |status| status.state == state).within(LONG).await.unwrap();
}
