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
use super::verdict::Verdict;
use super::wait::Wait;
use crate::handle::ObservationHandle;
use crate::observer::Observer;
use crate::panics::{discard_logged, poll_caught};

impl<O: Observer> ObservationHandle<O> {
    /// Watches beside a test that every fresh snapshot satisfies `predicate`, until it is collected with
    /// [`Invariant::finish`].
    ///
    /// The first violation is pinned with its report. What is asked after this call counts, and nothing is judged
    /// before each source was asked: as for [`always`](Self::always). It runs as a task on the runtime's own executor,
    /// and ends by itself when the runtime stops.
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
    pub fn invariant<F, R>(&self, label: impl Into<String>, predicate: F) -> Invariant
    where
        F: FnMut(&O::Snapshot) -> R + Send + 'static,
        R: Into<Verdict>,
        O::Snapshot: fmt::Debug,
    {
        self.always(label, predicate).showing_debug().watch()
    }

    /// Like [`invariant`](Self::invariant), for snapshots that are to be shown by `show`.
    pub fn invariant_shown<F, R, V>(&self, label: impl Into<String>, predicate: F, show: V) -> Invariant
    where
        F: FnMut(&O::Snapshot) -> R + Send + 'static,
        R: Into<Verdict>,
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
    let held = match ended {
        Ok(Ok(snapshot)) => {
            discard_logged(snapshot, "the last snapshot of an invariant");
            Ok(Held { judged: wait.judged() })
        }
        Ok(Err(unmet)) => Err(unmet),
        Err(panic) => Err(wait.panicked(&panic)),
    };
    if let Err(unmet) = &held {
        let broken = UnmetOutcome::Inconclusive(Inconclusive::Panicked);
        if [UnmetOutcome::Violated, UnmetOutcome::GaveUp, broken].contains(&unmet.outcome()) {
            tell.send_replace(Some(unmet.clone()));
        }
    }
    // What a destructor of the app's does changes nothing about what was seen.
    wait.let_go();
    held
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
#[derive(Debug)]
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

    /// The first violation, if there was one by now; also that the predicate has given up or panicked.
    #[must_use]
    pub fn violation(&self) -> Option<Unmet> {
        self.violation.borrow().clone()
    }

    /// Waits for the first violation, or for the predicate to give up or to panic; for ever, if there is none.
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
    /// [`Unmet`]: it was violated, or the predicate gave up; or nothing was judged, publications were missed or the
    /// predicate has panicked, which proves nothing.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the watching all the same; what was found is then lost.
    pub async fn finish(mut self) -> Result<Held, Unmet> {
        self.closing.cancel();
        let Some(task) = self.task.take() else { unreachable!("only this takes the task") };
        task.await.unwrap_or_else(|ended| {
            // The executor has shut down, unless what ended the task was a panic.
            let stopped = Inconclusive::Stopped { reason: StopReason::Shutdown };
            let why = if ended.is_panic() { Inconclusive::Panicked } else { stopped };
            Err(Unmet::bare(&self.label, UnmetOutcome::Inconclusive(why), None))
        })
    }
}

impl Drop for Invariant {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
