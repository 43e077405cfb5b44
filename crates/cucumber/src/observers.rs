//! The observers of a scenario.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, Write as _};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use watchkeeper::group::{AnyHandle, AnySnapshot, GroupError, ObservationGroup};
use watchkeeper::report::{names, one_line};
use watchkeeper::runtime::StopOutcome;
use watchkeeper::wait::{Invariant, Mark, Unmet};
use watchkeeper::{ObservationRuntime, Observer};

use crate::basis::{self, Basis};
use crate::control::{ScenarioControl, Sent, is_over};
use crate::error::{invariant, is_broken};
use crate::shown::LIST;
use crate::{StepError, Unfinished};

/// How long the end of a scenario waits until pauses of shared observers are undone.
const UNDO: Duration = Duration::from_secs(5);

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
/// Each scenario has its own view: events and failures count from the moment when the observer was added or shared, so
/// that concurrent scenarios do not see each other's. Pausing and stopping is not private: an observer of the suite is
/// paused for all scenarios, until this one ends.
///
/// [`finish`](Self::finish), which [`after`](crate::after) calls, stops and awaits the scenario's own observers.
/// Dropping this instead requests their stop, undoes pauses, waits for nothing, and warns of each invariant that was
/// broken or not collected: as an event of `tracing`, or on standard error without a subscriber. If one was broken,
/// [`finish_run`](crate::finish_run) then fails.
#[derive(Default)]
pub struct Observers {
    entries: BTreeMap<Arc<str>, RegisteredObserver>,
    own: ObservationGroup,
    invariants: Vec<Invariant>,
    /// What `finish` has collected, kept in case it is cut off.
    unheld: Vec<Unmet>,
    basis: Basis,
    /// Whether the scenario is over. Its address identifies the scenario.
    over: Arc<AtomicBool>,
}

/// One observer as the scenario sees it.
pub(crate) struct RegisteredObserver {
    pub(crate) handle: AnyHandle,
    pub(crate) control: ScenarioControl,
    /// The state before the scenario. `None` for an observer of the scenario itself.
    before: Option<Before>,
    /// When the scenario last asked for a poll.
    pub(crate) polled: Option<Mark>,
    /// The cycle when it was added to the scenario, until the scenario has ended.
    entered: Option<u64>,
    /// The request that the end of the scenario has sent: `finish` may be cut off, and called again.
    undone: Option<Arc<Sent>>,
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

    /// Shares the current members of `suite`. Their events and failures count from here: call this where the World is
    /// made.
    ///
    /// The suite still owns them: after the run, [`finish_suite`](crate::finish_suite) stops them.
    #[must_use]
    pub fn sharing(suite: &ObservationGroup) -> Self {
        let mut observers = Self::default();
        for handle in suite.handles() {
            let name = Arc::clone(handle.name());
            let Some(control) = suite.control(&name) else { continue };
            let events = handle.look(|seen: AnySnapshot<'_>| seen.event_count()).unwrap_or_default();
            let before = Before { until: Instant::now(), events };
            let control = ScenarioControl::shared(&handle, control, &observers.over);
            observers.entries.insert(name, RegisteredObserver::new(handle, control, Some(before)));
        }
        observers
    }

    /// Adds an observer that lives as long as the scenario.
    ///
    /// # Errors
    ///
    /// [`GroupError`]: the name is empty, or taken by another observer of the scenario or of the suite. The
    /// runtime is then dropped, which stops it.
    pub fn add<O: Observer>(&mut self, name: &str, runtime: ObservationRuntime<O>) -> Result<(), GroupError> {
        self.refuse_duplicate(name)?;
        self.own.add_as(name, runtime)?;
        self.enter(name);
        Ok(())
    }

    /// Adds an observer that lives as long as the scenario, with a way to show its snapshots as JSON.
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

    /// The control of the observer called `name`. The end of the scenario undoes its pauses and resumes.
    ///
    /// # Errors
    ///
    /// [`StepError::UnknownObserver`].
    pub fn control(&self, name: &str) -> Result<ScenarioControl, StepError> {
        self.entry(name).map(|entry| entry.control.clone())
    }

    /// Keeps an invariant for the rest of the scenario. After a violation, each step that waits fails, and the
    /// scenario fails at its end in any case.
    pub fn hold(&mut self, invariant: Invariant) {
        self.invariants.push(invariant);
    }

    /// Waits as the shipped steps do, for your own steps: fails at once when an invariant is violated.
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
                for violation in &mut violations {
                    if let Poll::Ready(unmet) = violation.as_mut().poll(context) {
                        return Poll::Ready(Err(unmet));
                    }
                }
                wait.as_mut().poll(context).map(Ok)
            })
            .await
        };
        match ended {
            Ok(met) => {
                self.basis.asked += u64::from(met.is_ok());
                met.map_err(StepError::Unmet)
            }
            Err(unmet) => Err(StepError::Violated(unmet)),
        }
    }

    /// Ends the scenario: undoes its pauses and resumes of the suite's observers, stops its own observers and collects
    /// its invariants, and awaits all of that.
    ///
    /// Idempotent; after it the scenario has no observers. An observer that was paused before the scenario is paused
    /// again, and a pause by another scenario stays until that one ends.
    ///
    /// # Errors
    ///
    /// [`Unfinished`]: invariants that did not hold (also if a step has returned that error), whose predicates panicked
    /// or that were never judged; observers that left app code running; and observers that did not confirm that a pause
    /// or resume was undone. The next scenario that shares such an observer sends a refused request again.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped half-way, it can be called again: it still awaits the requests that it has sent, and keeps the
    /// violations that it has found. An invariant whose end was being awaited may be lost if it was not violated.
    pub async fn finish(&mut self) -> Result<(), Unfinished> {
        self.note();
        let still_paused = self.undo().await;
        let detached = stop(&self.own).await;
        while !self.invariants.is_empty() {
            let found = self.unheld.len();
            let invariant = self.invariants.remove(0);
            self.unheld.extend(invariant.violation());
            let ended = invariant.finish().await;
            self.unheld.truncate(found);
            self.basis.judged += ended.as_ref().map_or_else(Unmet::judged, |held| held.judged);
            self.unheld.extend(ended.err());
        }
        let unheld = std::mem::take(&mut self.unheld);
        *self = Self::default();
        Unfinished { unheld, detached, still_paused }.into_result()
    }

    /// Fails if an invariant has been violated.
    pub(crate) fn check(&mut self) -> Result<(), StepError> {
        if let Some(unmet) = self.invariants.iter().find_map(Invariant::violation) {
            return Err(StepError::Violated(unmet));
        }
        self.basis.asked += 1;
        Ok(())
    }

    /// Undoes pauses and resumes of the suite's observers; returns the observers that did not confirm that.
    async fn undo(&mut self) -> Vec<Arc<str>> {
        self.over.store(true, Ordering::Relaxed);
        let (mut left, mut sent) = (Vec::new(), Vec::new());
        for (name, entry) in self.entries.iter_mut().filter(|(_, entry)| entry.before.is_some()) {
            match entry.control.undo() {
                Ok(undone) => entry.undone = undone.or(entry.undone.take()),
                Err(error) if is_over(&error) => {}
                Err(_) => {
                    left.push(Arc::clone(name));
                    continue;
                }
            }
            sent.extend(entry.undone.clone().map(|undone| (Arc::clone(name), undone)));
        }
        let until = Instant::now() + UNDO;
        for (name, undone) in sent {
            match timeout_at(until, undone.answer()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) if is_over(&error) => {}
                Ok(Err(_)) | Err(_) => left.push(name),
            }
        }
        left
    }

    /// Records what the observers have seen in the scenario, once for each.
    fn note(&mut self) {
        for entry in self.entries.values_mut() {
            let Some(entered) = entry.entered.take() else { continue };
            self.basis.cycles += entry.handle.status().cycle.saturating_sub(entered);
            let since = entry.before.map(|before| before.until);
            self.basis.note(&entry.handle, since);
        }
    }

    pub(crate) fn entry(&self, name: &str) -> Result<&RegisteredObserver, StepError> {
        self.entries.get(name).ok_or_else(|| self.unknown(name))
    }

    /// Records when the scenario has asked for a poll.
    pub(crate) fn polled(&mut self, name: &str, mark: Mark) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.polled = Some(mark);
        }
    }

    fn unknown(&self, name: &str) -> StepError {
        StepError::UnknownObserver { name: name.to_owned(), known: self.entries.keys().cloned().collect() }
    }

    fn refuse_duplicate(&self, name: &str) -> Result<(), GroupError> {
        if self.entries.contains_key(name) {
            return Err(GroupError::DuplicateName { name: name.to_owned() });
        }
        Ok(())
    }

    fn enter(&mut self, name: &str) {
        if let (Some(handle), Some(control)) = (self.own.handle(name), self.own.control(name)) {
            let control = ScenarioControl::own(&handle, control, &self.over);
            self.entries.insert(Arc::from(name), RegisteredObserver::new(handle, control, None));
        }
    }
}

impl RegisteredObserver {
    fn new(handle: AnyHandle, control: ScenarioControl, before: Option<Before>) -> Self {
        let entered = Some(handle.status().cycle);
        Self { handle, control, before, polled: None, entered, undone: None }
    }

    /// How many events were published before the scenario.
    pub(crate) fn events_before(&self) -> u64 {
        self.before.map_or(0, |before| before.events)
    }

    /// Whether this moment is in the scenario.
    pub(crate) fn is_ours(&self, at: Instant) -> bool {
        self.before.is_none_or(|before| at > before.until)
    }
}

impl Drop for Observers {
    fn drop(&mut self) {
        self.note();
        self.over.store(true, Ordering::Relaxed);
        for entry in self.entries.values().filter(|entry| entry.before.is_some()) {
            // The next scenario that ends or begins sends a refused request again.
            let _ = entry.control.undo();
        }
        let mut uncollected = Vec::new();
        for invariant in &self.invariants {
            match invariant.violation() {
                Some(unmet) => self.unheld.push(unmet),
                None => uncollected.push(invariant.label()),
            }
        }
        for unmet in &self.unheld {
            self.basis.unreported += u64::from(is_broken(unmet));
            warn(&format!("a scenario has ended, and its end was not awaited: {}", invariant(unmet)));
        }
        if !uncollected.is_empty() {
            warn(&format!(
                "a scenario has ended, and these invariants were not collected: {}; let the run call \
                 `.after(after)`, or await `Observers::finish`",
                names(uncollected, LIST)
            ));
        }
        basis::add(std::mem::take(&mut self.basis));
    }
}

/// Warns also in suites without a subscriber, which are most.
fn warn(text: &str) {
    if tracing::enabled!(tracing::Level::WARN) {
        tracing::warn!("{text}");
    } else {
        // If standard error is closed, there is no way to warn.
        let _ = writeln!(io::stderr(), "{text}");
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = |entry: &RegisteredObserver| {
            let status = entry.handle.status();
            let paused = if status.paused { ", paused" } else { "" };
            format!("{}, cycle {}{paused}", status.state, status.cycle)
        };
        f.debug_map()
            .entries(self.entries.iter().map(|(name, entry)| (one_line(name, 100), status(entry))))
            .finish()
    }
}

/// Stops all members; returns the names of those that left app code running.
pub(crate) async fn stop(group: &ObservationGroup) -> Vec<Arc<str>> {
    let outcomes = group.stop_all().await.into_iter();
    outcomes.filter(|(_, outcome)| *outcome == StopOutcome::Detached).map(|(name, _)| name).collect()
}
