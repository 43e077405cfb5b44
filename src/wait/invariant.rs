//! Invariants: conditions that are watched beside a test.

use std::fmt;
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use watchkeeper_fsm::StopReason;

use super::Snapshot;
use super::builder::{ByShow, Throughout, WaitBuilder};
use super::outcome::{Inconclusive, UnmetOutcome};
use super::pending::Wait;
use super::report::Unmet;
use super::show::Show;
use super::verdict::Verdict;
use crate::handle::ObservationHandle;
use crate::observer::Observer;
use crate::panics::{discard_logged, poll_caught};
use crate::pulse::Pulse;
use crate::shield::shielded;
use crate::text::{LABEL, quoted};

impl<O: Observer> ObservationHandle<O> {
    /// Watches beside a test that every fresh snapshot satisfies `predicate`, until [`Invariant::finish`].
    ///
    /// The first violation is kept with its report. Data asked for after this call counts, and nothing is judged
    /// before each source was asked, as for [`always`](Self::always). The invariant runs as a task on the runtime's
    /// own executor, and ends when the runtime stops. `examples/invariant.rs` shows one that holds and one that does not.
    ///
    /// # Examples
    ///
    /// ```
    /// # use watchkeeper::{ObservationHandle, Observer};
    /// # use watchkeeper::wait::Unmet;
    /// # async fn the_test_itself() {}
    /// # async fn example<O: Observer<Snapshot = Vec<u64>>>(handle: ObservationHandle<O>) -> Result<(), Unmet> {
    /// let ascending = handle.invariant("heights only ascend", |heights| heights.is_sorted());
    /// the_test_itself().await;
    /// ascending.finish().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn invariant<F, R>(&self, label: impl Into<String>, predicate: F) -> Invariant
    where
        F: FnMut(&O::Snapshot) -> R + Send + 'static,
        R: Into<Verdict>,
        O::Snapshot: fmt::Debug,
    {
        self.always(label, predicate).showing_debug().watch()
    }

    /// Like [`invariant`](Self::invariant), with snapshots shown by `show`.
    pub fn invariant_shown<F, R, V>(&self, label: impl Into<String>, predicate: F, show: V) -> Invariant
    where
        F: FnMut(&O::Snapshot) -> R + Send + 'static,
        R: Into<Verdict>,
        V: Fn(&O::Snapshot) -> String + Send + 'static,
    {
        self.always(label, predicate).show(show).watch()
    }
}

impl<O: Observer> WaitBuilder<'static, O, Snapshot<O>, Throughout> {
    fn showing_debug(self) -> WaitBuilder<'static, O, Snapshot<O>, Throughout, ByShow<'static, O>>
    where
        O::Snapshot: fmt::Debug,
    {
        self.showing(Show::debug())
    }
}

impl<O: Observer> WaitBuilder<'static, O, Snapshot<O>, Throughout, ByShow<'static, O>> {
    /// Spawns a task that watches the condition.
    pub(crate) fn watch(self) -> Invariant {
        let wait = self.unbounded();
        let label = Arc::from(wait.label());
        let clock = wait.clock();
        let closing = CancellationToken::new();
        let (report, violation) = watch::channel(None);
        let pulse = Arc::clone(clock.pulse());
        let task = clock.executor().clone().spawn(run(wait, closing.clone(), report));
        Invariant { label, pulse, closing, violation, task: Some(task) }
    }
}

async fn run<O: Observer>(
    mut wait: Wait<'static, O, Snapshot<O>>,
    closing: CancellationToken,
    report: watch::Sender<Option<Unmet>>,
) -> Result<InvariantReport, Unmet> {
    let mut closed = std::pin::pin!(closing.cancelled());
    let mut open = true;
    let ended = poll_fn(|context| {
        if open && closed.as_mut().poll(context).is_ready() {
            open = false;
            wait.close();
        }
        poll_caught(Pin::new(&mut wait), context)
    })
    .await;
    let held = match ended {
        Ok(Ok(snapshot)) => {
            discard_logged(snapshot, "the last snapshot of an invariant");
            Ok(InvariantReport { judged: wait.judged(), note: wait.stalls() })
        }
        Ok(Err(unmet)) => Err(unmet),
        Err(panic) => Err(wait.panicked(&panic)),
    };
    if let Err(unmet) = &held {
        let broken = UnmetOutcome::Inconclusive(Inconclusive::Panicked);
        if [UnmetOutcome::Violated, UnmetOutcome::GaveUp, broken].contains(&unmet.outcome()) {
            report.send_replace(Some(unmet.clone()));
        }
    }
    // A panic in an app's destructor does not change the outcome.
    wait.let_go();
    held
}

/// An invariant that held.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvariantReport {
    /// How many snapshots were judged.
    pub judged: u64,
    /// If the executor gave no turn for a while: how long, and why. Nothing was judged meanwhile. One line, escaped.
    pub note: Option<String>,
}

/// A condition that is watched beside a test: see [`ObservationHandle::invariant`].
///
/// Dropping it ends the watching and discards a violation.
#[must_use = "an invariant that is not collected proves nothing: call `finish`"]
pub struct Invariant {
    label: Arc<str>,
    pulse: Arc<Pulse>,
    closing: CancellationToken,
    violation: watch::Receiver<Option<Unmet>>,
    task: Option<JoinHandle<Result<InvariantReport, Unmet>>>,
}

impl Invariant {
    /// The label of the condition.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The first violation so far, or the report if the predicate gave up or panicked.
    #[must_use]
    pub fn violation(&self) -> Option<Unmet> {
        self.violation.borrow().clone()
    }

    /// Waits until the condition is violated, or the predicate gives up or panics; without any of these, for ever.
    ///
    /// Returns [`Inconclusive::NotDriven`] if the runtime's executor, which runs the invariant, gives no turn for
    /// about 5 s.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn violated(&self) -> Unmet {
        let mut violation = self.violation.clone();
        let found = async {
            match violation.wait_for(Option::is_some).await.ok().and_then(|found| found.clone()) {
                Some(unmet) => unmet,
                None => pending().await,
            }
        };
        shielded(async {
            tokio::select! {
                biased;
                unmet = found => unmet,
                no_turn_for = self.pulse.no_turn(None, false) => self.not_driven(no_turn_for),
            }
        })
        .await
    }

    /// Ends the watching after everything published so far was judged.
    ///
    /// # Errors
    ///
    /// [`Unmet`] if the condition was violated or the predicate gave up. It is inconclusive if nothing was judged,
    /// publications were missed, the predicate panicked, or the runtime's executor gives no turn for about 5 s.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the watching and loses the result.
    pub async fn finish(mut self) -> Result<InvariantReport, Unmet> {
        self.closing.cancel();
        let Some(task) = &mut self.task else { unreachable!("only `finish` takes the task") };
        let pulse = &self.pulse;
        let ended = shielded(async {
            tokio::select! {
                biased;
                ended = task => Ok(ended),
                no_turn_for = pulse.no_turn(None, false) => Err(no_turn_for),
            }
        });
        let ended = match ended.await {
            Ok(ended) => ended,
            Err(no_turn_for) => return Err(self.violation().unwrap_or_else(|| self.not_driven(no_turn_for))),
        };
        self.task = None;
        ended.unwrap_or_else(|ended| {
            // If the task did not panic, the executor has shut down.
            let stopped = Inconclusive::Stopped { reason: StopReason::Shutdown };
            let why = if ended.is_panic() { Inconclusive::Panicked } else { stopped };
            Err(Unmet::bare(&self.label, UnmetOutcome::Inconclusive(why), None))
        })
    }

    fn not_driven(&self, no_turn_for: Duration) -> Unmet {
        let outcome = UnmetOutcome::Inconclusive(Inconclusive::NotDriven { no_turn_for });
        let note = "it is watched by a task of that executor, which could not say what it has seen";
        Unmet::bare(&self.label, outcome, Some(note.to_owned()))
    }
}

impl fmt::Debug for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invariant")
            .field("label", &format_args!("{}", quoted(&self.label, LABEL)))
            .field("violated", &self.violation.borrow().is_some())
            .finish_non_exhaustive()
    }
}

impl Drop for Invariant {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
