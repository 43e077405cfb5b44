//! What the tests share: a feed of numbers, and handlers that do what a test says.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::feed::{Feed, FeedSuccess};
use watchkeeper::subscription::Cursor;
use watchkeeper::{DynError, ObservationConfig, ObservationHandle, ObservedSource, Observer, async_trait};
use watchkeeper_pipeline::{Emitter, Handler, Item, UpstreamPosition};

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
