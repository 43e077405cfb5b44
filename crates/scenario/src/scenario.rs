//! A scenario, ready to run.

use std::fmt;
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::failure::Problem;
use crate::guarded::{Guarded, Panics};
use crate::panics::catch;
use crate::part::Part;
use crate::plan::Plan;
use crate::run::Run;
use crate::subject::Subject;
use crate::{Application, Deployer, RunReport, ScenarioFailure};

/// A deployment, what observes it, what is done to it and what has to hold: made by a
/// [`ScenarioBuilder`](crate::ScenarioBuilder), run once.
///
/// | phase | what happens | ends when | if something fails |
/// |---|---|---|---|
/// | deploy | the deployer brings the nodes up | they can be talked to | cleanup |
/// | prepare | factories build, one after the other; then all `init` | all are done | cleanup |
/// | `start_capture` | expectations begin to look | all have begun | cleanup |
/// | workloads | workloads run; each second, and once at the end, expectations are checked | those that end have ended, `run_for` is over, and the last check holds | drain |
/// | cooldown | the nodes settle; checks and endless workloads go on | it is over, and a last check holds | drain |
/// | drain | workloads are cancelled; at the deadline they are aborted; then, if nothing has failed, expectations are checked once more | none works, and that check holds | evaluate |
/// | evaluate | expectations judge, side by side | all have judged | cleanup |
/// | cleanup | observers stop; then extensions are dropped; then the nodes go down | nothing is left | the failure says what is left |
///
/// Each phase has a time-out of its own ([`Limits`](crate::Limits)) and a `tracing` span. A panic in app code is a
/// failure with its message, also in a destructor; what destructors of observers, of their providers and of errors panic
/// with is logged instead. App code that blocks its thread cannot be cancelled: it is left to run, and the failure says
/// so. A deployer is borrowed, and no other thread can take it over:
/// when it blocks its thread, its limit and what cancels the run are looked at when it is back, and a
/// warning is logged meanwhile where there is another thread.
///
/// Checks run beside the workloads and beside each other: a slow one holds up neither a failure, nor a limit, nor the
/// checks of another expectation.
///
/// An observer whose start is cut off, by a time-out or a cancellation, is stopped and awaited like the
/// others before the nodes go down; the report names it.
pub struct Scenario<A: Application> {
    plan: Plan<A>,
}

impl<A: Application> Scenario<A> {
    pub(crate) fn new(plan: Plan<A>) -> Self {
        Self { plan }
    }

    /// Runs the scenario on what `deployer` brings up, and takes everything down again.
    ///
    /// A broken check, a failed workload or a time-out ends the workloads at once; the other
    /// expectations are still judged, so that the report joins all failures. In the end, whatever
    /// happened, the observers are stopped and awaited, and then the nodes go down.
    ///
    /// # Errors
    ///
    /// [`ScenarioFailure`] holds everything that went wrong.
    ///
    /// # Panics
    ///
    /// If the tokio runtime has no timer (`enable_time`).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the run without waiting: tasks are aborted, observers are asked for
    /// their stop, and then the cluster is dropped, which takes the nodes down. That needs no tokio
    /// context. To wait for the end, use [`run_until`](Self::run_until).
    pub async fn run(self, deployer: &(impl Deployer<A> + ?Sized)) -> Result<RunReport, ScenarioFailure> {
        self.run_until(deployer, pending::<()>()).await
    }

    /// As [`run`](Self::run), until `cancel` resolves: then the workloads are drained, nothing is
    /// judged, and everything is taken down as usual. When it resolves while everything is being taken
    /// down, the run has failed too. `cancel` is dropped when the run is over.
    ///
    /// See [`ctrl_c`](crate::ctrl_c) for SIGINT and SIGTERM; a second one ends the process at once. A parent token
    /// cancels a run beside it: see [`ScenarioBuilder::with_parent`](crate::ScenarioBuilder::with_parent).
    ///
    /// # Errors
    ///
    /// [`ScenarioFailure`], also when it was cancelled: with [`Problem::Cancelled`](crate::Problem::Cancelled), and the
    /// report of what was done until then.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    pub async fn run_until<T>(
        mut self,
        deployer: &(impl Deployer<A> + ?Sized),
        cancel: impl Future<Output = T>,
    ) -> Result<RunReport, ScenarioFailure> {
        let mut cancel = Cancel::new(&self.plan.panics, cancel, self.plan.parent.take());
        let mut run = Run::new(self.plan);
        let cancelled = tokio::select! {
            biased;
            problem = cancel.comes() => Some(problem),
            () = run.work(deployer) => None,
        };
        if let Some(problem) = cancelled {
            run.fail(Subject::Run, problem);
        }
        run.drain().await;
        run.end_in_order().await;
        // It may have come meanwhile, or while something blocked this thread.
        if let Some(problem) = cancel.has_come().await {
            run.fail(Subject::Run, problem);
        }
        drop(cancel);
        run.finish()
    }
}

/// What cancels a run: its parent, or a future of the caller, which may panic. That is kept until the run is over, also when
/// it has come: a second Ctrl-C is then seen by it.
struct Cancel<F> {
    parent: Option<Parent>,
    future: Guarded<Pin<Box<F>>>,
    has_come: bool,
}

/// A token, and what wakes the run when it is cancelled.
struct Parent {
    token: CancellationToken,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Parent {
    fn new(token: CancellationToken) -> Self {
        let cancelled = Box::pin(token.clone().cancelled_owned());
        Self { token, cancelled }
    }

    /// The token is looked at in any case: a task without a budget gets no answer of the future.
    fn is_cancelled(&mut self, context: &mut Context<'_>) -> bool {
        self.cancelled.as_mut().poll(context).is_ready() || self.token.is_cancelled()
    }
}

impl<F: Future> Cancel<F> {
    fn new(panics: &Panics, future: F, parent: Option<CancellationToken>) -> Self {
        let future = panics.guard(Subject::Run, Box::pin(future));
        Self { parent: parent.map(Parent::new), future, has_come: false }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Problem> {
        if self.has_come {
            return Poll::Pending;
        }
        if self.parent.as_mut().is_some_and(|parent| parent.is_cancelled(context)) {
            self.has_come = true;
            return Poll::Ready(Problem::Cancelled);
        }
        let problem = match catch(|| self.future.as_mut().poll(context).map(drop)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => Problem::Cancelled,
            Err(panic) => Problem::Panicked(panic),
        };
        self.has_come = true;
        Poll::Ready(problem)
    }

    /// When it comes, and how. Cancel safe.
    async fn comes(&mut self) -> Problem {
        poll_fn(|context| self.poll(context)).await
    }

    /// Whether it has come since it was last asked.
    async fn has_come(&mut self) -> Option<Problem> {
        poll_fn(|context| match self.poll(context) {
            Poll::Ready(problem) => Poll::Ready(Some(problem)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }
}

impl<A: Application> fmt::Debug for Scenario<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { name, deployment, workloads, expectations, .. } = &self.plan;
        f.debug_struct("Scenario")
            .field("name", name)
            .field("deployment", &deployment.as_deref().map(|deployment| &**deployment))
            .field("workloads", &workloads.iter().map(Part::name).collect::<Vec<_>>())
            .field("expectations", &expectations.iter().map(Part::name).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
