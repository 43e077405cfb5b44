//! Polls on a copy.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::panics::{catch, discard_logged, holding, poll_caught};
use crate::source_health::SourceHealth;
use crate::sync::{Mutex, lock};
use crate::{DynError, ObservedSource, Observer};

/// Polls `O` on a copy of its state, and keeps the copy only when everything went well.
///
/// For observers whose state is cheap to clone (persistent maps, small structs). An error, a
/// time-out or a panic leaves no trace in the state, so nothing needs a rebuild, and an early `?`
/// in `poll` is harmless. A panic of the inner `poll` or `snapshot` is reported as an ordinary
/// error whose message says that it was one.
///
/// One `Transactional` belongs to one runtime: [`snapshot`](Observer::snapshot) answers for the state
/// that was polled last.
///
/// # Examples
///
/// ```
/// use watchkeeper::{DynError, ObservedSource, Observer, Transactional, async_trait};
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
    inner: O,
    /// Of the last poll that was kept, until the runtime asks for it.
    snapshot: Mutex<Option<O::Snapshot>>,
}

impl<O: Observer<State: Clone>> Transactional<O> {
    /// Wraps `observer`.
    #[must_use]
    pub fn new(observer: O) -> Self {
        Self { inner: observer, snapshot: Mutex::new(None) }
    }
}

impl<O: Observer<State: Clone>> Transactional<O> {
    /// One poll and its snapshot, on a copy of `state`.
    async fn attempt(
        &self,
        sources: &[ObservedSource<O::Source>],
        state: &O::State,
    ) -> Result<(O::State, O::Snapshot, Vec<O::Event>), DynError> {
        let attempt = async {
            let mut copy = state.clone();
            let events = self.inner.poll(sources, &mut copy).await?;
            let ((copy, events), snapshot) = holding((copy, events), |(copy, _)| self.inner.snapshot(copy));
            Ok::<_, DynError>((copy, snapshot, events))
        };
        let mut attempt = pin!(Some(attempt));
        let ended = poll_fn(|context| match attempt.as_mut().as_pin_mut() {
            Some(future) => poll_caught(future, context),
            None => Poll::Pending,
        })
        .await;
        // Its destructors are the app's as well.
        match (ended, catch(|| attempt.set(None))) {
            (Ok(result), Ok(())) => result,
            (Err(panic), _) | (Ok(_), Err(panic)) => Err(format!("panicked: {panic}").into()),
        }
    }
}

#[async_trait]
impl<O: Observer<State: Clone>> Observer for Transactional<O> {
    type Source = O::Source;
    type State = O::State;
    type Snapshot = O::Snapshot;
    type Event = O::Event;

    async fn init(&self, sources: &[ObservedSource<O::Source>]) -> Result<O::State, DynError> {
        discard_logged(lock(&self.snapshot).take(), "an unread snapshot");
        self.inner.init(sources).await
    }

    async fn poll(
        &self,
        sources: &[ObservedSource<O::Source>],
        state: &mut O::State,
    ) -> Result<Vec<O::Event>, DynError> {
        discard_logged(lock(&self.snapshot).take(), "an unread snapshot");
        let (copy, snapshot, events) = self.attempt(sources, state).await?;
        let old = std::mem::replace(state, copy);
        let unread = lock(&self.snapshot).replace(snapshot);
        // The new state is in place: its events are told, whatever a destructor does.
        discard_logged((old, unread), "a replaced state");
        Ok(events)
    }

    fn snapshot(&self, state: &O::State) -> O::Snapshot {
        let kept = lock(&self.snapshot).take();
        kept.unwrap_or_else(|| self.inner.snapshot(state))
    }

    fn keeps_state_when_interrupted(&self) -> bool {
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
}

impl<O: Observer + fmt::Debug> fmt::Debug for Transactional<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Transactional").field(&self.inner).finish()
    }
}
