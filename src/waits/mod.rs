//! Waiting on what is observed.
//!
//! A wait is judged on every publication, never sampled: the driver appends each one to the wait's
//! own queue, and the predicate runs in the waiting task. What is stale neither passes nor fails.

pub(crate) mod queue;
mod report;

#[cfg(all(test, watchkeeper_loom))]
mod loom_tests;

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper_fsm::{State, StateKind};

use crate::clock::{Timer, later};
use crate::config::LONGEST;
use crate::handle::{Mark, ObservationHandle, is_over};
use crate::observer::Observer;
use crate::shared::Shared;
use crate::status::{ObservationSnapshot, ObservationStatus};

pub use report::{Inconclusive, InvalidWait, Unmet, UnmetOutcome};

use queue::{Publication, WaitQueue};
use report::Evidence;

impl<O: Observer> ObservationHandle<O> {
    /// Waits for a snapshot that satisfies `predicate`.
    ///
    /// `label` says what is waited for; a failure prints it. Window and start are fixed now: give
    /// the window with [`within`](WaitBuilder::within). By default only cycles count whose work
    /// began after this call; see [`or_now`](WaitBuilder::or_now) and
    /// [`after`](WaitBuilder::after).
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
        mut predicate: F,
    ) -> WaitBuilder<'a, O, Arc<ObservationSnapshot<O::Snapshot>>>
    where
        F: FnMut(&O::Snapshot) -> bool + Send + 'a,
    {
        let judge = Judge::Snapshot(Box::new(move |value| predicate(value)));
        WaitBuilder::new(&self.shared, label.into(), judge, |met| met.status.snapshot.clone())
    }

    /// Waits for the machine to be in `state`, be it only between two polls of the waiting task.
    ///
    /// By default only cycles count that begin after this call: a runtime that is idle now reaches
    /// `Idle` with its next success. [`State::Stopped`] counts in any case. Returns the status of
    /// that moment.
    pub fn reaches<'a>(&self, state: impl Into<StateKind>) -> WaitBuilder<'a, O, ObservationStatus<O>> {
        let state = state.into();
        let label = format!("the runtime reaches {state}");
        let read = |met: &Publication<O::Snapshot>| Some(ObservationStatus::read(&met.status, met.at));
        WaitBuilder::new(&self.shared, label, Judge::State(state), read)
    }
}

/// What makes a wait met.
enum Judge<'a, S> {
    Snapshot(Box<dyn FnMut(&S) -> bool + Send + 'a>),
    State(StateKind),
}

/// How a report shows a snapshot.
type Show<'a, S> = Box<dyn Fn(&S) -> String + Send + 'a>;

/// A wait shows snapshots by `Debug`.
pub struct ByDebug(());

/// A wait shows snapshots by the app's own function.
pub struct ByShow<'a, S>(Show<'a, S>);

/// A wait that still needs its window: [`within`](Self::within).
///
/// It has begun: what is published from now on is judged.
#[must_use = "a wait needs a window: call `.within(..)` and await it"]
pub struct WaitBuilder<'a, O: Observer, T, V = ByDebug> {
    wait: Wait<'a, O, T>,
    show: V,
}

impl<'a, O: Observer, T> WaitBuilder<'a, O, T> {
    fn new(
        shared: &Arc<Shared<O::Snapshot, O::Event>>,
        label: String,
        judge: Judge<'a, O::Snapshot>,
        read: fn(&Publication<O::Snapshot>) -> Option<T>,
    ) -> Self {
        Self { wait: Wait::register(Arc::clone(shared), label, judge, read), show: ByDebug(()) }
    }

    /// Shows snapshots in the report by `show`, for those that are too large for `Debug` or have
    /// none.
    pub fn show(
        self,
        show: impl Fn(&O::Snapshot) -> String + Send + 'a,
    ) -> WaitBuilder<'a, O, T, ByShow<'a, O::Snapshot>> {
        WaitBuilder { wait: self.wait, show: ByShow(Box::new(show)) }
    }

    /// Gives the window, counted from when the wait was made. The wait is then to be awaited.
    ///
    /// The result is [`Unmet`] if the window is zero or over 24 h.
    pub fn within(self, window: Duration) -> Wait<'a, O, T>
    where
        O::Snapshot: fmt::Debug,
    {
        self.wait.ready(window, Box::new(|value| format!("{value:#?}")))
    }
}

impl<'a, O: Observer, T> WaitBuilder<'a, O, T, ByShow<'a, O::Snapshot>> {
    /// Gives the window, counted from when the wait was made. The wait is then to be awaited.
    ///
    /// The result is [`Unmet`] if the window is zero or over 24 h.
    pub fn within(self, window: Duration) -> Wait<'a, O, T> {
        self.wait.ready(window, self.show.0)
    }
}

impl<O: Observer, T, V> WaitBuilder<'_, O, T, V> {
    /// Accepts what is known already: the present snapshot if it is fresh, the present state, and
    /// the outcome of a cycle in flight.
    pub fn or_now(mut self) -> Self {
        self.wait.counts_from = 0;
        self
    }

    /// Counts only cycles that began after `mark`: those between the mark and this wait as well,
    /// of which the latest snapshot is judged.
    pub fn after(mut self, mark: Mark) -> Self {
        self.wait.counts_from = mark.next_cycle;
        if mark.instance != self.wait.shared.history.instance() {
            self.wait.invalid = Some(InvalidWait::ForeignMark);
        }
        self
    }
}

/// A pending wait: a future of what was waited for, or of [`Unmet`], which explains itself.
///
/// # Cancel safety
///
/// Cancel safe when polled by reference: publications queue up while it is not polled (up to
/// 1,024; a wait that falls further behind says so). Dropping it unregisters it.
#[must_use = "a wait does nothing unless it is awaited"]
pub struct Wait<'a, O: Observer, T> {
    shared: Arc<Shared<O::Snapshot, O::Event>>,
    queue: Arc<WaitQueue<O::Snapshot>>,
    /// Taken from the queue and not yet judged.
    taken: VecDeque<Publication<O::Snapshot>>,
    label: String,
    judge: Judge<'a, O::Snapshot>,
    read: fn(&Publication<O::Snapshot>) -> Option<T>,
    show: Option<Show<'a, O::Snapshot>>,
    invalid: Option<InvalidWait>,
    began: Instant,
    window: Duration,
    /// Cycles from this one on count.
    counts_from: u64,
    /// Snapshots of cycles below this one have been judged.
    unjudged_from: u64,
    evidence: Evidence<O::Snapshot>,
    timer: Option<Timer>,
}

enum Verdict<T> {
    Met(T),
    Unmet(UnmetOutcome),
}

impl<'a, O: Observer, T> Wait<'a, O, T> {
    fn register(
        shared: Arc<Shared<O::Snapshot, O::Event>>,
        label: String,
        judge: Judge<'a, O::Snapshot>,
        read: fn(&Publication<O::Snapshot>) -> Option<T>,
    ) -> Self {
        let queue = WaitQueue::new();
        let began = shared.clock.now();
        let first = Publication { at: began, status: shared.register(&queue), missed: 0 };
        Self {
            counts_from: first.status.next_cycle,
            unjudged_from: 0,
            evidence: Evidence::new(Arc::clone(&first.status)),
            taken: VecDeque::from([first]),
            show: None,
            invalid: None,
            window: Duration::ZERO,
            timer: None,
            shared,
            queue,
            label,
            judge,
            read,
            began,
        }
    }

    fn ready(mut self, window: Duration, show: Show<'a, O::Snapshot>) -> Self {
        if window.is_zero() || window > LONGEST {
            self.invalid = Some(InvalidWait::Window);
        }
        self.window = window;
        self.show = Some(show);
        self.timer = Some(self.shared.clock.timer(self.deadline()));
        self
    }

    fn deadline(&self) -> Instant {
        later(self.began, self.window)
    }

    /// Judges everything that has come.
    fn judge_all(&mut self, context: &mut Context<'_>) -> Option<Verdict<T>> {
        loop {
            while let Some(publication) = self.taken.pop_front() {
                let verdict = self.judge_one(&publication);
                if verdict.is_some() {
                    return verdict;
                }
            }
            let missed = self.queue.take(&mut self.taken, context.waker());
            if self.taken.is_empty() {
                self.evidence.missed = missed;
                return None;
            }
        }
    }

    fn judge_one(&mut self, publication: &Publication<O::Snapshot>) -> Option<Verdict<T>> {
        // What was missed behind the window is no matter.
        self.evidence.missed = publication.missed;
        if publication.at > self.deadline() {
            return Some(Verdict::Unmet(self.evidence.at_the_end()));
        }
        let status = &publication.status;
        self.evidence.status = Arc::clone(status);
        let met = match &mut self.judge {
            Judge::Snapshot(predicate) => match &status.snapshot {
                Some(snapshot) if snapshot.cycle >= self.counts_from.max(self.unjudged_from) => {
                    self.unjudged_from = snapshot.cycle + 1;
                    let fresh = status.freshness(publication.at).is_fresh();
                    self.evidence.saw(snapshot, fresh);
                    fresh && predicate(&snapshot.value)
                }
                _ => false,
            },
            Judge::State(state) => {
                let counts = status.cycle >= self.counts_from || is_over(status.state);
                self.evidence.judged += u64::from(counts);
                counts && status.state.kind() == *state
            }
        };
        if met {
            return (self.read)(publication).map(Verdict::Met);
        }
        match status.state {
            State::Stopped { reason } => {
                Some(Verdict::Unmet(UnmetOutcome::Inconclusive(Inconclusive::Stopped { reason })))
            }
            _ => None,
        }
    }

    fn finish(&mut self, verdict: Verdict<T>) -> Result<T, Unmet> {
        self.queue.close();
        match verdict {
            Verdict::Met(met) => Ok(met),
            Verdict::Unmet(outcome) => {
                let label = std::mem::take(&mut self.label);
                let (entries, cut) = self.shared.log_since(self.evidence.first.number);
                let ended = self.shared.clock.now().min(self.deadline());
                Err(self.evidence.report(
                    label,
                    (self.began, self.window, ended),
                    outcome,
                    (&entries, cut),
                    self.show.as_deref(),
                ))
            }
        }
    }
}

impl<O: Observer, T> Future for Wait<'_, O, T> {
    type Output = Result<T, Unmet>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(invalid) = this.invalid {
            return Poll::Ready(this.finish(Verdict::Unmet(UnmetOutcome::Invalid(invalid))));
        }
        if let Some(verdict) = this.judge_all(context) {
            return Poll::Ready(this.finish(verdict));
        }
        if let Some(timer) = &mut this.timer {
            ready!(Pin::new(timer).poll(context));
        }
        // What was published in time counts, also when it is found at the deadline.
        let verdict = this.judge_all(context);
        let verdict = verdict.unwrap_or_else(|| Verdict::Unmet(this.evidence.at_the_end()));
        Poll::Ready(this.finish(verdict))
    }
}

impl<O: Observer, T> Unpin for Wait<'_, O, T> {}

impl<O: Observer, T> Drop for Wait<'_, O, T> {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl<O: Observer, T> fmt::Debug for Wait<'_, O, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait")
            .field("label", &self.label)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

impl<O: Observer, T, V> fmt::Debug for WaitBuilder<'_, O, T, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitBuilder").field("label", &self.wait.label).finish_non_exhaustive()
    }
}
