//! Polls on a copy.

use std::fmt;
use std::future::poll_fn;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::panics::{AppValue, AppValues, PanicMessage, catch, poll_caught};
use crate::source::health::SourceHealth;
use crate::sync::{Mutex, lock};
use crate::{DynError, ObservationConfig, ObservedSource, Observer};

/// Polls `O` on a copy of its state, and keeps the copy only if the poll succeeds.
///
/// Use it for state that is cheap to clone (persistent maps, small structs). An error, a time-out or a panic leaves
/// the state unchanged. So no rebuild is needed, and an early `?` in `poll` is harmless. A panic of the inner `poll`
/// or `snapshot` is returned as an error, with a message that begins with `panicked:`. A panic of a destructor when a
/// poll is cut off is logged.
///
/// `examples/transactional.rs` shows an observer that loses events without it.
///
/// Use one `Transactional` for one runtime: after a successful poll [`snapshot`](Observer::snapshot) returns the
/// snapshot of that poll, for any state.
///
/// # Examples
///
/// ```
/// use watchkeeper::{DynError, ObservedSource, Observer, async_trait};
/// use watchkeeper::runtime::Transactional;
///
/// struct Sum;
///
/// #[async_trait]
/// impl Observer for Sum {
///     type Source = Option<u64>;
///     type State = u64;
///     type Snapshot = u64;
///     type Event = u64;
///
///     async fn init(&self, _: &[ObservedSource<Option<u64>>]) -> Result<u64, DynError> {
///         Ok(0)
///     }
///
///     async fn poll(&self, sources: &[ObservedSource<Option<u64>>], sum: &mut u64) -> Result<Vec<u64>, DynError> {
///         for source in sources {
///             *sum += source.source.ok_or("this source has no number")?;
///         }
///         Ok(vec![*sum])
///     }
///
///     fn snapshot(&self, sum: &u64) -> u64 {
///         *sum
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), DynError> {
/// let observer = Transactional::new(Sum);
/// let sources = [ObservedSource::new("a", Some(3)), ObservedSource::new("b", None)];
/// let mut sum = observer.init(&[]).await?;
/// assert!(observer.poll(&sources, &mut sum).await.is_err());
/// assert_eq!(observer.snapshot(&sum), 0); // what "a" had added is gone
/// # Ok(())
/// # }
/// ```
pub struct Transactional<O: Observer> {
    inner: AppValue<O>,
    /// The snapshot of the last successful poll, until the runtime takes it.
    snapshot: Mutex<Option<AppValue<O::Snapshot>>>,
}

/// The new state, its snapshot and the events of a poll on a copy. Each is dropped separately.
type Attempt<O> = (
    AppValue<<O as Observer>::State>,
    AppValue<<O as Observer>::Snapshot>,
    AppValues<<O as Observer>::Event>,
);

impl<O: Observer<State: Clone>> Transactional<O> {
    /// Wraps `observer`.
    #[must_use]
    pub fn new(observer: O) -> Self {
        Self { inner: AppValue::new(observer), snapshot: Mutex::new(None) }
    }
}

impl<O: Observer<State: Clone>> Transactional<O> {
    /// Makes one poll and its snapshot on a copy of `state`.
    ///
    /// When cut off, it drops the poll and then the copy, each separately. `state` is not touched.
    async fn attempt(
        &self,
        sources: &[ObservedSource<O::Source>],
        state: &O::State,
    ) -> Result<Attempt<O>, DynError> {
        let mut copy = catch(|| AppValue::new(state.clone())).map_err(panicked)?;
        // The call is inside the future, so that its panic is caught too.
        let polling = async { self.inner.poll(sources, &mut copy).await.map(AppValues::new) };
        let mut polling = AppValue::new(Box::pin(polling));
        let ended = poll_fn(|context| poll_caught(polling.as_mut(), context)).await;
        // The destructors of the future are app code too.
        let polled = match (ended, polling.discard()) {
            (Ok(polled), None) => polled.map_err(AppValue::new),
            (Err(panic), _) | (Ok(_), Some(panic)) => Err(AppValue::new(panicked(panic))),
        };
        match polled {
            Ok(events) => {
                let snapshot = catch(|| AppValue::new(self.inner.snapshot(&copy)));
                snapshot.map(|snapshot| (copy, snapshot, events)).map_err(panicked)
            }
            Err(error) => Err(copy.discard().map_or_else(|| error.into_inner(), panicked)),
        }
    }

    fn drop_unread_snapshot(&self) {
        let unread = lock(&self.snapshot).take();
        drop(unread);
    }
}

#[allow(clippy::needless_pass_by_value, reason = "made for `map_err`")]
fn panicked(panic: PanicMessage) -> DynError {
    format!("panicked: {panic}").into()
}

#[async_trait]
impl<O: Observer<State: Clone>> Observer for Transactional<O> {
    type Source = O::Source;
    type State = O::State;
    type Snapshot = O::Snapshot;
    type Event = O::Event;

    async fn init(&self, sources: &[ObservedSource<O::Source>]) -> Result<O::State, DynError> {
        self.drop_unread_snapshot();
        self.inner.init(sources).await
    }

    async fn poll(
        &self,
        sources: &[ObservedSource<O::Source>],
        state: &mut O::State,
    ) -> Result<Vec<O::Event>, DynError> {
        self.drop_unread_snapshot();
        let (copy, snapshot, events) = self.attempt(sources, state).await?;
        // The new state is in place, so its events are returned even if a destructor panics.
        let old = AppValue::new(std::mem::replace(state, copy.into_inner()));
        let unread = lock(&self.snapshot).replace(snapshot);
        drop((old, unread));
        Ok(events.into_inner())
    }

    fn snapshot(&self, state: &O::State) -> O::Snapshot {
        let kept = lock(&self.snapshot).take();
        kept.map_or_else(|| self.inner.snapshot(state), AppValue::into_inner)
    }

    fn configured(&mut self, config: &ObservationConfig) {
        self.inner.configured(config);
    }

    fn poll_is_cancel_safe(&self) -> bool {
        true
    }

    fn source_health(snapshot: &O::Snapshot, name: &str) -> Option<SourceHealth> {
        O::source_health(snapshot, name)
    }

    fn asked_since(snapshot: &O::Snapshot, since: Instant) -> Option<O::Snapshot> {
        O::asked_since(snapshot, since)
    }

    fn asked_at(event: &O::Event) -> Option<Instant> {
        O::asked_at(event)
    }

    fn weight(snapshot: &O::Snapshot, events: &[O::Event]) -> usize {
        O::weight(snapshot, events)
    }
}

impl<O: Observer + fmt::Debug> fmt::Debug for Transactional<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Transactional").field(&self.inner).finish()
    }
}
