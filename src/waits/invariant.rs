//! Conditions that are watched beside a test.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use watchkeeper_fsm::StopReason;

use super::Snapshot;
use super::builder::{ByShow, Holds, WaitBuilder};
use super::report::{Inconclusive, Unmet, UnmetOutcome};
use super::show::Show;
use super::wait::Wait;
use crate::handle::ObservationHandle;
use crate::observer::Observer;
use crate::panics::poll_caught;
use crate::text::{LABEL, quoted};

impl<O: Observer> ObservationHandle<O> {
    /// Watches beside a test that every fresh snapshot satisfies `predicate`, until it is collected with
    /// [`Invariant::finish`].
    ///
    /// The first violation is pinned with its report. Only cycles count that begin after this call. It runs
    /// as a task on the runtime's own executor, and ends by itself when the runtime stops.
    ///
    /// # Examples
    ///
    /// ```
    /// # use watchkeeper::{ObservationHandle, Observer, Unmet};
    /// # async fn the_test_itself() {}
    /// # async fn example<O: Observer<Snapshot = Vec<u64>>>(handle: ObservationHandle<O>) -> Result<(), Unmet> {
    /// let ascending = handle.invariant("heights only ascend", |heights| heights.is_sorted());
    /// the_test_itself().await;
    /// ascending.finish().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn invariant<F>(&self, label: impl Into<String>, predicate: F) -> Invariant
    where
        F: FnMut(&O::Snapshot) -> bool + Send + 'static,
        O::Snapshot: fmt::Debug,
    {
        self.always(label, predicate).showing_debug().watch()
    }

    /// Like [`invariant`](Self::invariant), for snapshots that are to be shown by `show`.
    pub fn invariant_shown<F, V>(&self, label: impl Into<String>, predicate: F, show: V) -> Invariant
    where
        F: FnMut(&O::Snapshot) -> bool + Send + 'static,
        V: Fn(&O::Snapshot) -> String + Send + 'static,
    {
        self.always(label, predicate).show(show).watch()
    }
}

impl<O: Observer> WaitBuilder<'static, O, Snapshot<O>, Holds> {
    fn showing_debug(self) -> WaitBuilder<'static, O, Snapshot<O>, Holds, ByShow<'static, O>>
    where
        O::Snapshot: fmt::Debug,
    {
        self.showing(Show::debug())
    }
}

impl<O: Observer> WaitBuilder<'static, O, Snapshot<O>, Holds, ByShow<'static, O>> {
    /// Watches it in a task of its own, until it is collected.
    pub(crate) fn watch(self) -> Invariant {
        let wait = self.unbounded();
        let label = Arc::from(wait.label());
        let executor = wait.executor();
        let closing = CancellationToken::new();
        let (tell, violation) = watch::channel(None);
        let task = executor.spawn(run(wait, closing.clone(), tell));
        Invariant { label, closing, violation, task: Some(task) }
    }
}

async fn run<O: Observer>(
    mut wait: Wait<'static, O, Snapshot<O>>,
    closing: CancellationToken,
    tell: watch::Sender<Option<Unmet>>,
) -> Result<Held, Unmet> {
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
    let unmet = match ended {
        Ok(Ok(_)) => return Ok(Held { judged: wait.judged() }),
        Ok(Err(unmet)) => unmet,
        Err(panic) => wait.panicked(&panic),
    };
    let broken = UnmetOutcome::Inconclusive(Inconclusive::Panicked);
    if unmet.outcome() == UnmetOutcome::Violated || unmet.outcome() == broken {
        tell.send_replace(Some(unmet.clone()));
    }
    Err(unmet)
}

/// An invariant that held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Held {
    /// How many snapshots were judged.
    pub judged: u64,
}

/// A condition that is watched beside a test: see [`ObservationHandle::invariant`].
///
/// Dropping it ends the watching and tells nobody.
#[must_use = "an invariant that is not collected proves nothing: call `finish`"]
pub struct Invariant {
    label: Arc<str>,
    closing: CancellationToken,
    violation: watch::Receiver<Option<Unmet>>,
    task: Option<JoinHandle<Result<Held, Unmet>>>,
}

impl Invariant {
    /// What is to hold.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The first violation, if there was one by now; also that the predicate has panicked.
    #[must_use]
    pub fn violation(&self) -> Option<Unmet> {
        self.violation.borrow().clone()
    }

    /// Waits for the first violation, or for the predicate to panic; for ever, if there is none.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn violated(&self) -> Unmet {
        let mut violation = self.violation.clone();
        let found = violation.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
        match found {
            Some(unmet) => unmet,
            None => std::future::pending().await,
        }
    }

    /// Ends the watching, everything published so far having been judged.
    ///
    /// # Errors
    ///
    /// [`Unmet`]: it was violated; or nothing was judged, publications were missed or the predicate has
    /// panicked, which proves nothing.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the watching all the same; what was found is then lost.
    pub async fn finish(mut self) -> Result<Held, Unmet> {
        self.closing.cancel();
        let Some(task) = self.task.take() else { unreachable!("only this takes the task") };
        task.await.unwrap_or_else(|_| {
            // The executor has shut down.
            let stopped = Inconclusive::Stopped { reason: StopReason::Shutdown };
            Err(Unmet::bare(&self.label, UnmetOutcome::Inconclusive(stopped), None))
        })
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
