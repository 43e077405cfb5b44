//! The control of an observer that scenarios may share, and which scenario has paused it.

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use watchkeeper::ObservationControl;
use watchkeeper::group::AnyHandle;
use watchkeeper::runtime::{ControlError, PollNowError, StopOutcome};

/// Pauses, resumes, polls and stops an observer for a scenario; cloneable.
///
/// It is an [`ObservationControl`], except that a pause or resume of an observer of the suite is undone at the end of
/// the scenario. The observer is then in the state that another running scenario has requested, or else in the state
/// before the scenarios. A request by a control that has outlived its scenario stays. A refused request does not count.
#[derive(Clone)]
pub struct ScenarioControl {
    /// Shared by all scenarios that have the observer.
    requests: Arc<Requests>,
    /// Whether the scenario is over. Its address identifies the scenario.
    scenario: Arc<AtomicBool>,
}

/// The requests of scenarios to one observer.
struct Requests {
    /// The name of the observer. Its address identifies the observer for as long as it is kept here.
    name: Arc<str>,
    control: ObservationControl,
    asked: Mutex<PendingControl>,
}

struct PendingControl {
    /// Whether it was paused before the scenarios.
    before: bool,
    /// The last request of each scenario that has one, in the order of sending: whether to be paused.
    by: Vec<(Arc<AtomicBool>, bool)>,
    /// The last request that was sent, if any was sent since the state before.
    sent: Option<Arc<Sent>>,
}

/// A request to pause or resume that was sent, and that may not be confirmed yet.
pub(crate) struct Sent {
    paused: bool,
    /// Locked by the task that awaits the answer, because a future wakes only the task that polled it last.
    answer: tokio::sync::Mutex<Answer>,
}

enum Answer {
    Awaited(Asking),
    Is(Result<(), ControlError>),
}

type Asking = Pin<Box<dyn Future<Output = Result<(), ControlError>> + Send>>;

/// Observers that scenarios share, and observers whose last scenario has left a request to be sent or confirmed.
static SHARED: Mutex<Vec<Arc<Requests>>> = Mutex::new(Vec::new());

impl Sent {
    /// Sends the request, or returns why it was refused.
    fn new(control: &ObservationControl, paused: bool) -> Result<Self, ControlError> {
        let control = control.clone();
        let mut asking: Asking =
            Box::pin(async move { if paused { control.pause().await } else { control.resume().await } });
        // The first poll sends the request.
        let answer = match asking.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => Answer::Awaited(asking),
            // It may still be confirmed.
            Poll::Ready(answer @ (Ok(()) | Err(ControlError::NotDriven { .. }))) => Answer::Is(answer),
            Poll::Ready(Err(refused)) => return Err(refused),
        };
        Ok(Self { paused, answer: tokio::sync::Mutex::new(answer) })
    }

    /// Waits until the request is confirmed. Cancel-safe: it can be called again.
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

    /// The answer, if there already is one.
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

    /// Whether the observer should be paused.
    fn wanted(&self) -> bool {
        self.by.last().map_or(self.before, |(_, paused)| *paused)
    }

    /// Sends the wanted state, if another one was sent last, or if it is unknown whether that was confirmed.
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

    /// Whether no request is left to be sent or confirmed.
    fn is_settled(&mut self, control: &ObservationControl) -> bool {
        match self.settle(control) {
            Ok(_) => self.sent.as_ref().is_none_or(|sent| sent.answered().is_some()),
            Err(error) => is_over(&error),
        }
    }
}

impl Requests {
    fn new(handle: &AnyHandle, control: ObservationControl) -> Self {
        let asked = Mutex::new(PendingControl::new(handle.status().paused));
        Self { name: Arc::clone(handle.name()), control, asked }
    }

    /// The requests to an observer of the suite, for a new scenario.
    fn shared(handle: &AnyHandle, control: ObservationControl) -> Arc<Self> {
        let mut shared = lock(&SHARED);
        let is_this = |requests: &Arc<Self>| Arc::ptr_eq(&requests.name, handle.name());
        let is_used = |requests: &Arc<Self>| {
            Arc::strong_count(requests) > 1 || !lock(&requests.asked).is_settled(&requests.control)
        };
        shared.retain(|requests| is_this(requests) || is_used(requests));
        if let Some(requests) = shared.iter().find(|requests| is_this(requests)) {
            let mut asked = lock(&requests.asked);
            // Without a request of a scenario, the state of the observer is that of the suite.
            if asked.by.is_empty() && asked.is_settled(&requests.control) {
                *asked = PendingControl::new(handle.status().paused);
            }
            return Arc::clone(requests);
        }
        let requests = Arc::new(Self::new(handle, control));
        shared.push(Arc::clone(&requests));
        requests
    }
}

impl ScenarioControl {
    /// The control of an observer of the scenario.
    pub(crate) fn own(handle: &AnyHandle, control: ObservationControl, scenario: &Arc<AtomicBool>) -> Self {
        Self { requests: Arc::new(Requests::new(handle, control)), scenario: Arc::clone(scenario) }
    }

    /// The control of an observer of the suite.
    pub(crate) fn shared(
        handle: &AnyHandle,
        control: ObservationControl,
        scenario: &Arc<AtomicBool>,
    ) -> Self {
        Self { requests: Requests::shared(handle, control), scenario: Arc::clone(scenario) }
    }

    /// See [`ObservationControl::pause`].
    ///
    /// # Errors
    ///
    /// [`ControlError`].
    pub async fn pause(&self) -> Result<(), ControlError> {
        self.request(true).await
    }

    /// See [`ObservationControl::resume`].
    ///
    /// # Errors
    ///
    /// [`ControlError`].
    pub async fn resume(&self) -> Result<(), ControlError> {
        self.request(false).await
    }

    /// See [`ObservationControl::poll_now`].
    ///
    /// # Errors
    ///
    /// [`ControlError`].
    pub async fn poll_now(&self) -> Result<u64, ControlError> {
        self.requests.control.poll_now().await
    }

    /// See [`ObservationControl::poll_now_and_wait`].
    ///
    /// # Errors
    ///
    /// [`PollNowError`].
    pub async fn poll_now_and_wait(&self) -> Result<u64, PollNowError> {
        self.requests.control.poll_now_and_wait().await
    }

    /// See [`ObservationControl::stop`]. An observer of the suite is stopped for all scenarios.
    pub async fn stop(&self) -> StopOutcome {
        self.requests.control.stop().await
    }

    async fn request(&self, paused: bool) -> Result<(), ControlError> {
        let sent = self.send(paused)?;
        sent.answer().await
    }

    /// Sends and records a request under one lock, so that the last recorded request is also the last that was sent.
    fn send(&self, paused: bool) -> Result<Arc<Sent>, ControlError> {
        let mut asked = lock(&self.requests.asked);
        let sent = Arc::new(Sent::new(&self.requests.control, paused)?);
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

    /// Undoes the requests of the scenario. Returns the request that it has sent, if one was needed. The next
    /// scenario that ends or begins sends a refused one again.
    pub(crate) fn undo(&self) -> Result<Option<Arc<Sent>>, ControlError> {
        let mut asked = lock(&self.requests.asked);
        asked.by.retain(|(of, _)| !Arc::ptr_eq(of, &self.scenario));
        asked.settle(&self.requests.control)
    }
}

impl fmt::Debug for ScenarioControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ScenarioControl").field(&self.requests.control).finish()
    }
}

/// Whether the observer has ended, and can be neither paused nor resumed.
pub(crate) fn is_over(error: &ControlError) -> bool {
    matches!(error, ControlError::Stopped { .. } | ControlError::Dead { .. })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code under the locks panics.
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
        lock(&SHARED).iter().any(|requests| Arc::ptr_eq(&requests.name, name))
    }

    /// The observer ended before it could confirm the request of the end of a scenario, or with a full queue of
    /// controls.
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

    /// The driver was not polled after the end of a scenario had sent its request.
    #[tokio::test(start_paused = true)]
    async fn a_request_that_an_observer_did_not_confirm_is_sent_again() {
        let suite = suite().await;
        let scenario = Observers::sharing(&suite);
        let requests = Arc::clone(&scenario.control("s").unwrap().requests);
        suite.control("s").unwrap().pause().await.unwrap();
        let answer = Answer::Is(Err(ControlError::NotDriven { no_turn_for: Duration::from_secs(5) }));
        let sent = Sent { paused: false, answer: tokio::sync::Mutex::new(answer) };
        lock(&requests.asked).sent = Some(Arc::new(sent));
        drop(scenario);

        let mut next = Observers::sharing(&suite);
        next.control("s").unwrap().pause().await.unwrap();
        next.finish().await.unwrap();
        assert!(!suite.status("s").unwrap().paused);
        suite.stop_all().await;
    }
}
