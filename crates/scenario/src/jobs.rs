//! The tasks of a run.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;
use watchkeeper::DynError;

use crate::failure::{Problem, Subject};
use crate::panics::{caught, message};
use crate::{Application, Expectation, ObservationExtensionFactory, RunContext, Workload};

/// How long an aborted task may take to be gone. It takes that long only if it blocks its thread.
const ABORT_GRACE: Duration = Duration::from_secs(1);

/// A part of a scenario, moved into a task while it works.
pub(crate) enum Part<A: Application> {
    Factory(Box<dyn ObservationExtensionFactory<A>>),
    Workload(Box<dyn Workload<A>>),
    Expectation(Box<dyn Expectation<A>>),
}

/// What a part is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Build what needs nodes, or get ready.
    Init,
    /// Begin to look, or to work.
    Start,
    Check,
    Evaluate,
}

impl<A: Application> Part<A> {
    fn subject(&self) -> Subject {
        match self {
            Self::Factory(factory) => Subject::Factory(factory.name().to_owned()),
            Self::Workload(workload) => Subject::Workload(workload.name().to_owned()),
            Self::Expectation(expectation) => Subject::Expectation(expectation.name().to_owned()),
        }
    }

    /// Takes a step; what the part has no step for is done.
    async fn step(&mut self, step: Step, context: &RunContext<A>) -> Result<(), DynError> {
        match (self, step) {
            (Self::Factory(factory), Step::Init) => factory.build(context).await,
            (Self::Workload(workload), Step::Init) => workload.init(context).await,
            (Self::Workload(workload), Step::Start) => workload.start(context).await,
            (Self::Expectation(expectation), Step::Init) => expectation.init(context).await,
            (Self::Expectation(expectation), Step::Start) => expectation.start_capture(context).await,
            (Self::Expectation(expectation), Step::Check) => expectation.check_during_capture(context).await,
            (Self::Expectation(expectation), Step::Evaluate) => expectation.evaluate(context).await,
            (Self::Factory(_), Step::Start | Step::Check | Step::Evaluate)
            | (Self::Workload(_), Step::Check | Step::Evaluate) => Ok(()),
        }
    }
}

/// Parts at work. Dropping them aborts their tasks; that needs no tokio context.
pub(crate) struct Jobs<A: Application> {
    tasks: JoinSet<Outcome<A>>,
    running: HashMap<Id, Job>,
}

/// A part and how its step ended: an error, or what a panic said.
type Outcome<A> = (Part<A>, Result<Result<(), DynError>, String>);

struct Job {
    subject: Subject,
    /// Where the part stands among its like.
    place: usize,
    endless: bool,
    began: Instant,
}

/// A part whose work is over.
pub(crate) struct Ended<A: Application> {
    pub(crate) subject: Subject,
    pub(crate) place: usize,
    pub(crate) took: Duration,
    /// The part, unless it was aborted.
    pub(crate) part: Option<Part<A>>,
    pub(crate) problem: Option<Problem>,
    pub(crate) aborted: bool,
}

impl<A: Application> Default for Jobs<A> {
    fn default() -> Self {
        Self { tasks: JoinSet::new(), running: HashMap::new() }
    }
}

impl<A: Application> Jobs<A> {
    /// Lets a part take a step, in a task that owns it meanwhile.
    pub(crate) fn spawn(&mut self, place: usize, mut part: Part<A>, step: Step, context: RunContext<A>) {
        let subject = part.subject();
        let endless = matches!(&part, Part::Workload(workload) if workload.is_endless());
        let span = tracing::debug_span!("part", %subject, ?step);
        let work = async move {
            let outcome = caught(part.step(step, &context)).await;
            (part, outcome)
        };
        let task = self.tasks.spawn(work.instrument(span));
        self.running.insert(task.id(), Job { subject, place, endless, began: Instant::now() });
    }

    /// The next part whose step is over; `None` when none works.
    ///
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Ended<A>> {
        let (id, part, problem, aborted) = match self.tasks.join_next_with_id().await? {
            Ok((id, (part, outcome))) => {
                let problem = match outcome {
                    Ok(outcome) => outcome.err().map(Problem::Error),
                    Err(panic) => Some(Problem::Panicked(panic)),
                };
                (id, Some(part), problem, false)
            }
            // Only a destructor of the app's can panic here.
            Err(error) => {
                let id = error.id();
                let problem = error.try_into_panic().ok().map(|panic| Problem::Panicked(message(panic)));
                let aborted = problem.is_none();
                (id, None, problem, aborted)
            }
        };
        let Job { subject, place, began, .. } = self.running.remove(&id)?;
        Some(Ended { subject, place, took: began.elapsed(), part, problem, aborted })
    }

    /// Who works and ends by itself.
    pub(crate) fn ending(&self) -> Vec<Subject> {
        self.subjects(|job| !job.endless)
    }

    /// Who works.
    pub(crate) fn working(&self) -> Vec<Subject> {
        self.subjects(|_| true)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    fn subjects(&self, of: impl Fn(&Job) -> bool) -> Vec<Subject> {
        let mut jobs: Vec<_> = self.running.values().filter(|job| of(job)).collect();
        jobs.sort_by_key(|job| job.place);
        jobs.into_iter().map(|job| job.subject.clone()).collect()
    }

    /// Aborts all and waits until they are gone. Returns what ended meanwhile, and who blocks its
    /// thread and so cannot be aborted; those are let go.
    pub(crate) async fn abort(&mut self) -> (Vec<Ended<A>>, Vec<Subject>) {
        self.tasks.abort_all();
        let deadline = Instant::now() + ABORT_GRACE;
        let mut ended = Vec::new();
        while let Ok(Some(one)) = timeout_at(deadline, self.next()).await {
            ended.push(one);
        }
        let blocked = self.working();
        self.tasks.detach_all();
        self.running.clear();
        (ended, blocked)
    }
}
