//! Everything that a runtime publishes, numbered and in order.

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

/// How much a [`Tap`] may hold for a reader that is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TapLimits {
    /// How many records. Default: 1,024. With 0 it is 1.
    pub records: usize,
    /// How many bytes, as [`Observer::weight`] and the sizes of names and messages say. Default: 16 MiB.
    ///
    /// Bytes are as the app weighs them, by `Observer::weight` or by
    /// [`PerSource::weighing`](crate::PerSource::weighing). By default that is shallow: of a snapshot that owns a map
    /// only the 24 bytes of the map itself count, whatever is in it, so that [`records`](Self::records) is the only
    /// bound.
    ///
    /// Where nothing is held, a record is taken whatever its size: a reader that keeps up loses nothing. What comes
    /// after a success that was lost shows its snapshot too, which counts then.
    pub bytes: usize,
}

impl Default for TapLimits {
    fn default() -> Self {
        Self { records: 1_024, bytes: 16 * 1_024 * 1_024 }
    }
}

/// Everything that a runtime publishes from a moment on, each publication once, in order, as a [`Record`].
///
/// Publications are numbered without gaps. A tap holds what was published and not yet read, within its [`TapLimits`],
/// whose bytes are as the app weighs them, shallow by default; it blocks nobody. Where it is full, the newest are
/// lost until there is room, and the reader gets exactly which: [`TapError::Lost`]. The stop is never lost: it is the
/// last record, and the tap ends after it.
///
/// A tap keeps the snapshots and batches that it holds alive. Dropping it unregisters it. While a runtime has none,
/// nothing is done for them.
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

/// What a tap returns in place of a record.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TapError {
    /// The tap was full. The next call goes on with the record after `last`.
    #[error(
        "lost {} publications, {first} to {last}: read faster, or raise TapLimits",
        last - first + 1
    )]
    Lost {
        /// The number of the first publication that was lost.
        first: u64,
        /// The number of the last.
        last: u64,
    },
    /// The runtime has ended and everything that the tap held was read.
    #[error("the runtime has stopped ({0}): start another one, and tap that")]
    Closed(StopReason),
}

debug_as_text!(TapError);

/// One publication: what was new, and what was known right after it.
///
/// Several things may be new at once: the first refresh is a change of the set and a transition, and a success is one as
/// well. [`kind`](Self::kind) names the most important; the fields have all of them.
#[non_exhaustive]
pub struct Record<O: Observer> {
    /// Its number in this runtime: without gaps, from 1. A process that [resumes](crate::subscription::Resume) begins
    /// at 1 again.
    pub number: u64,
    /// When it was published, on tokio's clock.
    pub at: Instant,
    /// The same moment on the wall, for display.
    pub system_time: SystemTime,
    /// Of a success: its snapshot.
    pub snapshot: Option<Arc<ObservationSnapshot<O::Snapshot>>>,
    /// Of a success: its events, if there were any.
    pub batch: Option<Arc<ObservationBatch<O::Event>>>,
    /// Of a failed cycle: how it failed.
    pub failure: Option<Arc<ObservationFailure>>,
    /// The set of sources is another, if only in its order.
    pub sources: Option<SourcesChanged>,
    /// Where the machine was, and where it is, if that differs.
    pub transition: Option<(State, State)>,
    /// Right after the events that were published so far.
    pub cursor: Cursor,
    /// How many events were published so far.
    pub event_count: u64,
    /// Everything that was known right after it.
    pub status: ObservationStatus<O>,
    pub(crate) published: Arc<Published<O::Snapshot>>,
}

/// How the set of sources has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourcesChanged {
    /// All names, in the provider's order.
    pub names: Arc<[Arc<str>]>,
    /// Those that were not in the set before.
    pub joined: Vec<Arc<str>>,
    /// Those that are no longer in it.
    pub left: Vec<Arc<str>>,
}

/// What is most important about a [`Record`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecordKind {
    /// The runtime has ended: the last record.
    Stop,
    /// A cycle has succeeded.
    Success,
    /// A cycle has failed.
    Failure,
    /// Another set of sources.
    Sources,
    /// The machine has moved, was paused or resumed, or the same set was confirmed for another cycle.
    Transition,
}

impl<O: Observer> Record<O> {
    /// What is most important about it.
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
        // A tap's publications always have the one before.
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
            // It may be read long after, when the wall's clock was set.
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

/// About how many bytes a success takes. The app is asked only where there is a tap, and without a lock.
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

    /// The next record.
    ///
    /// # Errors
    ///
    /// [`TapError::Lost`] is returned once for each gap, then it goes on. [`TapError::Closed`] is the end, after the
    /// record of the stop, and is returned again to each later call.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped call has taken nothing.
    pub async fn recv(&mut self) -> Result<Record<O>, TapError> {
        poll_fn(|context| self.poll(Some(context.waker()))).await
    }

    /// The next record if there is one already: `None` means nothing new.
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

    /// The number of the record that comes next, if it is not lost.
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

/// Right after this record.
impl<O: Observer> From<&Record<O>> for Resume {
    fn from(record: &Record<O>) -> Self {
        Self { cursor: record.cursor, cycle: record.status.cycle, event_count: record.event_count }
    }
}
