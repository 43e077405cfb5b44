//! The control of an observer, and who has paused it: scenarios may share one.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use watchkeeper::{AnyHandle, ControlError, ObservationControl, StopOutcome};

/// Pauses, resumes, hurries and stops an observer for a scenario; cloneable.
///
/// As [`ObservationControl`], but what a scenario pauses or resumes by it of the suite's observers is undone at the
/// scenario's end: the observer is then again what another scenario has asked for that still runs, or else what it was
/// before. What is asked by a control that has outlived its scenario stays.
#[derive(Clone)]
pub struct ScenarioControl {
    control: ObservationControl,
    /// Shared by all scenarios that have the observer.
    wishes: Arc<Wishes>,
    /// Whether the scenario is over; its address says which one it is.
    scenario: Arc<AtomicBool>,
}

/// What scenarios have asked for of one observer.
struct Wishes {
    /// The observer's name: its address says which one it is, for as long as it is kept here.
    name: Arc<str>,
    asked: Mutex<Asked>,
}

struct Asked {
    /// Whether it was paused before the scenarios.
    before: bool,
    /// The last wish of each scenario that has one, whether to be paused, in the order in which they were sent.
    by: Vec<(Arc<AtomicBool>, bool)>,
    /// What the end of a scenario has sent last, until it is known to be taken.
    sent: Option<bool>,
}

/// Of the observers that scenarios share, and of those whose last scenario has sent what is not taken yet.
static SHARED: Mutex<Vec<Arc<Wishes>>> = Mutex::new(Vec::new());

impl Asked {
    /// A scenario comes. Where none has a wish, the observer is as the suite has it.
    fn begin(&mut self, is_paused: bool) {
        if self.by.is_empty() && self.sent.is_none_or(|sent| sent == is_paused) {
            self.sent = None;
            self.before = is_paused;
        }
    }

    fn now(&self) -> bool {
        self.by.last().map_or(self.before, |(_, paused)| *paused)
    }
}

impl Wishes {
    fn new(handle: &AnyHandle) -> Self {
        let asked = Asked { before: handle.status().paused, by: Vec::new(), sent: None };
        Self { name: Arc::clone(handle.name()), asked: Mutex::new(asked) }
    }

    /// Those of an observer of the suite.
    fn shared(handle: &AnyHandle) -> Arc<Self> {
        let mut shared = lock(&SHARED);
        let is_this = |wishes: &Arc<Self>| Arc::ptr_eq(&wishes.name, handle.name());
        let is_used =
            |wishes: &Arc<Self>| Arc::strong_count(wishes) > 1 || lock(&wishes.asked).sent.is_some();
        shared.retain(|wishes| is_this(wishes) || is_used(wishes));
        if let Some(wishes) = shared.iter().find(|wishes| is_this(wishes)) {
            lock(&wishes.asked).begin(handle.status().paused);
            return Arc::clone(wishes);
        }
        let wishes = Arc::new(Self::new(handle));
        shared.push(Arc::clone(&wishes));
        wishes
    }
}

impl ScenarioControl {
    /// Of an observer of the scenario's own.
    pub(crate) fn own(handle: &AnyHandle, control: ObservationControl, scenario: &Arc<AtomicBool>) -> Self {
        Self { control, wishes: Arc::new(Wishes::new(handle)), scenario: Arc::clone(scenario) }
    }

    /// Of an observer of the suite.
    pub(crate) fn shared(
        handle: &AnyHandle,
        control: ObservationControl,
        scenario: &Arc<AtomicBool>,
    ) -> Self {
        Self { control, wishes: Wishes::shared(handle), scenario: Arc::clone(scenario) }
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
        self.control.poll_now().await
    }

    /// See [`ObservationControl::stop`]. An observer of the suite is stopped for all.
    pub async fn stop(&self) -> StopOutcome {
        self.control.stop().await
    }

    async fn wish(&self, paused: bool) -> Result<(), ControlError> {
        self.ask(|asked| {
            if self.scenario.load(Ordering::Relaxed) {
                asked.before = paused;
            } else {
                asked.by.retain(|(of, _)| !Arc::ptr_eq(of, &self.scenario));
                asked.by.push((Arc::clone(&self.scenario), paused));
            }
            Some(paused)
        })
        .await
    }

    /// Undoes what the scenario has asked for. Sent when it is first polled.
    pub(crate) async fn undo(&self) -> Result<(), ControlError> {
        let mut sent = None;
        let taken = self.ask(|asked| {
            let before = asked.now();
            asked.by.retain(|(of, _)| !Arc::ptr_eq(of, &self.scenario));
            let now = asked.now();
            sent = (before != now).then_some(now);
            asked.sent = sent.or(asked.sent);
            sent
        });
        taken.await?;
        if sent.is_some() {
            lock(&self.wishes.asked).sent = None;
        }
        Ok(())
    }

    /// Asks the observer to be what `decide` says. That is noted and sent under one lock, so that the last wish that
    /// was noted is also the last that was sent.
    async fn ask(&self, decide: impl FnOnce(&mut Asked) -> Option<bool> + Send) -> Result<(), ControlError> {
        type Asking<'a> = Pin<Box<dyn Future<Output = Result<(), ControlError>> + Send + 'a>>;
        let mut decide = Some(decide);
        let mut asking: Option<Asking<'_>> = None;
        poll_fn(|context| {
            if let Some(decide) = decide.take() {
                let mut asked = lock(&self.wishes.asked);
                let Some(paused) = decide(&mut asked) else { return Poll::Ready(Ok(())) };
                let mut sent: Asking<'_> =
                    if paused { Box::pin(self.control.pause()) } else { Box::pin(self.control.resume()) };
                let polled = sent.as_mut().poll(context);
                asking = Some(sent);
                return polled;
            }
            match &mut asking {
                Some(asking) => asking.as_mut().poll(context),
                None => Poll::Ready(Ok(())),
            }
        })
        .await
    }
}

impl fmt::Debug for ScenarioControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ScenarioControl").field(&self.control).finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that panics runs under the locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
