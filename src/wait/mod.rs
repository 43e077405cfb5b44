//! Waits on an observation.
//!
//! A wait judges every publication: the driver queues each one for every wait, and the predicate runs in the
//! awaiting task. Stale data neither passes nor fails a wait.
//!
//! [`examples/waits.rs`](https://github.com/watchkeeper/watchkeeper/blob/main/examples/waits.rs) has every wait, on a small
//! fake cluster.

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
pub(crate) use report::StateStory;
pub use report::Unmet;
pub use until::Until;
pub use verdict::Verdict;

use judge::{Judge, Predicate, SourceWish, Unchanged};
use pending::MetAt;
use report::EVENT;
use show::Show;

type Snapshot<O> = Arc<ObservationSnapshot<<O as Observer>::Snapshot>>;

/// The waits.
///
/// Each operator returns a [`WaitBuilder`]; `within` or `during` sets its window. A wait that is not met returns its
/// report ([`Unmet`]).
///
/// # What counts
///
/// The start and the window begin when the wait is made. By default only data *asked for* after the start counts;
/// [`or_now`](WaitBuilder::or_now) and [`after`](WaitBuilder::after) change this:
///
/// - A cycle that began before the start does not count.
/// - In a later cycle, an answer does not count if its probe began before the start. Predicates, reports and results
///   get the snapshot without that answer ([`Observer::asked_since`]). With [`PerSource`](crate::PerSource) a source
///   has no value until it answers a probe that began after the start.
/// - A probe that began exactly at the start counts if a cycle that counts began then too.
///
/// `eventually` and similar waits can be met before all sources were asked. [`always`](Self::always),
/// [`never`](Self::never), [`stable_for`](Self::stable_for) and [`invariant`](Self::invariant) judge nothing until
/// every source of the set was asked and has answered, failed, or been silent for as long as a cycle waits for an
/// answer. If that never happens, the wait is inconclusive ([`SourcesNotAsked`](Inconclusive::SourcesNotAsked)). If
/// the observer keeps nothing by source, the first cycle that counts is judged.
///
/// Stale data neither passes nor fails a wait. A condition that was never evaluated cannot pass.
///
/// # Where it runs
///
/// A wait can be awaited on any executor, but
/// [the runtime's own executor must run](ObservationHandle#which-executor-must-run) meanwhile. Otherwise the wait
/// ends as [`NotDriven`](Inconclusive::NotDriven) shortly after its window.
///
/// A predicate returns a `bool`, a `Result<(), reason>` or a [`Verdict`]; the report shows the last reason. It runs
/// in the awaiting task, and its panic propagates there. If it is slower than the runtime's cycles, the wait falls
/// behind and reports that.
impl<O: Observer> ObservationHandle<O> {
    /// Waits for a snapshot that satisfies `predicate`, even if only one cycle does.
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
    /// With reasons, and giving up early:
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

    /// Waits for a snapshot in which `find` returns `Some`, and returns that value.
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

    /// Waits for the whole window, in which every snapshot must satisfy `predicate`; ends at the first that does not.
    ///
    /// Returns the last snapshot. The wait is inconclusive unless at least one fresh snapshot was judged and the data
    /// is still fresh at the end.
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

    /// Waits for the whole window, in which no snapshot may satisfy `predicate`. Otherwise like
    /// [`always`](Self::always).
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

    /// Waits until `project` has returned the same value for at least `hold`.
    ///
    /// A snapshot meets the wait, or the end of the window if the data is fresh then. `None` is never stable. Stale
    /// data starts the time again.
    ///
    /// `hold` must be less than the window, or at most equal if a snapshot that counts exists already
    /// ([`or_now`](WaitBuilder::or_now), [`after`](WaitBuilder::after)). Otherwise the wait is refused
    /// ([`InvalidWait::Hold`]), and the report suggests a window.
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

    /// Waits for an event that satisfies `predicate`; the report shows the last events that did not.
    ///
    /// An event does not count if it was stale when it came, or was asked for before the start
    /// ([`Observer::asked_at`]). With [`after`](WaitBuilder::after) events published before this call count too. If
    /// the history has lost some of them and no other event meets the wait, it is inconclusive.
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

    /// Waits for the machine to be in `state`, even if it is only between two polls of the waiting task.
    ///
    /// Returns the status of that moment. By default only cycles that begin after this call count: a runtime that is
    /// idle now reaches `Idle` with its next success. [`State::Stopped`](crate::runtime::State::Stopped) always
    /// counts.
    pub fn reaches<'a>(&self, state: impl Into<StateKind>) -> WaitBuilder<'a, O, ObservationStatus<O>> {
        let state = state.into();
        self.judging(format!("the runtime reaches {state}"), Judge::State(state))
    }

    /// Waits for the whole window, in which the data must stay fresh; ends when it turns stale.
    ///
    /// Returns the status at the end. Cycles that began before this call count too.
    pub fn stays_fresh<'a>(&self) -> WaitBuilder<'a, O, ObservationStatus<O>, Throughout> {
        self.made("the data stays fresh", Judge::StaysFresh, Read::Moment(status))
    }

    /// Waits for the data to be stale, and returns the status of that moment. Stale data meets it at once.
    pub fn becomes_stale<'a>(&self) -> WaitBuilder<'a, O, ObservationStatus<O>> {
        self.judging("the data becomes stale".to_owned(), Judge::BecomesStale)
    }

    /// Waits for a source set that satisfies `predicate`, which gets the names in the provider's order.
    ///
    /// Returns the status of that moment. Each cycle that counts is judged once, when its refresh is published, even
    /// if its poll then fails or hangs.
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

/// Waits for one source, for observers that keep what they know by source ([`Observer::source_health`]), such as
/// [`PerSource`](crate::PerSource).
///
/// Every cycle that counts is judged. The report shows what is known of the source, or the names of the set.
impl<O: Observer> ObservationHandle<O> {
    /// Waits for the source `name` to be in the set and to answer a probe that began after this call (or after the
    /// mark): see [`SourceHealth::is_answering`](crate::source::SourceHealth::is_answering).
    pub fn source_fresh<'a>(&self, name: &str) -> WaitBuilder<'a, O, Arc<ObservationSnapshot<O::Snapshot>>> {
        self.source(name, SourceWish::Fresh)
    }

    /// Waits for the source `name` to be in the set with a stale answer.
    ///
    /// The age of the answer counts, not when it was asked for: a source that fell silent before this call meets this
    /// wait.
    pub fn source_stale<'a>(&self, name: &str) -> WaitBuilder<'a, O, Arc<ObservationSnapshot<O::Snapshot>>> {
        self.source(name, SourceWish::Stale)
    }

    /// Waits for the source `name` to be in the set and to be failing: a probe has failed since its last answer. That
    /// probe began after this call (or after the mark).
    pub fn source_failing<'a>(
        &self,
        name: &str,
    ) -> WaitBuilder<'a, O, Arc<ObservationSnapshot<O::Snapshot>>> {
        self.source(name, SourceWish::Failing)
    }

    /// Waits for the source `name` to have left the set.
    ///
    /// Returns the status of that moment; its cycle may have no snapshot yet. Each refresh is judged when it is
    /// published, even if the poll then fails or hangs, or if no cycle has ever succeeded.
    ///
    /// Only a source that was in the set can leave it: a name that was never in the set does not meet this wait. The
    /// source may have left before this call; the newest 1,024 that left are remembered. With
    /// [`after`](WaitBuilder::after) a source that left after the mark meets this wait even if it has returned.
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

    /// Any operator, for handles with an erased observer: returns the status of the moment.
    pub(crate) fn judging<'a>(
        &self,
        label: String,
        judge: Judge<'a, O>,
    ) -> WaitBuilder<'a, O, ObservationStatus<O>> {
        self.made(label, judge, Read::Moment(status))
    }

    /// An invariant, for handles with an erased observer.
    pub(crate) fn invariant_of(
        &self,
        label: String,
        judge: Judge<'static, O>,
        show: Show<'static, O>,
    ) -> Invariant {
        self.made::<_, Throughout>(label, judge, Read::Moment(snapshot)).showing(show).watch()
    }
}

/// How a wait reads its result from what met it.
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

/// Takes the value that a predicate found.
pub(crate) type TakeFound<'a, T> = Box<dyn FnMut() -> Option<T> + Send + 'a>;

/// A predicate that stores the found value, and the function that takes it.
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

/// The event that met a wait, with its batch.
#[derive(Debug)]
pub struct ObservedEvent<E> {
    /// All events of its cycle.
    pub batch: Arc<ObservationBatch<E>>,
    /// The event's index in the batch.
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

/// An app's predicate, applied to the observer's own value.
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
