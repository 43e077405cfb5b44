//! The control of an observer, and who has paused it: scenarios may share one.

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use watchkeeper::ObservationControl;
use watchkeeper::group::AnyHandle;
use watchkeeper::runtime::{ControlError, PollNowError, StopOutcome};

/// Pauses, resumes, hurries and stops an observer for a scenario; cloneable.
///
/// As [`ObservationControl`], but what a scenario pauses or resumes by it of the suite's observers is undone at the
/// scenario's end: the observer is then again what another scenario has asked for that still runs, or else what it was
/// before. What is asked by a control that has outlived its scenario stays. What was refused does not count.
#[derive(Clone)]
pub struct ScenarioControl {
    /// Shared by all scenarios that have the observer.
    wishes: Arc<Wishes>,
    /// Whether the scenario is over; its address says which one it is.
    scenario: Arc<AtomicBool>,
}

/// What scenarios have asked for of one observer.
struct Wishes {
    /// The observer's name: its address says which one it is, for as long as it is kept here.
    name: Arc<str>,
    control: ObservationControl,
    asked: Mutex<PendingControl>,
}

struct PendingControl {
    /// Whether it was paused before the scenarios.
    before: bool,
    /// The last wish of each scenario that has one, whether to be paused, in the order in which they were sent.
    by: Vec<(Arc<AtomicBool>, bool)>,
    /// What was sent last, since it was as before.
    sent: Option<Arc<Sent>>,
}

/// That an observer is paused or resumed: sent, and perhaps not taken yet.
pub(crate) struct Sent {
    paused: bool,
    /// Held by the one that awaits the answer: a future wakes only the last that has polled it.
    answer: tokio::sync::Mutex<Answer>,
}

enum Answer {
    Awaited(Asking),
    Is(Result<(), ControlError>),
}

type Asking = Pin<Box<dyn Future<Output = Result<(), ControlError>> + Send>>;

/// Of the observers that scenarios share, and of those whose last scenario has left something to be sent or taken.
static SHARED: Mutex<Vec<Arc<Wishes>>> = Mutex::new(Vec::new());

impl Sent {
    /// Sends it, or says why not.
    fn new(control: &ObservationControl, paused: bool) -> Result<Self, ControlError> {
        let control = control.clone();
        let mut asking: Asking =
            Box::pin(async move { if paused { control.pause().await } else { control.resume().await } });
        // A control is sent when it is first polled.
        let answer = match asking.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => Answer::Awaited(asking),
            // It may still be taken.
            Poll::Ready(answer @ (Ok(()) | Err(ControlError::NotDriven { .. }))) => Answer::Is(answer),
            Poll::Ready(Err(refused)) => return Err(refused),
        };
        Ok(Self { paused, answer: tokio::sync::Mutex::new(answer) })
    }

    /// Whether it was taken. Dropped half-way, it can be called again.
    pub(crate) async fn answer(&self) -> Result<(), ControlError> {
        let mut answer = self.answer.lock().await;
        match &mut *answer {
            Answer::Is(is) => *is,
            Answer::Awaited(asking) => {
                let is = asking.await;
                *answer = Answer::Is(is);
                is
            }
        }
    }

    /// The answer, if there is one by now.
    fn answered(&self) -> Option<Result<(), ControlError>> {
        match pin!(self.answer()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        }
    }
}

impl PendingControl {
    fn new(is_paused: bool) -> Self {
        Self { before: is_paused, by: Vec::new(), sent: None }
    }

    /// What it should be.
    fn wanted(&self) -> bool {
        self.by.last().map_or(self.before, |(_, paused)| *paused)
    }

    /// Sends what it should be, if something else was sent last, or if nobody knows whether that is taken.
    fn settle(&mut self, control: &ObservationControl) -> Result<Option<Arc<Sent>>, ControlError> {
        let wanted = self.wanted();
        let is_sent = self.sent.as_ref().map_or(self.before == wanted, |sent| {
            sent.paused == wanted && !matches!(sent.answered(), Some(Err(ControlError::NotDriven { .. })))
        });
        if is_sent {
            return Ok(None);
        }
        self.sent = Some(Arc::new(Sent::new(control, wanted)?));
        Ok(self.sent.clone())
    }

    /// Whether nothing is left to be sent or taken.
    fn is_settled(&mut self, control: &ObservationControl) -> bool {
        match self.settle(control) {
            Ok(_) => self.sent.as_ref().is_none_or(|sent| sent.answered().is_some()),
            Err(error) => is_over(&error),
        }
    }
}

impl Wishes {
    fn new(handle: &AnyHandle, control: ObservationControl) -> Self {
        let asked = Mutex::new(PendingControl::new(handle.status().paused));
        Self { name: Arc::clone(handle.name()), control, asked }
    }

    /// Those of an observer of the suite, for a scenario that begins.
    fn shared(handle: &AnyHandle, control: ObservationControl) -> Arc<Self> {
        let mut shared = lock(&SHARED);
        let is_this = |wishes: &Arc<Self>| Arc::ptr_eq(&wishes.name, handle.name());
        let is_used = |wishes: &Arc<Self>| {
            Arc::strong_count(wishes) > 1 || !lock(&wishes.asked).is_settled(&wishes.control)
        };
        shared.retain(|wishes| is_this(wishes) || is_used(wishes));
        if let Some(wishes) = shared.iter().find(|wishes| is_this(wishes)) {
            let mut asked = lock(&wishes.asked);
            // Where no scenario has a wish, the observer is as the suite has it.
            if asked.by.is_empty() && asked.is_settled(&wishes.control) {
                *asked = PendingControl::new(handle.status().paused);
            }
            return Arc::clone(wishes);
        }
        let wishes = Arc::new(Self::new(handle, control));
        shared.push(Arc::clone(&wishes));
        wishes
    }
}

impl ScenarioControl {
    /// Of an observer of the scenario's own.
    pub(crate) fn own(handle: &AnyHandle, control: ObservationControl, scenario: &Arc<AtomicBool>) -> Self {
        Self { wishes: Arc::new(Wishes::new(handle, control)), scenario: Arc::clone(scenario) }
    }

    /// Of an observer of the suite.
    pub(crate) fn shared(
        handle: &AnyHandle,
        control: ObservationControl,
        scenario: &Arc<AtomicBool>,
    ) -> Self {
        Self { wishes: Wishes::shared(handle, control), scenario: Arc::clone(scenario) }
    }

    /// See [`ObservationControl::pause`].
    ///
    /// # Errors
    ///
    /// [`ControlError`].
    pub async fn pause(&self) -> Result<(), ControlError> {
        self.wish(true).await
    }

    /// See [`ObservationControl::resume`].
    ///
    /// # Errors
    ///
    /// [`ControlError`].
    pub async fn resume(&self) -> Result<(), ControlError> {
        self.wish(false).await
    }

    /// See [`ObservationControl::poll_now`].
    ///
    /// # Errors
    ///
    /// [`ControlError`].
    pub async fn poll_now(&self) -> Result<u64, ControlError> {
        self.wishes.control.poll_now().await
    }

    /// See [`ObservationControl::poll_now_and_wait`].
    ///
    /// # Errors
    ///
    /// [`PollNowError`].
    pub async fn poll_now_and_wait(&self) -> Result<u64, PollNowError> {
        self.wishes.control.poll_now_and_wait().await
    }

    /// See [`ObservationControl::stop`]. An observer of the suite is stopped for all.
    pub async fn stop(&self) -> StopOutcome {
        self.wishes.control.stop().await
    }

    async fn wish(&self, paused: bool) -> Result<(), ControlError> {
        let sent = self.send(paused)?;
        sent.answer().await
    }

    /// Sends a wish and notes it, under one lock: the last that was noted is also the last that was sent.
    fn send(&self, paused: bool) -> Result<Arc<Sent>, ControlError> {
        let mut asked = lock(&self.wishes.asked);
        let sent = Arc::new(Sent::new(&self.wishes.control, paused)?);
        asked.sent = Some(Arc::clone(&sent));
        if self.scenario.load(Ordering::Relaxed) {
            asked.before = paused;
            asked.by.clear();
        } else {
            asked.by.retain(|(of, _)| !Arc::ptr_eq(of, &self.scenario));
            asked.by.push((Arc::clone(&self.scenario), paused));
        }
        Ok(sent)
    }

    /// Undoes what the scenario has asked for. Returns what it has sent, if there was something to send; what is
    /// refused is sent by the next that ends or begins.
    pub(crate) fn undo(&self) -> Result<Option<Arc<Sent>>, ControlError> {
        let mut asked = lock(&self.wishes.asked);
        asked.by.retain(|(of, _)| !Arc::ptr_eq(of, &self.scenario));
        asked.settle(&self.wishes.control)
    }
}

impl fmt::Debug for ScenarioControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ScenarioControl").field(&self.wishes.control).finish()
    }
}

/// Whether the observer has ended: it is neither paused nor resumed any more.
pub(crate) fn is_over(error: &ControlError) -> bool {
    matches!(error, ControlError::Stopped { .. } | ControlError::Dead { .. })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that panics runs under the locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use watchkeeper::group::ObservationGroup;
    use watchkeeper::{
        DynError, ObservationConfig, ObservationRuntime, ObservedSource, PerSource, StaticSourceProvider,
    };

    use super::*;
    use crate::Observers;

    async fn suite() -> ObservationGroup {
        let suite = ObservationGroup::new();
        let sources = StaticSourceProvider::new(vec![ObservedSource::new("n1", ())]);
        let observer = PerSource::new(|_| async { Ok::<_, DynError>(1) });
        let config = ObservationConfig::default();
        suite.add_as("s", ObservationRuntime::start(sources, observer, config).await.unwrap()).unwrap();
        suite
    }

    fn is_kept(name: &Arc<str>) -> bool {
        lock(&SHARED).iter().any(|wishes| Arc::ptr_eq(&wishes.name, name))
    }

    /// It has ended before it could take what the end of a scenario has sent, or while too many controls were waiting.
    #[tokio::test(start_paused = true)]
    async fn a_stopped_observer_leaves_nothing_among_the_shared() {
        for is_full in [false, true] {
            let ended = suite().await;
            let scenario = Observers::sharing(&ended);
            let name = Arc::clone(ended.handle("s").unwrap().name());
            scenario.control("s").unwrap().pause().await.unwrap();
            for _ in 0..16 * u32::from(is_full) {
                let control = ended.control("s").unwrap();
                assert!(pin!(control.poll_now()).poll(&mut Context::from_waker(Waker::noop())).is_pending());
            }
            drop(scenario);
            assert!(is_kept(&name));
            ended.stop_all().await;

            let other = suite().await;
            let _next = Observers::sharing(&other);
            assert!(!is_kept(&name), "is_full: {is_full}");
            other.stop_all().await;
        }
    }

    /// The observer had no turn to take what the end of a scenario had sent.
    #[tokio::test(start_paused = true)]
    async fn what_an_observer_without_a_turn_did_not_confirm_is_sent_again() {
        let suite = suite().await;
        let scenario = Observers::sharing(&suite);
        let wishes = Arc::clone(&scenario.control("s").unwrap().wishes);
        suite.control("s").unwrap().pause().await.unwrap();
        let answer = Answer::Is(Err(ControlError::NotDriven { no_turn_for: Duration::from_secs(5) }));
        let sent = Sent { paused: false, answer: tokio::sync::Mutex::new(answer) };
        lock(&wishes.asked).sent = Some(Arc::new(sent));
        drop(scenario);

        let mut next = Observers::sharing(&suite);
        next.control("s").unwrap().pause().await.unwrap();
        next.finish().await.unwrap();
        assert!(!suite.status("s").unwrap().paused);
        suite.stop_all().await;
    }
}
