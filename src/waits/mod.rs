//! Waiting on what is observed.
//!
//! A wait is judged on every publication, never sampled: the driver appends each one to the wait's
//! own queue, and the predicate runs in the waiting task. What is stale neither passes nor fails.

mod builder;
mod changes;
mod diff;
mod evidence;
mod invariant;
pub(crate) mod judge;
pub(crate) mod queue;
mod report;
#[cfg(feature = "json")]
mod report_json;
pub(crate) mod show;
mod story;
mod wait;

#[cfg(all(test, watchkeeper_loom))]
mod loom_tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper_fsm::StateKind;

use crate::handle::ObservationHandle;
use crate::history::ObservationBatch;
use crate::observer::Observer;
use crate::status::{ObservationSnapshot, ObservationStatus};
use crate::text::debug_line;

pub use builder::{ByDebug, ByShow, Happens, Holds, WaitBuilder};
pub use invariant::{Held, Invariant};
pub use report::{Inconclusive, InvalidWait, Unmet, UnmetOutcome};
pub use wait::Wait;

pub(crate) use judge::counts;
use judge::{Judge, Predicate, Run, SourceWish};
use report::EVENT;
use show::Show;
use wait::Moment;
pub(crate) use wait::why;

type Snapshot<O> = Arc<ObservationSnapshot<<O as Observer>::Snapshot>>;

/// The waits. Each is made by an operator with a label that says what is waited for, and gets its window
/// by `within` or `during`; a failure prints all of it ([`Unmet`]).
///
/// Window and start are fixed when the wait is made. By default only cycles count whose work began
/// after that; see [`or_now`](WaitBuilder::or_now) and [`after`](WaitBuilder::after). What is stale
/// neither passes nor fails, and a condition that was never evaluated cannot pass.
///
/// Predicates run in the task that awaits: one that panics panics there, and one that is slower than the
/// runtime's cycles makes its wait fall behind, which the wait says.
impl<O: Observer> ObservationHandle<O> {
    /// Waits for a snapshot that satisfies `predicate`, be it for one cycle.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use watchkeeper::{ObservationHandle, Observer, Unmet};
    /// # async fn example<O: Observer<Snapshot = Vec<u64>>>(handle: ObservationHandle<O>) -> Result<(), Unmet> {
    /// let snapshot = handle
    ///     .eventually("all heights agree", |heights| heights.windows(2).all(|pair| pair[0] == pair[1]))
    ///     .within(Duration::from_secs(10))
    ///     .await?;
    /// println!("they agreed in cycle {}", snapshot.cycle);
    /// # Ok(())
    /// # }
    /// ```
    pub fn eventually<'a, F>(
        &self,
        label: impl Into<String>,
        predicate: F,
    ) -> WaitBuilder<'a, O, Arc<ObservationSnapshot<O::Snapshot>>>
    where
        F: FnMut(&O::Snapshot) -> bool + Send + 'a,
    {
        WaitBuilder::new(&self.shared, label.into(), Judge::Eventually(of_value(predicate)), snapshot)
    }

    /// Waits to the end of a window in which every snapshot satisfies `predicate`; ends at the first one
    /// that does not.
    ///
    /// Inconclusive unless at least one fresh snapshot was judged and the data is still fresh at the end.
    /// Returns the last snapshot.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use watchkeeper::{ObservationHandle, Observer, Unmet};
    /// # async fn example<O: Observer<Snapshot = Vec<u64>>>(handle: ObservationHandle<O>) -> Result<(), Unmet> {
    /// handle.always("three nodes answer", |heights| heights.len() == 3).during(Duration::from_secs(5)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn always<'a, F>(
        &self,
        label: impl Into<String>,
        predicate: F,
    ) -> WaitBuilder<'a, O, Snapshot<O>, Holds>
    where
        F: FnMut(&O::Snapshot) -> bool + Send + 'a,
    {
        let judge = Judge::Always { wanted: true, predicate: of_value(predicate) };
        WaitBuilder::new(&self.shared, label.into(), judge, snapshot)
    }

    /// Waits to the end of a window in which no snapshot satisfies `predicate`; ends at the first one
    /// that does. Otherwise like [`always`](Self::always).
    pub fn never<'a, F>(
        &self,
        label: impl Into<String>,
        predicate: F,
    ) -> WaitBuilder<'a, O, Snapshot<O>, Holds>
    where
        F: FnMut(&O::Snapshot) -> bool + Send + 'a,
    {
        let judge = Judge::Always { wanted: false, predicate: of_value(predicate) };
        WaitBuilder::new(&self.shared, label.into(), judge, snapshot)
    }

    /// Waits for a snapshot by which `project` has given the same value for at least `hold`.
    ///
    /// `None` is never stable: it is the answer of a snapshot that has no such value. Data that turned
    /// stale in between begins anew, since nobody knows what was.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use watchkeeper::{ObservationHandle, Observer, Unmet};
    /// # struct Cluster { leader: Option<u64> }
    /// # async fn example<O: Observer<Snapshot = Cluster>>(handle: ObservationHandle<O>) -> Result<(), Unmet>
    /// # where O::Snapshot: std::fmt::Debug {
    /// handle
    ///     .stable_for("there is one leader", Duration::from_secs(3), |cluster| cluster.leader)
    ///     .within(Duration::from_secs(30))
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn stable_for<'a, F, P>(
        &self,
        label: impl Into<String>,
        hold: Duration,
        mut project: F,
    ) -> WaitBuilder<'a, O, Arc<ObservationSnapshot<O::Snapshot>>>
    where
        F: FnMut(&O::Snapshot) -> Option<P> + Send + 'a,
        P: PartialEq + Send + 'a,
    {
        let judge = Judge::Stable {
            hold,
            run: Run::new(move |snapshot: &ObservationSnapshot<_>| project(&snapshot.value)),
        };
        WaitBuilder::new(&self.shared, label.into(), judge, snapshot)
    }

    /// Waits for an event that satisfies `predicate`; a failure shows the last events that did not.
    ///
    /// With [`after`](WaitBuilder::after) events count that were published before this call; if the history
    /// no longer holds all of them and none satisfies it, the wait is inconclusive. Events that were stale
    /// when they came do not count.
    pub fn event<'a, F>(
        &self,
        label: impl Into<String>,
        predicate: F,
    ) -> WaitBuilder<'a, O, ObservedEvent<O::Event>>
    where
        F: FnMut(&O::Event) -> bool + Send + 'a,
        O::Event: fmt::Debug,
    {
        let judge = Judge::Event(Box::new(predicate));
        WaitBuilder::new(&self.shared, label.into(), judge, event)
            .showing_events(|event| debug_line(event, EVENT))
    }

    /// Waits for the machine to be in `state`, be it only between two polls of the waiting task.
    ///
    /// By default only cycles count that begin after this call: a runtime that is idle now reaches
    /// `Idle` with its next success. [`State::Stopped`](crate::State::Stopped) counts in any case. Returns
    /// the status of that moment.
    pub fn reaches<'a>(&self, state: impl Into<StateKind>) -> WaitBuilder<'a, O, ObservationStatus<O>> {
        let state = state.into();
        let label = format!("the runtime reaches {state}");
        WaitBuilder::new(&self.shared, label, Judge::State(state), status)
    }

    /// Waits to the end of a window in which the data is fresh all the time; ends when it turns stale.
    ///
    /// Whether a cycle began before or after this call is no matter here. Returns the status at the end.
    pub fn stays_fresh<'a>(&self) -> WaitBuilder<'a, O, ObservationStatus<O>, Holds> {
        let label = "the data stays fresh".to_owned();
        WaitBuilder::new(&self.shared, label, Judge::StaysFresh, status)
    }

    /// Waits for the data to be stale; met at once if it is. It turns stale by itself, when it is due.
    ///
    /// Returns the status of that moment.
    pub fn becomes_stale<'a>(&self) -> WaitBuilder<'a, O, ObservationStatus<O>> {
        let label = "the data becomes stale".to_owned();
        WaitBuilder::new(&self.shared, label, Judge::BecomesStale, status)
    }
}

/// Waits for one source, with observers that keep what they know by source
/// ([`Observer::source_health`]): [`PerSource`](crate::PerSource) and what is built on it.
///
/// They are judged in every cycle that counts. A failure says what is known of the source, or which sources
/// there are.
impl<O: Observer> ObservationHandle<O> {
    /// Waits for the source called `name` to be in the set with a fresh answer, for which it was asked after
    /// this call (or after the mark).
    pub fn source_fresh<'a>(&self, name: &str) -> WaitBuilder<'a, O, Arc<ObservationSnapshot<O::Snapshot>>> {
        self.source(name, SourceWish::Fresh)
    }

    /// Waits for the source called `name` to be in the set with a stale answer.
    pub fn source_stale<'a>(&self, name: &str) -> WaitBuilder<'a, O, Arc<ObservationSnapshot<O::Snapshot>>> {
        self.source(name, SourceWish::Stale)
    }

    /// Waits for the source called `name` to be in the set with a failed probe behind its last answer.
    pub fn source_failing<'a>(
        &self,
        name: &str,
    ) -> WaitBuilder<'a, O, Arc<ObservationSnapshot<O::Snapshot>>> {
        self.source(name, SourceWish::Failing)
    }

    /// Waits for the source called `name` to have left the set.
    ///
    /// Only a source that is known to have been in the set can leave it: a name that nobody had does not
    /// meet this. It may have left before this call; the newest 1,024 that have left are remembered.
    pub fn source_vanished<'a>(
        &self,
        name: &str,
    ) -> WaitBuilder<'a, O, Arc<ObservationSnapshot<O::Snapshot>>> {
        self.source(name, SourceWish::Vanished)
    }

    fn source<'a>(&self, name: &str, wish: SourceWish) -> WaitBuilder<'a, O, Snapshot<O>> {
        let judge = Judge::Source { name: name.to_owned(), wish, known: false };
        WaitBuilder::new(&self.shared, wish.label(name), judge, snapshot)
    }

    /// Waits on answers of single sources: the predicate is told from when on they count.
    pub(crate) fn answered<'a, F>(&self, label: String, predicate: F) -> WaitBuilder<'a, O, Snapshot<O>>
    where
        F: FnMut(&O::Snapshot, Option<Instant>) -> bool + Send + 'a,
    {
        WaitBuilder::new(&self.shared, label, Judge::Answered(Box::new(predicate)), snapshot)
    }

    /// Any operator, for handles whose observer is erased: returns the status of the moment.
    pub(crate) fn judging<'a>(
        &self,
        label: String,
        judge: Judge<'a, O>,
    ) -> WaitBuilder<'a, O, ObservationStatus<O>> {
        WaitBuilder::new(&self.shared, label, judge, status)
    }

    /// A condition that is watched beside a test, for handles whose observer is erased.
    pub(crate) fn invariant_of(
        &self,
        label: String,
        judge: Judge<'static, O>,
        show: Show<'static, O>,
    ) -> Invariant {
        WaitBuilder::<_, _, Holds>::new(&self.shared, label, judge, snapshot).showing(show).watch()
    }
}

/// An event that was waited for, with the batch that it came in.
#[derive(Debug)]
pub struct ObservedEvent<E> {
    /// All events of its cycle.
    pub batch: Arc<ObservationBatch<E>>,
    /// Where in the batch it is.
    pub index: usize,
}

impl<E> ObservedEvent<E> {
    /// The event itself.
    #[must_use]
    pub fn event(&self) -> &E {
        &self.batch.events[self.index]
    }
}

impl<E> Clone for ObservedEvent<E> {
    fn clone(&self) -> Self {
        Self { batch: Arc::clone(&self.batch), index: self.index }
    }
}

/// A predicate of an app's, on what it is about.
fn of_value<'a, S>(
    mut predicate: impl FnMut(&S) -> bool + Send + 'a,
) -> Predicate<'a, ObservationSnapshot<S>> {
    Box::new(move |snapshot| predicate(&snapshot.value))
}

fn snapshot<O: Observer>(moment: &Moment<O>) -> Option<Snapshot<O>> {
    moment.status.snapshot.clone()
}

#[allow(clippy::unnecessary_wraps, reason = "one of several readers, some of which have nothing to read")]
fn status<O: Observer>(moment: &Moment<O>) -> Option<ObservationStatus<O>> {
    Some(moment.status())
}

fn event<O: Observer>(moment: &Moment<O>) -> Option<ObservedEvent<O::Event>> {
    let (batch, index) = moment.event.clone()?;
    Some(ObservedEvent { batch, index })
}
