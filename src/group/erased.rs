//! Handles with an erased observer.

#[cfg(feature = "json")]
pub(crate) mod json;
mod typed;

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper_fsm::{StateKind, StopReason};

use crate::cursor::Cursor;
use crate::error::ObservationFailure;
use crate::group::status::GroupStatus;
use crate::handle::ObservationHandle;
use crate::mark::Mark;
use crate::observer::Observer;
use crate::source::health::SourceHealth;
use crate::text::{NAME, quoted};
use crate::wait::judge::SourceWish;
use crate::wait::{Eventually, Invariant, TakeFound, Throughout, Unmet, Verdict, finding};

#[cfg(feature = "json")]
use json::{EventJson, JsonSubscription, JsonSubscriptionError};

use typed::{BoxedBuilder, Erased, ErasedSnapshot, ErasedWait, Operator, SnapshotView, TypedHandle, of_any};

/// A named [`ObservationHandle`] with an erased observer, for code that holds several kinds.
///
/// It has the same waits. A predicate gets an [`AnySnapshot`], or an event as `dyn Any`. A wait returns the
/// [`GroupStatus`] of the moment that met it; [`eventually_some`](Self::eventually_some) returns what it found.
/// Cloneable.
#[derive(Clone)]
pub struct AnyHandle {
    name: Arc<str>,
    inner: Arc<dyn Erased>,
}

/// A snapshot of any type, in the predicate of a wait.
#[derive(Clone, Copy)]
pub struct AnySnapshot<'a> {
    inner: &'a dyn ErasedSnapshot,
}

/// A wait on an [`AnyHandle`] that still needs its window. It returns a `T`: see
/// [`WaitBuilder`](crate::wait::WaitBuilder).
#[must_use = "a wait without a window does nothing: add `.within(..)` or `.during(..)`, then `.await`"]
pub struct AnyWaitBuilder<'a, K = Eventually, T = GroupStatus> {
    name: Arc<str>,
    inner: BoxedBuilder<'a>,
    read: ReadErased<'a, T>,
    kind: PhantomData<fn() -> K>,
}

/// A pending wait on an [`AnyHandle`] that returns a `T`: see [`Wait`](crate::wait::Wait).
#[must_use = "a wait does nothing unless it is awaited"]
pub struct AnyWait<'a, T = GroupStatus> {
    name: Arc<str>,
    inner: Pin<Box<dyn ErasedWait + Send + 'a>>,
    read: ReadErased<'a, T>,
}

/// How the returned value is made when a wait is met.
enum ReadErased<'a, T> {
    Status(fn(GroupStatus) -> T),
    Found(TakeFound<'a, T>),
}

impl AnyHandle {
    /// Erases the observer of `handle`.
    #[must_use]
    pub fn new<O: Observer>(name: &str, handle: &ObservationHandle<O>) -> Self {
        let lens = SnapshotView {
            #[cfg(feature = "json")]
            json: None,
            #[cfg(feature = "json")]
            event: None,
            observer: PhantomData,
        };
        Self::of(name, handle, lens)
    }

    /// Erases the observer of `handle`, and converts snapshots to JSON with `json`.
    #[cfg(feature = "json")]
    #[must_use]
    pub fn with_json<O: Observer>(
        name: &str,
        handle: &ObservationHandle<O>,
        json: impl Fn(&O::Snapshot) -> serde_json::Value + Send + Sync + 'static,
    ) -> Self {
        Self::of(
            name,
            handle,
            SnapshotView { json: Some(Arc::new(json)), event: None, observer: PhantomData },
        )
    }

    /// Erases the observer of `handle`, and converts snapshots and events to JSON: see
    /// [`subscribe_json`](Self::subscribe_json).
    ///
    /// # Examples
    ///
    /// For an event that is `Serialize`, `event` is `|event| serde_json::to_value(event)`.
    ///
    /// ```
    /// use serde_json::{Value, json};
    /// # use std::time::Duration;
    /// # use watchkeeper::{
    /// #     DynError, ObservationConfig, ObservationRuntime, ObservedSource, Observer, StaticSourceProvider,
    /// #     async_trait,
    /// # };
    /// # use watchkeeper::group::AnyHandle;
    /// # struct Counter;
    /// # #[async_trait]
    /// # impl Observer for Counter {
    /// #     type Source = u64;
    /// #     type State = u64;
    /// #     type Snapshot = u64;
    /// #     type Event = u64;
    /// #     async fn init(&self, _: &[ObservedSource<u64>]) -> Result<u64, DynError> {
    /// #         Ok(0)
    /// #     }
    /// #     async fn poll(&self, _: &[ObservedSource<u64>], sum: &mut u64) -> Result<Vec<u64>, DynError> {
    /// #         *sum += 5;
    /// #         Ok(vec![*sum])
    /// #     }
    /// #     fn snapshot(&self, sum: &u64) -> u64 {
    /// #         *sum
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let steps = StaticSourceProvider::new(vec![ObservedSource::new("step", 5)]);
    /// let runtime = ObservationRuntime::start(steps, Counter, ObservationConfig::default()).await?;
    /// let show = |sum: &u64| json!({ "sum": sum });
    /// let handle = AnyHandle::with_json_events("sum", &runtime.handle(), show, |event| serde_json::to_value(event));
    ///
    /// let batch = handle.subscribe_json()?.recv().await?.to_json();
    /// assert_eq!((&batch["type"], &batch["seq"], &batch["cycle"]), (&json!("batch"), &json!(0), &json!(1)));
    /// assert_eq!(batch["events"], json!([{ "value": 5 }]));
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "json")]
    #[must_use]
    pub fn with_json_events<O: Observer>(
        name: &str,
        handle: &ObservationHandle<O>,
        snapshot: impl Fn(&O::Snapshot) -> serde_json::Value + Send + Sync + 'static,
        event: impl Fn(&O::Event) -> serde_json::Result<serde_json::Value> + Send + Sync + 'static,
    ) -> Self {
        let (json, event) =
            (Some(Arc::new(snapshot) as typed::ToJson<O>), Some(Arc::new(event) as EventJson<O::Event>));
        Self::of(name, handle, SnapshotView { json, event, observer: PhantomData })
    }

    fn of<O: Observer>(name: &str, handle: &ObservationHandle<O>, lens: SnapshotView<O>) -> Self {
        Self { name: Arc::from(name), inner: Arc::new(TypedHandle { handle: handle.clone(), lens }) }
    }

    /// The handle's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The status at this moment, without the snapshot.
    #[must_use]
    pub fn status(&self) -> GroupStatus {
        self.inner.status(&self.name)
    }

    /// The newest 64 failures, oldest first.
    #[must_use]
    pub fn failures(&self) -> Vec<Arc<ObservationFailure>> {
        self.inner.failures()
    }

    /// This moment, for waits that count only work begun after it.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.inner.mark()
    }

    /// One sentence about a source: see [`ObservationHandle::why_stale`].
    #[must_use]
    pub fn why_stale(&self, source: &str) -> String {
        self.inner.why_stale(source)
    }

    /// Waits for the runtime's end: see [`ObservationHandle::stopped`].
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe.
    pub async fn stopped(&self) -> StopReason {
        self.inner.stopped().await
    }

    /// Passes the latest snapshot to `look` and returns the result; `None` before the first snapshot.
    #[must_use]
    pub fn look<T>(&self, look: impl FnOnce(AnySnapshot<'_>) -> T) -> Option<T> {
        let mut looked = None;
        let mut look = Some(look);
        self.inner.look(&mut |snapshot| looked = look.take().map(|look| look(snapshot)));
        looked
    }

    /// Every batch from now on as JSON, each exactly once: see [`ObservationHandle::subscribe`].
    ///
    /// # Errors
    ///
    /// [`JsonSubscriptionError`]: the handle cannot convert events to JSON.
    #[cfg(feature = "json")]
    pub fn subscribe_json(&self) -> Result<JsonSubscription, JsonSubscriptionError> {
        self.inner.subscribe_json(None)
    }

    /// Every batch after `cursor` as JSON: see [`ObservationHandle::subscribe_from`].
    ///
    /// With [`AnySnapshot::cursor`] it continues right after that snapshot.
    ///
    /// # Errors
    ///
    /// [`JsonSubscriptionError`]: the handle cannot convert events to JSON, or the cursor is of another runtime or
    /// from the future.
    #[cfg(feature = "json")]
    pub fn subscribe_json_from(&self, cursor: Cursor) -> Result<JsonSubscription, JsonSubscriptionError> {
        self.inner.subscribe_json(Some(cursor))
    }

    /// See [`ObservationHandle::eventually`].
    pub fn eventually<'a, F, R>(&self, label: impl Into<String>, predicate: F) -> AnyWaitBuilder<'a>
    where
        F: FnMut(AnySnapshot<'_>) -> R + Send + 'a,
        R: Into<Verdict>,
    {
        self.wait(label.into(), Operator::Eventually(of_any(predicate)))
    }

    /// See [`ObservationHandle::eventually_some`].
    pub fn eventually_some<'a, F, T>(
        &self,
        label: impl Into<String>,
        mut find: F,
    ) -> AnyWaitBuilder<'a, Eventually, T>
    where
        F: FnMut(AnySnapshot<'_>) -> Option<T> + Send + 'a,
        T: Send + 'a,
    {
        let (mut keep, found) = finding();
        let predicate = of_any(move |snapshot| keep(find(snapshot)));
        let inner = self.inner.wait(label.into(), Operator::Eventually(predicate));
        AnyWaitBuilder {
            name: Arc::clone(&self.name),
            inner,
            read: ReadErased::Found(found),
            kind: PhantomData,
        }
    }

    /// See [`ObservationHandle::always`].
    pub fn always<'a, F, R>(&self, label: impl Into<String>, predicate: F) -> AnyWaitBuilder<'a, Throughout>
    where
        F: FnMut(AnySnapshot<'_>) -> R + Send + 'a,
        R: Into<Verdict>,
    {
        self.wait(label.into(), Operator::Always(true, of_any(predicate)))
    }

    /// See [`ObservationHandle::never`].
    pub fn never<'a, F, R>(&self, label: impl Into<String>, predicate: F) -> AnyWaitBuilder<'a, Throughout>
    where
        F: FnMut(AnySnapshot<'_>) -> R + Send + 'a,
        R: Into<Verdict>,
    {
        self.wait(label.into(), Operator::Always(false, of_any(predicate)))
    }

    /// See [`ObservationHandle::stable_for`].
    pub fn stable_for<'a, F, P>(
        &self,
        label: impl Into<String>,
        hold: Duration,
        mut project: F,
    ) -> AnyWaitBuilder<'a>
    where
        F: FnMut(AnySnapshot<'_>) -> Option<P> + Send + 'a,
        P: PartialEq + Send + 'a,
    {
        // Numbers each run of equal values: snapshots of the same run have the same number.
        let mut last = None;
        let mut run = 0_u64;
        let number = move |snapshot: AnySnapshot<'_>| {
            let value = project(snapshot);
            run += u64::from(value != last);
            last = value;
            last.is_some().then_some(run)
        };
        self.wait(label.into(), Operator::StableFor(hold, Box::new(number)))
    }

    /// See [`ObservationHandle::event`]. The event has the observer's event type.
    pub fn event<'a, F, R>(&self, label: impl Into<String>, mut predicate: F) -> AnyWaitBuilder<'a>
    where
        F: FnMut(&dyn Any) -> R + Send + 'a,
        R: Into<Verdict>,
    {
        self.wait(label.into(), Operator::Event(Box::new(move |event| predicate(event).into())))
    }

    /// See [`ObservationHandle::source_set`].
    pub fn source_set<'a, F, R>(&self, label: impl Into<String>, mut predicate: F) -> AnyWaitBuilder<'a>
    where
        F: FnMut(&[Arc<str>]) -> R + Send + 'a,
        R: Into<Verdict>,
    {
        self.wait(label.into(), Operator::Set(Box::new(move |names| predicate(names).into())))
    }

    /// See [`ObservationHandle::reaches`].
    pub fn reaches<'a>(&self, state: impl Into<StateKind>) -> AnyWaitBuilder<'a> {
        let state = state.into();
        self.wait(format!("the runtime reaches {state}"), Operator::Reaches(state))
    }

    /// See [`ObservationHandle::stays_fresh`].
    pub fn stays_fresh<'a>(&self) -> AnyWaitBuilder<'a, Throughout> {
        self.wait("the data stays fresh".to_owned(), Operator::StaysFresh)
    }

    /// See [`ObservationHandle::becomes_stale`].
    pub fn becomes_stale<'a>(&self) -> AnyWaitBuilder<'a> {
        self.wait("the data becomes stale".to_owned(), Operator::BecomesStale)
    }

    /// See [`ObservationHandle::source_fresh`].
    pub fn source_fresh<'a>(&self, source: &str) -> AnyWaitBuilder<'a> {
        self.source(source, SourceWish::Fresh)
    }

    /// See [`ObservationHandle::source_stale`].
    pub fn source_stale<'a>(&self, source: &str) -> AnyWaitBuilder<'a> {
        self.source(source, SourceWish::Stale)
    }

    /// See [`ObservationHandle::source_failing`].
    pub fn source_failing<'a>(&self, source: &str) -> AnyWaitBuilder<'a> {
        self.source(source, SourceWish::Failing)
    }

    /// See [`ObservationHandle::source_vanished`].
    pub fn source_vanished<'a>(&self, source: &str) -> AnyWaitBuilder<'a> {
        self.source(source, SourceWish::Vanished)
    }

    /// See [`ObservationHandle::invariant`].
    pub fn invariant<F, R>(&self, label: impl Into<String>, predicate: F) -> Invariant
    where
        F: FnMut(AnySnapshot<'_>) -> R + Send + 'static,
        R: Into<Verdict>,
    {
        self.inner.invariant(label.into(), of_any(predicate))
    }

    fn source<'a>(&self, source: &str, wish: SourceWish) -> AnyWaitBuilder<'a> {
        self.wait(wish.label(source), Operator::Source(source.to_owned(), wish))
    }

    fn wait<'a, K>(&self, label: String, operator: Operator<'a>) -> AnyWaitBuilder<'a, K> {
        let inner = self.inner.wait(label, operator);
        let read = ReadErased::Status(|status| status);
        AnyWaitBuilder { name: Arc::clone(&self.name), inner, read, kind: PhantomData }
    }
}

impl fmt::Debug for AnyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = quoted(&self.name, NAME);
        f.debug_struct("AnyHandle").field("name", &format_args!("{name}")).finish_non_exhaustive()
    }
}

impl<'a> AnySnapshot<'a> {
    /// The cycle that published it.
    #[must_use]
    pub fn cycle(self) -> u64 {
        self.inner.cycle()
    }

    /// The generation of the observer's state.
    #[must_use]
    pub fn generation(self) -> u64 {
        self.inner.generation()
    }

    /// When it was published, on tokio's clock.
    #[must_use]
    pub fn observed_at(self) -> Instant {
        self.inner.observed_at()
    }

    /// How many sources there were.
    #[must_use]
    pub fn source_count(self) -> usize {
        self.inner.source_count()
    }

    /// The position after its events.
    #[must_use]
    pub fn cursor(self) -> Cursor {
        self.inner.cursor()
    }

    /// How many batches of events were published up to this snapshot.
    #[must_use]
    pub fn batches(self) -> u64 {
        self.inner.cursor().seq()
    }

    /// How many events were published up to this snapshot.
    #[must_use]
    pub fn event_count(self) -> u64 {
        self.inner.event_count()
    }

    /// The observer's snapshot, if `T` is its type.
    #[must_use]
    pub fn value<T: 'static>(self) -> Option<&'a T> {
        self.inner.value().downcast_ref()
    }

    /// The health of one source; `None` if it is not in the set, or if the observer keeps no health of sources.
    #[must_use]
    pub fn source_health(self, source: &str) -> Option<SourceHealth> {
        self.inner.source_health(source)
    }

    /// The snapshot as JSON, if the handle can convert it.
    #[cfg(feature = "json")]
    #[must_use]
    pub fn to_json(self) -> Option<serde_json::Value> {
        self.inner.to_json()
    }
}

impl fmt::Debug for AnySnapshot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnySnapshot").field("cycle", &self.cycle()).finish_non_exhaustive()
    }
}

impl<'a, K, T> AnyWaitBuilder<'a, K, T> {
    /// See [`WaitBuilder::or_now`](crate::wait::WaitBuilder::or_now).
    pub fn or_now(self) -> Self {
        Self { inner: self.inner.or_now(), ..self }
    }

    /// See [`WaitBuilder::after`](crate::wait::WaitBuilder::after).
    pub fn after(self, mark: Mark) -> Self {
        Self { inner: self.inner.after(mark), ..self }
    }

    fn open(self, window: Duration) -> AnyWait<'a, T> {
        AnyWait { name: self.name, inner: self.inner.open(window), read: self.read }
    }
}

impl<'a, T> AnyWaitBuilder<'a, Eventually, T> {
    /// See [`WaitBuilder::within`](crate::wait::WaitBuilder::within).
    pub fn within(self, window: Duration) -> AnyWait<'a, T> {
        self.open(window)
    }
}

impl<'a, T> AnyWaitBuilder<'a, Throughout, T> {
    /// See [`WaitBuilder::during`](crate::wait::WaitBuilder::during).
    pub fn during(self, window: Duration) -> AnyWait<'a, T> {
        self.open(window)
    }
}

impl<K, T> fmt::Debug for AnyWaitBuilder<'_, K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = quoted(&self.name, NAME);
        f.debug_struct("AnyWaitBuilder").field("handle", &format_args!("{name}")).finish_non_exhaustive()
    }
}

impl<T> AnyWait<'_, T> {
    /// See [`Wait::explain`](crate::wait::Wait::explain).
    #[must_use]
    pub fn explain(&self) -> String {
        self.inner.explain()
    }
}

impl<T> Future for AnyWait<'_, T> {
    type Output = Result<T, Unmet>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let ended = std::task::ready!(this.inner.as_mut().poll_erased(&this.name, context));
        Poll::Ready(ended.map(|status| match &mut this.read {
            ReadErased::Status(read) => read(status),
            ReadErased::Found(found) => match found() {
                Some(found) => found,
                None => unreachable!("what met the wait was found, and a wait is met once"),
            },
        }))
    }
}

impl<T> Unpin for AnyWait<'_, T> {}

impl<T> fmt::Debug for AnyWait<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = quoted(&self.name, NAME);
        f.debug_struct("AnyWait").field("handle", &format_args!("{name}")).finish_non_exhaustive()
    }
}
