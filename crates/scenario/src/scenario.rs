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

/// A deployment with its observers, workloads and expectations: built by a
/// [`ScenarioBuilder`](crate::ScenarioBuilder), run once.
///
/// | phase | what happens | ends when | if something fails |
/// |---|---|---|---|
/// | deploy | the deployer brings the nodes up | they can be reached | cleanup |
/// | prepare | factories build, one after the other; then all `init` | all are done | cleanup |
/// | `start_capture` | expectations begin to observe | all have begun | cleanup |
/// | workloads | workloads run; each second, and once at the end, expectations are checked | all but the endless ones have ended, `run_for` is over, and the last check holds | drain |
/// | cooldown | the nodes settle; checks and endless workloads continue | it is over, and a last check holds | drain |
/// | drain | workloads are cancelled; at the deadline they are aborted; then, if nothing has failed, expectations are checked once more | none runs, and that check holds | evaluate |
/// | evaluate | expectations judge, concurrently | all have judged | cleanup |
/// | cleanup | observers stop; then extensions are dropped; then the nodes go down | nothing is left | the failure names what is left |
///
/// Each phase has its own time-out ([`Limits`](crate::Limits)) and a `tracing` span. A panic in app code is a
/// failure with its message, also in a destructor; panics in destructors of observers, of their providers and of errors
/// are logged instead. App code that blocks its thread cannot be cancelled: it is left running, and a failure reports
/// it. A deployer is borrowed, so no other thread can run it: when it blocks its thread, its limit and a cancellation
/// are noticed after it has returned. A warning is logged meanwhile if the runtime has another thread.
///
/// Checks run concurrently with the workloads and with each other: a slow check delays neither a failure, nor a limit,
/// nor the checks of another expectation.
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
    /// expectations are still judged, so that the report joins all failures. At the end the observers are always
    /// stopped and awaited, and then the nodes go down.
    ///
    /// # Errors
    ///
    /// [`ScenarioFailure`] holds all failures.
    ///
    /// # Panics
    ///
    /// If the tokio runtime has no timer (`enable_time`).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the run without waiting: tasks are aborted, observers are requested to
    /// stop, and then the cluster is dropped, which takes the nodes down. That needs no tokio
    /// context. To await the end, use [`run_until`](Self::run_until).
    pub async fn run(self, deployer: &(impl Deployer<A> + ?Sized)) -> Result<RunReport, ScenarioFailure> {
        self.run_until(deployer, pending::<()>()).await
    }

    /// As [`run`](Self::run), until `cancel` resolves: then the workloads are drained, nothing is
    /// judged, and everything is taken down as usual. If it resolves while everything is being taken
    /// down, the run has failed too. `cancel` is dropped when the run is over.
    ///
    /// See [`ctrl_c`](crate::ctrl_c) for SIGINT and SIGTERM; a second signal ends the process at once. A parent token
    /// can cancel the run as well: see [`ScenarioBuilder::with_parent`](crate::ScenarioBuilder::with_parent).
    ///
    /// # Errors
    ///
    /// [`ScenarioFailure`]. A cancelled run fails with [`Problem::Cancelled`](crate::Problem::Cancelled), and the report
    /// of what was done until then.
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
            problem = cancel.cancelled() => Some(problem),
            () = run.work(deployer) => None,
        };
        if let Some(problem) = cancelled {
            run.fail(Subject::Run, problem);
        }
        run.drain().await;
        run.end_in_order().await;
        // A cancellation may have come meanwhile, or while something blocked this thread.
        if let Some(problem) = cancel.pending_problem().await {
            run.fail(Subject::Run, problem);
        }
        drop(cancel);
        run.finish()
    }
}

/// What cancels a run: its parent, or a future of the caller, which may panic. The future is kept until the run is
/// over, also after it has resolved, so that it sees a second Ctrl-C.
struct Cancel<F> {
    parent: Option<Parent>,
    future: Guarded<Pin<Box<F>>>,
    is_over: bool,
}

/// A token, and the future that wakes the run when the token is cancelled.
struct Parent {
    token: CancellationToken,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Parent {
    fn new(token: CancellationToken) -> Self {
        let cancelled = Box::pin(token.clone().cancelled_owned());
        Self { token, cancelled }
    }

    /// The token is also read directly: in a task that has used up its budget the future stays pending.
    fn is_cancelled(&mut self, context: &mut Context<'_>) -> bool {
        self.cancelled.as_mut().poll(context).is_ready() || self.token.is_cancelled()
    }
}

impl<F: Future> Cancel<F> {
    fn new(panics: &Panics, future: F, parent: Option<CancellationToken>) -> Self {
        let future = panics.guard(Subject::Run, Box::pin(future));
        Self { parent: parent.map(Parent::new), future, is_over: false }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Problem> {
        if self.is_over {
            return Poll::Pending;
        }
        if self.parent.as_mut().is_some_and(|parent| parent.is_cancelled(context)) {
            self.is_over = true;
            return Poll::Ready(Problem::Cancelled);
        }
        let problem = match catch(|| self.future.as_mut().poll(context).map(drop)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => Problem::Cancelled,
            Err(panic) => Problem::Panicked(panic),
        };
        self.is_over = true;
        Poll::Ready(problem)
    }

    /// Waits for the cancellation. Cancel-safe.
    async fn cancelled(&mut self) -> Problem {
        poll_fn(|context| self.poll(context)).await
    }

    /// The cancellation, if there was one since the last call.
    async fn pending_problem(&mut self) -> Option<Problem> {
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
