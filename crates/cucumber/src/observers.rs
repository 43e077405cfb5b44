//! What a scenario observes.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use serde_json::Value;
use tokio::time::Instant;
use watchkeeper::report::one_line;
use watchkeeper::{
    AnyHandle, AnySnapshot, GroupError, Invariant, Mark, ObservationControl, ObservationGroup,
    ObservationRuntime, Observer, StopOutcome, Unmet,
};

use crate::{StepError, Unfinished};

/// A World that observes.
///
/// # Examples
///
/// ```
/// use watchkeeper_cucumber::{Observed, Observers};
///
/// #[derive(Debug, Default, cucumber::World)]
/// struct World {
///     observers: Observers,
/// }
///
/// impl Observed for World {
///     fn observers(&mut self) -> &mut Observers {
///         &mut self.observers
///     }
/// }
/// ```
pub trait Observed: cucumber::World {
    /// What the steps wait on.
    fn observers(&mut self) -> &mut Observers;
}

/// The observers of one scenario, by name: its own, and those that it shares with the suite.
///
/// It is the scenario's own view: events and failures count from when the scenario came to know the
/// observer, so that scenarios that run at the same time do not see each other's. Pausing and stopping is not
/// private: what the suite shares is paused for all.
///
/// Its own observers stop, awaited, in [`finish`](Self::finish), which [`after`](crate::after) calls. Dropping
/// it asks them to stop and waits for nothing.
#[derive(Default)]
pub struct Observers {
    entries: BTreeMap<Arc<str>, Entry>,
    own: ObservationGroup,
    invariants: Vec<Invariant>,
}

/// One observer as the scenario sees it.
pub(crate) struct Entry {
    pub(crate) handle: AnyHandle,
    pub(crate) control: ObservationControl,
    /// What was there before the scenario. An observer of its own has no before.
    before: Option<Before>,
    /// When the scenario last asked for a poll.
    pub(crate) polled: Option<Mark>,
}

#[derive(Clone, Copy)]
struct Before {
    until: Instant,
    events: u64,
}

impl Observers {
    /// No observers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Shares the members that `suite` has now. For the scenario they begin here: call this where the World is
    /// made.
    ///
    /// The suite keeps them: after the run, [`finish_suite`](crate::finish_suite) stops them.
    #[must_use]
    pub fn sharing(suite: &ObservationGroup) -> Self {
        let mut observers = Self::default();
        for handle in suite.handles() {
            let name = Arc::clone(handle.name());
            let Some(control) = suite.control(&name) else { continue };
            let events = handle.look(|seen: AnySnapshot<'_>| seen.event_count()).unwrap_or_default();
            let before = Some(Before { until: Instant::now(), events });
            observers.entries.insert(name, Entry { handle, control, before, polled: None });
        }
        observers
    }

    /// Takes an observer in that lives as long as the scenario.
    ///
    /// # Errors
    ///
    /// [`GroupError`]: the name is empty, or taken by another observer of the scenario or of the suite. The
    /// runtime is then dropped, which stops it.
    pub fn add<O: Observer>(&mut self, name: &str, runtime: ObservationRuntime<O>) -> Result<(), GroupError> {
        self.refuse_duplicate(name)?;
        self.own.add(name, runtime)?;
        self.enter(name);
        Ok(())
    }

    /// Takes an observer in that lives as long as the scenario, with a way to show its snapshots as JSON.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add).
    pub fn add_with_json<O: Observer>(
        &mut self,
        name: &str,
        runtime: ObservationRuntime<O>,
        json: impl Fn(&O::Snapshot) -> Value + Send + Sync + 'static,
    ) -> Result<(), GroupError> {
        self.refuse_duplicate(name)?;
        self.own.add_with_json(name, runtime, json)?;
        self.enter(name);
        Ok(())
    }

    /// The read side of the observer called `name`.
    ///
    /// # Errors
    ///
    /// [`StepError::UnknownObserver`].
    pub fn handle(&self, name: &str) -> Result<AnyHandle, StepError> {
        self.entry(name).map(|entry| entry.handle.clone())
    }

    /// The control of the observer called `name`.
    ///
    /// # Errors
    ///
    /// [`StepError::UnknownObserver`].
    pub fn control(&self, name: &str) -> Result<ObservationControl, StepError> {
        self.entry(name).map(|entry| entry.control.clone())
    }

    /// Keeps an invariant for the rest of the scenario: once it is violated, the step that waits fails, and the
    /// scenario fails at its end in any case.
    pub fn hold(&mut self, invariant: Invariant) {
        self.invariants.push(invariant);
    }

    /// Waits as the shipped steps do, for steps of your own: fails at once when an invariant is violated.
    ///
    /// # Errors
    ///
    /// [`StepError::Unmet`] or [`StepError::Violated`].
    ///
    /// # Cancel safety
    ///
    /// As that of `wait`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use watchkeeper_cucumber::{Observers, StepError};
    /// # async fn example(observers: &mut Observers) -> Result<(), StepError> {
    /// let raft = observers.handle("raft")?;
    /// let calm = raft.stays_fresh().during(Duration::from_secs(5));
    /// observers.wait(calm).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn wait<T>(&mut self, wait: impl Future<Output = Result<T, Unmet>>) -> Result<T, StepError> {
        let mut wait = pin!(wait);
        let ended = {
            let mut violations: Vec<Pin<Box<dyn Future<Output = Unmet> + Send + '_>>> = Vec::new();
            for invariant in &self.invariants {
                violations.push(Box::pin(invariant.violated()));
            }
            poll_fn(|context| {
                for (nth, violation) in violations.iter_mut().enumerate() {
                    if let Poll::Ready(unmet) = violation.as_mut().poll(context) {
                        return Poll::Ready(Err((nth, unmet)));
                    }
                }
                wait.as_mut().poll(context).map(Ok)
            })
            .await
        };
        match ended {
            Ok(met) => met.map_err(StepError::Unmet),
            Err((nth, unmet)) => Err(self.told(nth, unmet)),
        }
    }

    /// Ends the scenario: stops its own observers and collects its invariants, all of them awaited.
    ///
    /// Idempotent; afterwards the scenario has no observers.
    ///
    /// # Errors
    ///
    /// [`Unfinished`]: invariants that did not hold, whose predicates panicked or were never judged, observers
    /// whose stop had to leave app code behind.
    pub async fn finish(&mut self) -> Result<(), Unfinished> {
        let detached = stop(&self.own).await;
        let mut unheld = Vec::new();
        for invariant in std::mem::take(&mut self.invariants) {
            unheld.extend(invariant.finish().await.err());
        }
        *self = Self::default();
        Unfinished { unheld, detached }.into_result()
    }

    /// Fails if an invariant was violated by now.
    pub(crate) fn check(&mut self) -> Result<(), StepError> {
        let violation = |(nth, invariant): (usize, &Invariant)| Some((nth, invariant.violation()?));
        match self.invariants.iter().enumerate().find_map(violation) {
            Some((nth, unmet)) => Err(self.told(nth, unmet)),
            None => Ok(()),
        }
    }

    pub(crate) fn entry(&self, name: &str) -> Result<&Entry, StepError> {
        self.entries.get(name).ok_or_else(|| self.unknown(name))
    }

    /// Notes when the scenario has asked for a poll.
    pub(crate) fn polled(&mut self, name: &str, mark: Mark) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.polled = Some(mark);
        }
    }

    fn unknown(&self, name: &str) -> StepError {
        StepError::UnknownObserver { name: name.to_owned(), known: self.entries.keys().cloned().collect() }
    }

    /// A violation that a step tells is not told again at the end.
    fn told(&mut self, nth: usize, unmet: Unmet) -> StepError {
        drop(self.invariants.remove(nth));
        StepError::Violated(unmet)
    }

    fn refuse_duplicate(&self, name: &str) -> Result<(), GroupError> {
        if self.entries.contains_key(name) {
            return Err(GroupError::DuplicateName { name: name.to_owned() });
        }
        Ok(())
    }

    fn enter(&mut self, name: &str) {
        if let (Some(handle), Some(control)) = (self.own.handle(name), self.own.control(name)) {
            let entry = Entry { handle, control, before: None, polled: None };
            self.entries.insert(Arc::from(name), entry);
        }
    }
}

impl Entry {
    /// How many events were published before the scenario.
    pub(crate) fn events_before(&self) -> u64 {
        self.before.map_or(0, |before| before.events)
    }

    /// Whether this moment is the scenario's.
    pub(crate) fn is_ours(&self, at: Instant) -> bool {
        self.before.is_none_or(|before| at > before.until)
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = |entry: &Entry| {
            let status = entry.handle.status();
            let paused = if status.paused { ", paused" } else { "" };
            format!("{}, cycle {}{paused}", status.state, status.cycle)
        };
        f.debug_map()
            .entries(self.entries.iter().map(|(name, entry)| (one_line(name, 100), status(entry))))
            .finish()
    }
}

/// Stops all members; returns the names of those that left app code behind.
pub(crate) async fn stop(group: &ObservationGroup) -> Vec<Arc<str>> {
    let outcomes = group.stop_all().await.into_iter();
    outcomes.filter(|(_, outcome)| *outcome == StopOutcome::Detached).map(|(name, _)| name).collect()
}
