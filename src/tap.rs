//! Taps, which read every publication in order.

use std::collections::HashSet;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use futures_core::Stream;
use tokio::time::Instant;
use watchkeeper_fsm::{State, StopReason};

use crate::cursor::{Cursor, Resume};
use crate::error::ObservationFailure;
use crate::observer::Observer;
use crate::panics::{catch, log_panic};
use crate::publish::history::ObservationBatch;
use crate::publish::queue::{Next, Publication};
use crate::publish::shared::{Registered, Shared};
use crate::report::debug_as_text;
use crate::source::SourceNames;
use crate::status::{ObservationSnapshot, ObservationStatus, Published};

/// The bounds of what a [`Tap`] holds for a slow reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TapLimits {
    /// The number of records. Default: 1,024; 0 means 1.
    pub records: usize,
    /// The number of bytes, by [`Observer::weight`] and the sizes of names and messages. Default: 16 MiB.
    ///
    /// The app weighs snapshots and events, by `Observer::weight` or by
    /// [`PerSource::weighing`](crate::PerSource::weighing). The default weight is shallow: a snapshot that owns a map
    /// counts as the 24 bytes of the map itself, so that in effect only [`records`](Self::records) is a bound.
    ///
    /// An empty tap takes a record of any size, so a reader that keeps up loses nothing. A record after a lost
    /// success also holds the snapshot of that success, and its bytes count.
    pub bytes: usize,
}

impl Default for TapLimits {
    fn default() -> Self {
        Self { records: 1_024, bytes: 16 * 1_024 * 1_024 }
    }
}

/// Every publication of a runtime from a moment on, in order, each once, as a [`Record`].
///
/// Publications are numbered without gaps. A tap holds the publications that were not read yet, within its
/// [`TapLimits`], and never blocks the runtime. A full tap loses the newest publications until it has room again, and
/// the reader gets their numbers: [`TapError::Lost`]. The stop is never lost: it is the last record.
///
/// A tap keeps its snapshots and batches alive. Dropping the tap unregisters it. A runtime without taps does no work
/// for them.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use watchkeeper::{
/// #     DynError, ObservationConfig, ObservationRuntime, ObservedSource, Observer, StaticSourceProvider,
/// #     async_trait,
/// # };
/// # use watchkeeper::runtime::State;
/// # use watchkeeper::subscription::{RecordKind, TapError, TapLimits};
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
/// let mut tap = runtime.handle().tap(TapLimits::default());
/// let first = tap.next_number();
///
/// // A cycle: its refresh begins, the set is known and the poll begins, the poll succeeds.
/// let kinds = [RecordKind::Transition, RecordKind::Transition, RecordKind::Success];
/// for (number, kind) in (first..).zip(kinds) {
///     let record = tap.recv().await?;
///     assert_eq!((record.number, record.kind()), (number, kind));
///     if let Some(batch) = &record.batch {
///         assert_eq!(batch.events, [5]);
///     }
/// }
/// let _ = runtime.stop().await;
/// assert_eq!(tap.recv().await?.kind(), RecordKind::Stop);
/// assert!(matches!(tap.recv().await, Err(TapError::Closed(_))));
/// # Ok(())
/// # }
/// ```
pub struct Tap<O: Observer> {
    shared: Arc<Shared<O::Snapshot, O::Event>>,
    registered: Registered,
    /// The number of the next publication.
    next: u64,
    closed: Option<StopReason>,
    ended: bool,
}

/// Returned by a tap instead of a record.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TapError {
    /// The tap was full. The next call continues with the record after `last`.
    #[error(
        "lost {} publications, {first} to {last}: read faster, or raise TapLimits",
        last - first + 1
    )]
    Lost {
        /// The number of the first lost publication.
        first: u64,
        /// The number of the last lost publication.
        last: u64,
    },
    /// The runtime has ended, and all records were read.
    #[error("the runtime has stopped ({0}): start another one, and tap that")]
    Closed(StopReason),
}

debug_as_text!(TapError);

/// One publication: its changes, and the status right after it.
///
/// One publication may have several changes: the first refresh is a change of the source set and a transition, and a
/// success is also a transition. [`kind`](Self::kind) returns the most important change; the fields have all of them.
#[non_exhaustive]
pub struct Record<O: Observer> {
    /// The number of the publication in this runtime: without gaps, from 1. A process that
    /// [resumes](crate::subscription::Resume) begins at 1 again.
    pub number: u64,
    /// The time of the publication, on tokio's clock.
    pub at: Instant,
    /// The same moment as wall-clock time, for display.
    pub system_time: SystemTime,
    /// The snapshot of a success.
    pub snapshot: Option<Arc<ObservationSnapshot<O::Snapshot>>>,
    /// The events of a success, if there were any.
    pub batch: Option<Arc<ObservationBatch<O::Event>>>,
    /// The failure of a failed cycle.
    pub failure: Option<Arc<ObservationFailure>>,
    /// The change of the source set, even if only its order changed.
    pub sources: Option<SourcesChanged>,
    /// The machine's states before and after, if they differ.
    pub transition: Option<(State, State)>,
    /// The position right after the events published so far.
    pub cursor: Cursor,
    /// The number of events published so far.
    pub event_count: u64,
    /// The whole status right after the publication.
    pub status: ObservationStatus<O>,
    pub(crate) published: Arc<Published<O::Snapshot>>,
}

/// A change of the source set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourcesChanged {
    /// All names, in the provider's order.
    pub names: Arc<[Arc<str>]>,
    /// Names that were not in the set before.
    pub joined: Vec<Arc<str>>,
    /// Names that are no longer in the set.
    pub left: Vec<Arc<str>>,
}

/// The most important change of a [`Record`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecordKind {
    /// The runtime has ended: the last record.
    Stop,
    /// A cycle has succeeded.
    Success,
    /// A cycle has failed.
    Failure,
    /// The source set has changed.
    Sources,
    /// The machine changed its state, was paused or resumed, or the same set was confirmed for another cycle.
    Transition,
}

impl<O: Observer> Record<O> {
    /// The most important change of this record.
    #[must_use]
    pub fn kind(&self) -> RecordKind {
        if self.published.is_over() {
            RecordKind::Stop
        } else if self.snapshot.is_some() {
            RecordKind::Success
        } else if self.failure.is_some() {
            RecordKind::Failure
        } else if self.sources.is_some() {
            RecordKind::Sources
        } else {
            RecordKind::Transition
        }
    }

    fn of(publication: &Publication<O::Snapshot, O::Event>, shared: &Shared<O::Snapshot, O::Event>) -> Self {
        let Publication { at, status, batch, before, .. } = publication;
        // A publication in a tap always has `before`.
        let before = before.as_ref().unwrap_or(status);
        let (first, instance) = (shared.history.first(), shared.history.instance());
        let start = Cursor { instance, generation: first.generation, seq: first.seq };
        let newest = status.snapshot.as_ref();
        let (snapshot, failure) =
            (status.succeeded_since(before).cloned(), status.failed_since(before).cloned());
        Self {
            cursor: newest.map_or(start, |snapshot| snapshot.cursor),
            event_count: newest.map_or(first.event_count, |snapshot| snapshot.event_count),
            number: status.number,
            at: *at,
            // The record may be read long after its publication, when the wall clock was set.
            system_time: match (&snapshot, &failure) {
                (Some(snapshot), _) => snapshot.system_time,
                (None, Some(failure)) => failure.system_time,
                (None, None) => shared.clock.wall(*at, shared.clock.now()),
            },
            snapshot,
            batch: batch.clone(),
            failure,
            sources: (!Arc::ptr_eq(&before.source_names, &status.source_names))
                .then(|| SourcesChanged::between(&before.source_names, &status.source_names)),
            transition: (before.state != status.state).then_some((before.state, status.state)),
            status: ObservationStatus::read(status, *at),
            published: Arc::clone(status),
        }
    }
}

/// The approximate bytes of a success. App code runs only if there is a tap, and outside of every lock.
pub(crate) fn weight<O: Observer>(
    shared: &Shared<O::Snapshot, O::Event>,
    value: &O::Snapshot,
    events: &[O::Event],
) -> usize {
    let plain = size_of_val(value).saturating_add(size_of_val(events));
    if !shared.is_tapped() {
        return plain;
    }
    catch(|| O::weight(value, events)).unwrap_or_else(|panic| {
        log_panic("Observer::weight", &panic);
        plain
    })
}

impl SourcesChanged {
    pub(crate) fn between(before: &SourceNames, after: &SourceNames) -> Self {
        let only = |of: &SourceNames, other: &SourceNames| {
            let other: HashSet<&Arc<str>> = other.iter().collect();
            of.iter().filter(|name| !other.contains(name)).cloned().collect()
        };
        Self { names: Arc::clone(after), joined: only(after, before), left: only(before, after) }
    }
}

impl<O: Observer> Clone for Record<O> {
    fn clone(&self) -> Self {
        Self {
            snapshot: self.snapshot.clone(),
            batch: self.batch.clone(),
            failure: self.failure.clone(),
            sources: self.sources.clone(),
            status: self.status.clone(),
            published: Arc::clone(&self.published),
            ..*self
        }
    }
}

impl<O: Observer> fmt::Debug for Record<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("number", &self.number)
            .field("kind", &self.kind())
            .field("state", &self.status.state)
            .field("cycle", &self.status.cycle)
            .finish_non_exhaustive()
    }
}

impl<O: Observer> Tap<O> {
    pub(crate) fn new(shared: Arc<Shared<O::Snapshot, O::Event>>, limits: TapLimits) -> Self {
        let (registered, status) = shared.register_tap(limits.records.max(1), limits.bytes);
        let closed = match status.state {
            State::Stopped { reason } => Some(reason),
            _ => None,
        };
        Self { next: status.number + 1, shared, registered, closed, ended: false }
    }

    /// Waits for the next record.
    ///
    /// # Errors
    ///
    /// [`TapError::Lost`] is returned once for each gap, and the next call continues. [`TapError::Closed`] is the
    /// end, after the record of the stop, and every later call returns it again.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped call takes no record.
    pub async fn recv(&mut self) -> Result<Record<O>, TapError> {
        poll_fn(|context| self.poll(Some(context.waker()))).await
    }

    /// The next record without waiting; `None` if there is nothing new.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Option<Result<Record<O>, TapError>> {
        match self.poll(None) {
            Poll::Ready(item) => Some(item),
            Poll::Pending => None,
        }
    }

    /// The number of the next record, if it is not lost.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.next
    }

    fn poll(&mut self, waker: Option<&Waker>) -> Poll<Result<Record<O>, TapError>> {
        if let Some(reason) = self.closed {
            return Poll::Ready(Err(TapError::Closed(reason)));
        }
        match self.shared.next(&mut self.registered, self.next, waker) {
            Next::Nothing => Poll::Pending,
            Next::Lost { last } => {
                let first = std::mem::replace(&mut self.next, last + 1);
                Poll::Ready(Err(TapError::Lost { first, last }))
            }
            Next::Item(publication) => {
                self.next = publication.status.number + 1;
                if let State::Stopped { reason } = publication.status.state {
                    self.closed = Some(reason);
                }
                Poll::Ready(Ok(Record::of(&publication, &self.shared)))
            }
        }
    }
}

impl<O: Observer> Stream for Tap<O> {
    type Item = Result<Record<O>, TapError>;

    /// Yields what `recv` returns, and ends after `Closed`.
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let item = std::task::ready!(self.poll(Some(context.waker())));
        self.ended = matches!(item, Err(TapError::Closed(_)));
        Poll::Ready(Some(item))
    }
}

impl<O: Observer> Drop for Tap<O> {
    fn drop(&mut self) {
        self.shared.unregister_tap(&mut self.registered);
    }
}

impl<O: Observer> fmt::Debug for Tap<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").field("next_number", &self.next).finish_non_exhaustive()
    }
}

/// The point right after this record.
impl<O: Observer> From<&Record<O>> for Resume {
    fn from(record: &Record<O>) -> Self {
        Self { cursor: record.cursor, cycle: record.status.cycle, event_count: record.event_count }
    }
}
