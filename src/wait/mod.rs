//! Waiting on what is observed.
//!
//! A wait is judged on every publication, never sampled: the driver keeps each one until all waits have
//! read it, and the predicate runs in the waiting task. What is stale neither passes nor fails.

mod builder;
mod changes;
mod diff;
mod evidence;
mod invariant;
pub(crate) mod judge;
mod outcome;
mod pending;
mod report;
#[cfg(feature = "json")]
mod report_json;
pub(crate) mod show;
mod start;
mod story;
pub(crate) mod until;
mod verdict;

#[cfg(all(test, watchkeeper_loom))]
mod loom_tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use watchkeeper_fsm::StateKind;

use crate::handle::ObservationHandle;
use crate::observer::Observer;
use crate::publish::history::ObservationBatch;
use crate::status::{ObservationSnapshot, ObservationStatus};
use crate::sync::{Mutex, lock};
use crate::text::render::debug_line;

pub use crate::mark::Mark;
pub use crate::watch::{Watch, WatchError};
pub use builder::{ByDebug, ByShow, Eventually, Throughout, WaitBuilder};
pub use invariant::{Invariant, InvariantReport};
pub use outcome::{Inconclusive, InvalidWait, UnmetOutcome};
pub use pending::Wait;
pub use report::Unmet;
pub use until::Until;
pub use verdict::Verdict;

use judge::{Judge, Predicate, SourceWish, Unchanged};
use pending::MetAt;
use report::EVENT;
use show::Show;

type Snapshot<O> = Arc<ObservationSnapshot<<O as Observer>::Snapshot>>;

/// The waits. Each is made by an operator with a label that says what is waited for, and gets its window
/// by `within` or `during`; a failure prints all of it ([`Unmet`]).
///
/// # What counts
///
/// Window and start are fixed when the wait is made. By default what is *asked* after that counts; see
/// [`or_now`](WaitBuilder::or_now) and [`after`](WaitBuilder::after). Cycles that began before do not count, and of
/// later ones neither does an answer whose probe was asked before: predicates, reports and results get the
/// snapshot without it ([`Observer::asked_since`]). So with [`PerSource`](crate::PerSource) a source has no value
/// until it has answered a probe of after the start. What was asked at the very moment of the start counts if a
/// cycle that counts began then.
///
/// To `eventually` and its like a part of the sources is enough. To [`always`](Self::always),
/// [`never`](Self::never), [`stable_for`](Self::stable_for) and [`invariant`](Self::invariant) it is not: nothing is
/// judged until each source of the set was asked, and has answered, failed, or been silent for as long as a cycle
/// waits for an answer. If that never comes, nothing can be said
/// ([`SourcesNotAsked`](Inconclusive::SourcesNotAsked)). Where the observer keeps nothing by source, the first
/// cycle that counts is judged.
///
/// What is stale neither passes nor fails, and a condition that was never evaluated cannot pass.
///
/// # Where it runs
///
/// A wait may be awaited on any executor; the runtime's own must be driven meanwhile, or it ends as
/// [`NotDriven`](Inconclusive::NotDriven) shortly after its window: see
/// [which executor must run](ObservationHandle#which-executor-must-run).
///
/// # Predicates
///
/// They return a `bool`, a `Result<(), reason>` or a [`Verdict`]; the last reason stands in the report. They run in
/// the task that awaits: one that panics panics there, and one that is slower than the runtime's cycles makes its
/// wait fall behind, which the wait says.
impl<O: Observer> ObservationHandle<O> {
    /// Waits for a snapshot that satisfies `predicate`, if only for one cycle.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use watchkeeper::{ObservationHandle, Observer};
    /// # use watchkeeper::wait::Unmet;
    /// # async fn example<O: Observer<Snapshot = Vec<u64>>>(handle: ObservationHandle<O>) -> Result<(), Unmet> {
    /// let snapshot = handle
    ///     .eventually("all heights agree", |heights| heights.windows(2).all(|pair| pair[0] == pair[1]))
    ///     .within(Duration::from_secs(10))
    ///     .await?;
    /// println!("they agreed in cycle {}", snapshot.cycle);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// With reasons, and an end where there is no hope:
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use watchkeeper::{ObservationHandle, Observer};
    /// # use watchkeeper::wait::{Unmet, Verdict};
    /// # struct Job { failed: Option<String>, done: u64 }
    /// # async fn example<O: Observer<Snapshot = Job>>(handle: ObservationHandle<O>) -> Result<(), Unmet>
    /// # where O::Snapshot: std::fmt::Debug {
    /// handle
    ///     .eventually("the job is done", |job| match (&job.failed, job.done) {
    ///         (Some(error), _) => Verdict::GiveUp(format!("it failed: {error}")),
    ///         (None, 100) => Verdict::Met,
    ///         (None, done) => Verdict::NotYet(format!("{done} %")),
    ///     })
    ///     .within(Duration::from_secs(10))
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn eventually<'a, F, R>(
        &self,
        label: impl Into<String>,
        predicate: F,
    ) -> WaitBuilder<'a, O, Arc<ObservationSnapshot<O::Snapshot>>>
    where
        F: FnMut(&O::Snapshot) -> R + Send + 'a,
        R: Into<Verdict>,
    {
        self.made(label, Judge::Eventually(of_value(predicate)), Read::Moment(snapshot))
    }

    /// Waits for a snapshot in which `find` finds something, and returns that.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use watchkeeper::{ObservationHandle, Observer};
    /// # use watchkeeper::wait::Unmet;
    /// # struct Cluster { leader: Option<u64> }
    /// # async fn example<O: Observer<Snapshot = Cluster>>(handle: ObservationHandle<O>) -> Result<(), Unmet>
    /// # where O::Snapshot: std::fmt::Debug {
    /// let leader: u64 =
    ///     handle.eventually_some("there is a leader", |cluster| cluster.leader).within(Duration::from_secs(10)).await?;
    /// # let _ = leader;
    /// # Ok(())
    /// # }
    /// ```
    pub fn eventually_some<'a, F, T>(&self, label: impl Into<String>, mut find: F) -> WaitBuilder<'a, O, T>
    where
        F: FnMut(&O::Snapshot) -> Option<T> + Send + 'a,
        T: Send + 'a,
    {
        let (mut keep, found) = finding();
        let predicate = of_value(move |snapshot| keep(find(snapshot)));
        self.made(label, Judge::Eventually(predicate), Read::Found(found))
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
    /// # use watchkeeper::{ObservationHandle, Observer};
    /// # use watchkeeper::wait::Unmet;
    /// # async fn example<O: Observer<Snapshot = Vec<u64>>>(handle: ObservationHandle<O>) -> Result<(), Unmet> {
    /// handle.always("three nodes answer", |heights| heights.len() == 3).during(Duration::from_secs(5)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn always<'a, F, R>(
        &self,
        label: impl Into<String>,
        predicate: F,
    ) -> WaitBuilder<'a, O, Snapshot<O>, Throughout>
    where
        F: FnMut(&O::Snapshot) -> R + Send + 'a,
        R: Into<Verdict>,
    {
        let judge = Judge::Always { wanted: true, predicate: of_value(predicate) };
        self.made(label, judge, Read::Moment(snapshot))
    }

    /// Waits to the end of a window in which no snapshot satisfies `predicate`; ends at the first one
    /// that does. Otherwise like [`always`](Self::always).
    pub fn never<'a, F, R>(
        &self,
        label: impl Into<String>,
        predicate: F,
    ) -> WaitBuilder<'a, O, Snapshot<O>, Throughout>
    where
        F: FnMut(&O::Snapshot) -> R + Send + 'a,
        R: Into<Verdict>,
    {
        let judge = Judge::Always { wanted: false, predicate: of_value(predicate) };
        self.made(label, judge, Read::Moment(snapshot))
    }

    /// Waits for a snapshot by which `project` has given the same value for at least `hold`, or for the end of a
    /// window that comes so much later, if the data is fresh then.
    ///
    /// `None` is never stable: it is the answer of a snapshot that has no such value. Data that turned
    /// stale in between begins again, since nothing is known of that time.
    ///
    /// The first snapshot that counts comes after the wait was made, so `hold` must be less than the window: one
    /// that cannot be met is refused ([`InvalidWait::Hold`]), with a window that would do. Where a snapshot counts
    /// that is there already ([`or_now`](WaitBuilder::or_now), [`after`](WaitBuilder::after)), it may be as long.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use watchkeeper::{ObservationHandle, Observer};
    /// # use watchkeeper::wait::Unmet;
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
            run: Unchanged::new(move |snapshot: &ObservationSnapshot<_>| project(&snapshot.value)),
        };
        self.made(label, judge, Read::Moment(snapshot))
    }

    /// Waits for an event that satisfies `predicate`; a failure shows the last events that did not.
    ///
    /// With [`after`](WaitBuilder::after) events count that were published before this call; if the history
    /// no longer holds all of them and none satisfies it, the wait is inconclusive. Events that were stale
    /// when they came do not count, nor do those that were asked for before the start
    /// ([`Observer::asked_at`]).
    pub fn event<'a, F, R>(
        &self,
        label: impl Into<String>,
        mut predicate: F,
    ) -> WaitBuilder<'a, O, ObservedEvent<O::Event>>
    where
        F: FnMut(&O::Event) -> R + Send + 'a,
        R: Into<Verdict>,
        O::Event: fmt::Debug,
    {
        let judge = Judge::Event(Box::new(move |event| predicate(event).into()));
        self.made(label, judge, Read::Moment(event)).showing_events(|event| debug_line(event, EVENT))
    }

    /// Waits for the machine to be in `state`, if only between two polls of the waiting task.
    ///
    /// By default only cycles count that begin after this call: a runtime that is idle now reaches
    /// `Idle` with its next success. [`State::Stopped`](crate::runtime::State::Stopped) counts in any case. Returns
    /// the status of that moment.
    pub fn reaches<'a>(&self, state: impl Into<StateKind>) -> WaitBuilder<'a, O, ObservationStatus<O>> {
        let state = state.into();
        self.judging(format!("the runtime reaches {state}"), Judge::State(state))
    }

    /// Waits to the end of a window in which the data is fresh all the time; ends when it turns stale.
    ///
    /// Cycles that began before this call count as well. Returns the status at the end.
    pub fn stays_fresh<'a>(&self) -> WaitBuilder<'a, O, ObservationStatus<O>, Throughout> {
        self.made("the data stays fresh", Judge::StaysFresh, Read::Moment(status))
    }

    /// Waits for the data to be stale; met at once if it is. It turns stale by itself, when it is due.
    ///
    /// Returns the status of that moment.
    pub fn becomes_stale<'a>(&self) -> WaitBuilder<'a, O, ObservationStatus<O>> {
        self.judging("the data becomes stale".to_owned(), Judge::BecomesStale)
    }

    /// Waits for a source set that satisfies `predicate`, which gets the names in the provider's order.
    ///
    /// The set is judged once in each cycle that counts, when its refresh is published: also if the poll then fails or
    /// hangs. Returns the status of that moment.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use watchkeeper::{ObservationHandle, Observer};
    /// # use watchkeeper::wait::Unmet;
    /// # async fn example<O: Observer>(handle: ObservationHandle<O>) -> Result<(), Unmet>
    /// # where O::Snapshot: std::fmt::Debug {
    /// handle.source_set("there are 3 nodes", |names| names.len() == 3).within(Duration::from_secs(10)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn source_set<'a, F, R>(
        &self,
        label: impl Into<String>,
        mut predicate: F,
    ) -> WaitBuilder<'a, O, ObservationStatus<O>>
    where
        F: FnMut(&[Arc<str>]) -> R + Send + 'a,
        R: Into<Verdict>,
    {
        self.judging(label.into(), Judge::Set(Box::new(move |names| predicate(names).into())))
    }
}

/// Waits for one source, with observers that keep what they know by source
/// ([`Observer::source_health`]): [`PerSource`](crate::PerSource) and what is built on it.
///
/// They are judged in every cycle that counts. A failure says what is known of the source, or which sources
/// there are.
impl<O: Observer> ObservationHandle<O> {
    /// Waits for the source called `name` to be in the set and to answer: see
    /// [`SourceHealth::is_answering`](crate::source::SourceHealth::is_answering). It was asked for that answer after
    /// this call (or after the mark).
    pub fn source_fresh<'a>(&self, name: &str) -> WaitBuilder<'a, O, Arc<ObservationSnapshot<O::Snapshot>>> {
        self.source(name, SourceWish::Fresh)
    }

    /// Waits for the source called `name` to be in the set with a stale answer.
    ///
    /// That it is stale is a fact of the moment, whenever it was asked for that answer: a source that fell silent
    /// before this call meets it.
    pub fn source_stale<'a>(&self, name: &str) -> WaitBuilder<'a, O, Arc<ObservationSnapshot<O::Snapshot>>> {
        self.source(name, SourceWish::Stale)
    }

    /// Waits for the source called `name` to be in the set with a failed probe after its last answer. It was asked by
    /// that probe after this call (or after the mark).
    pub fn source_failing<'a>(
        &self,
        name: &str,
    ) -> WaitBuilder<'a, O, Arc<ObservationSnapshot<O::Snapshot>>> {
        self.source(name, SourceWish::Failing)
    }

    /// Waits for the source called `name` to have left the set.
    ///
    /// Judged when the refresh of a cycle is published, also if the poll then fails or hangs, or no cycle has ever
    /// succeeded. Like [`source_set`](Self::source_set) it returns the status of that moment, whose cycle may not have
    /// a snapshot yet.
    ///
    /// Only a source that is known to have been in the set can leave it: a name that nobody had does not
    /// meet this. It may have left before this call; the newest 1,024 that have left are remembered. With
    /// [`after`](WaitBuilder::after) one that left since the mark meets this also if it has come back.
    pub fn source_vanished<'a>(&self, name: &str) -> WaitBuilder<'a, O, ObservationStatus<O>> {
        let wish = SourceWish::Vanished;
        self.judging(wish.label(name), Judge::source(name, wish))
    }

    fn source<'a>(&self, name: &str, wish: SourceWish) -> WaitBuilder<'a, O, Snapshot<O>> {
        self.made(wish.label(name), Judge::source(name, wish), Read::Moment(snapshot))
    }

    fn made<'a, T, K>(
        &self,
        label: impl Into<String>,
        judge: Judge<'a, O>,
        read: Read<'a, O, T>,
    ) -> WaitBuilder<'a, O, T, K> {
        WaitBuilder::new(&self.shared, label.into(), judge, read)
    }

    /// Any operator, for handles whose observer is erased: returns the status of the moment.
    pub(crate) fn judging<'a>(
        &self,
        label: String,
        judge: Judge<'a, O>,
    ) -> WaitBuilder<'a, O, ObservationStatus<O>> {
        self.made(label, judge, Read::Moment(status))
    }

    /// A condition that is watched beside a test, for handles whose observer is erased.
    pub(crate) fn invariant_of(
        &self,
        label: String,
        judge: Judge<'static, O>,
        show: Show<'static, O>,
    ) -> Invariant {
        self.made::<_, Throughout>(label, judge, Read::Moment(snapshot)).showing(show).watch()
    }
}

/// How what is returned is read from what met a wait.
enum Read<'a, O: Observer, T> {
    Moment(fn(&MetAt<O>) -> Option<T>),
    Found(TakeFound<'a, T>),
}

impl<O: Observer, T> Read<'_, O, T> {
    fn read(&mut self, moment: &MetAt<O>) -> Option<T> {
        match self {
            Self::Moment(read) => read(moment),
            Self::Found(found) => found(),
        }
    }
}

/// Takes what a predicate has found.
pub(crate) type TakeFound<'a, T> = Box<dyn FnMut() -> Option<T> + Send + 'a>;

/// Makes a predicate of what finds something, beside a way to take what was found.
pub(crate) fn finding<'a, T: Send + 'a>() -> (impl FnMut(Option<T>) -> bool + Send + 'a, TakeFound<'a, T>) {
    let slot = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&slot);
    let keep = move |found: Option<T>| {
        let is_found = found.is_some();
        *lock(&kept) = found;
        is_found
    };
    (keep, Box::new(move || lock(&slot).take()))
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

/// A predicate of an app's, on the observer's own view.
fn of_value<'a, S, R: Into<Verdict>>(
    mut predicate: impl FnMut(&S) -> R + Send + 'a,
) -> Predicate<'a, ObservationSnapshot<S>> {
    Box::new(move |snapshot| predicate(&snapshot.value).into())
}

fn snapshot<O: Observer>(moment: &MetAt<O>) -> Option<Snapshot<O>> {
    moment.snapshot.clone()
}

#[allow(clippy::unnecessary_wraps, reason = "one of several readers, some of which have nothing to read")]
fn status<O: Observer>(moment: &MetAt<O>) -> Option<ObservationStatus<O>> {
    Some(moment.status())
}

fn event<O: Observer>(moment: &MetAt<O>) -> Option<ObservedEvent<O::Event>> {
    let (batch, index) = moment.event.clone()?;
    Some(ObservedEvent { batch, index })
}
