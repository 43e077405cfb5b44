//! Closures as expectations and workloads.

use std::any::Any;
use std::future::poll_fn;
use std::panic::resume_unwind;
use std::task::Poll;

use tokio_util::task::AbortOnDropHandle;
use watchkeeper::wait::InvariantReport;
use watchkeeper::{DynError, async_trait};

use crate::guarded::caught;
use crate::subject::Subject;
use crate::{Application, Expectation, RunContext, Workload};

/// A wait that begins when it is evaluated.
pub(crate) struct AtTheEnd<F> {
    pub(crate) name: String,
    /// Taken when it is used.
    pub(crate) wait: Option<F>,
}

#[async_trait]
impl<A, F, W, T> Expectation<A> for AtTheEnd<F>
where
    A: Application,
    F: FnOnce(RunContext<A>) -> W + Send + 'static,
    W: Future<Output = Result<T, DynError>> + Send,
    T: 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    async fn evaluate(&mut self, context: &RunContext<A>) -> Result<(), DynError> {
        let Some(wait) = self.wait.take() else { return Ok(()) };
        let waiting = wait(context.clone());
        context.has_judged(judged(&waiting.await?));
        Ok(())
    }
}

/// How many snapshots a wait has judged, if its value is an [`InvariantReport`].
fn judged<T: 'static>(met: &T) -> Option<u64> {
    let met: &dyn Any = met;
    met.downcast_ref::<InvariantReport>().map(|held| held.judged)
}

/// A wait that begins before the workloads and is judged after them.
pub(crate) struct Throughout<F> {
    pub(crate) name: String,
    pub(crate) wait: Begun<F>,
}

pub(crate) enum Begun<F> {
    NotYet(F),
    /// The run awaits this task before the nodes go down.
    Waiting(AbortOnDropHandle<Waited>),
    Over,
}

/// The end of the wait: how many snapshots it has judged, an error, or the message of a panic.
type Waited = Result<Result<Option<u64>, DynError>, String>;

impl<F> Throughout<F> {
    /// Returns a failure of the wait. A wait that was met is not asked again.
    async fn outcome<A: Application>(&mut self, context: &RunContext<A>) -> Result<(), DynError> {
        let Begun::Waiting(task) = &mut self.wait else { return Ok(()) };
        let ended = task.await;
        self.wait = Begun::Over;
        own(ended?, context)
    }
}

/// Resumes a panic of the wait in the expectation.
fn own<A: Application>(ended: Waited, context: &RunContext<A>) -> Result<(), DynError> {
    context.has_judged(ended.unwrap_or_else(|panic| resume_unwind(Box::new(panic)))?);
    Ok(())
}

#[async_trait]
impl<A, F, W, T> Expectation<A> for Throughout<F>
where
    A: Application,
    F: FnOnce(RunContext<A>) -> W + Send + 'static,
    W: Future<Output = Result<T, DynError>> + Send + 'static,
    T: 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    async fn start_capture(&mut self, context: &RunContext<A>) -> Result<(), DynError> {
        let Begun::NotYet(wait) = std::mem::replace(&mut self.wait, Begun::Over) else { return Ok(()) };
        let waiting = wait(context.clone());
        let waiting = Box::pin(async move { waiting.await.map(|met| judged(&met)) });
        let waiting = context.panics().guard(Subject::Expectation(self.name.clone()), waiting);
        let mut waiting = Box::pin(caught(waiting));
        // The first poll is here, so that a wait made in an async block has begun before the workloads start. The
        // others are in a task, so that the wait keeps up with what is published.
        let first = poll_fn(|task| Poll::Ready(waiting.as_mut().poll(task))).await;
        match first {
            Poll::Ready(ended) => own(ended, context),
            Poll::Pending => {
                // Dropped in this order, also if the task never runs.
                let whole = (waiting, context.waits().begin(&self.name, None));
                let task = tokio::spawn(async move {
                    let (waiting, ticket) = whole;
                    let _ticket = ticket;
                    waiting.await
                });
                self.wait = Begun::Waiting(AbortOnDropHandle::new(task));
                Ok(())
            }
        }
    }

    /// Ends the workloads if the wait has failed. The wait itself observes; this checks nothing else.
    async fn check_during_capture(&mut self, context: &RunContext<A>) -> Result<(), DynError> {
        context.checks_nothing();
        match &self.wait {
            Begun::Waiting(task) if task.is_finished() => self.outcome(context).await,
            _ => Ok(()),
        }
    }

    async fn evaluate(&mut self, context: &RunContext<A>) -> Result<(), DynError> {
        self.outcome(context).await
    }
}

/// A workload made of a closure.
pub(crate) struct Closure<F> {
    pub(crate) name: String,
    pub(crate) endless: bool,
    /// Taken when it is started.
    pub(crate) work: Option<F>,
}

#[async_trait]
impl<A, F, W> Workload<A> for Closure<F>
where
    A: Application,
    F: FnOnce(RunContext<A>) -> W + Send + 'static,
    W: Future<Output = Result<(), DynError>> + Send,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn is_endless(&self) -> bool {
        self.endless
    }

    async fn start(&mut self, context: &RunContext<A>) -> Result<(), DynError> {
        let Some(work) = self.work.take() else { return Ok(()) };
        let working = work(context.clone());
        working.await
    }
}
