//! The tasks of a run.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::Instant;
use tracing::Instrument;

use crate::context::StepNotes;
use crate::failure::Problem;
use crate::guarded::{Guarded, Panics};
use crate::panics::message;
use crate::part::{Part, Step};
use crate::subject::Subject;
use crate::{Application, RunContext};

/// Parts whose steps are running. Dropping this aborts their tasks; that needs no tokio context.
pub(crate) struct Jobs<A: Application> {
    tasks: JoinSet<JobEnd<A>>,
    /// Without the abandoned ones.
    running: HashMap<Id, Job>,
}

/// A part, the problem of its step, and when the step ended.
type JobEnd<A> = (Part<A>, Option<Guarded<Problem>>, Instant);

struct Job {
    subject: Subject,
    notes: Arc<StepNotes>,
    panics: Panics,
    task: AbortHandle,
    /// The place of the part among the parts of its kind.
    place: usize,
    endless: bool,
    began: Instant,
    polls: Arc<AtomicU64>,
}

/// A part whose step has ended.
pub(crate) struct Ended<A: Application> {
    pub(crate) subject: Subject,
    pub(crate) place: usize,
    pub(crate) endless: bool,
    pub(crate) at: Instant,
    pub(crate) took: Duration,
    /// The part, unless it was aborted.
    pub(crate) part: Option<Part<A>>,
    /// An error is the app's, and so is its destructor.
    pub(crate) problem: Option<Guarded<Problem>>,
    pub(crate) aborted: bool,
    pub(crate) notes: Arc<StepNotes>,
}

impl<A: Application> Default for Jobs<A> {
    fn default() -> Self {
        Self { tasks: JoinSet::new(), running: HashMap::new() }
    }
}

impl<A: Application> Jobs<A> {
    /// Spawns a step of a part, in a task that owns the part until the step ends.
    pub(crate) fn spawn(&mut self, mut part: Part<A>, step: Step, panics: Panics, context: &RunContext<A>) {
        let (subject, place, endless) = (part.subject.clone(), part.place, part.endless);
        let span = tracing::debug_span!("part", %subject, ?step);
        let polls = Arc::new(AtomicU64::new(0));
        let (counted, of, guard) = (Arc::clone(&polls), subject.clone(), panics.clone());
        let (context, notes) = context.for_step(&subject);
        let work = async move {
            let outcome = guard.caught(of.clone(), counting(counted, part.step(step, &context))).await;
            let problem = match outcome {
                Ok(outcome) => outcome.err().map(Problem::Error),
                Err(panic) => Some(Problem::Panicked(panic)),
            };
            (part, problem.map(|problem| guard.guard(of, problem)), Instant::now())
        };
        let task = self.tasks.spawn(work.instrument(span));
        let job = Job { subject, place, endless, began: Instant::now(), polls, notes, panics, task };
        self.running.insert(job.task.id(), job);
    }

    /// The next part whose step has ended; `None` when no step is running.
    ///
    /// Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Ended<A>> {
        loop {
            if self.running.is_empty() {
                return None;
            }
            let (id, part, problem, panic, at) = match self.tasks.join_next_with_id().await? {
                Ok((id, (part, problem, at))) => (id, Some(part), problem, None, at),
                // All code in the task that can panic is guarded.
                Err(error) => (error.id(), None, None, error.try_into_panic().ok(), Instant::now()),
            };
            // Abandoned tasks end as well.
            let Some(job) = self.running.remove(&id) else { continue };
            let Job { subject, place, endless, began, notes, panics, .. } = job;
            let panicked = |panic| panics.guard(subject.clone(), Problem::Panicked(message(panic)));
            let problem = problem.or(panic.map(panicked));
            let aborted = part.is_none() && problem.is_none();
            let took = at.saturating_duration_since(began);
            return Some(Ended { subject, place, endless, at, took, part, problem, aborted, notes });
        }
    }

    /// The parts at work that are not endless.
    pub(crate) fn ending(&self) -> Vec<Subject> {
        self.subjects(|job| !job.endless)
    }

    /// The parts at work.
    pub(crate) fn working(&self) -> Vec<Subject> {
        self.subjects(|_| true)
    }

    /// The endless parts at work that have not passed their first await.
    pub(crate) fn idle(&self) -> Vec<Subject> {
        self.subjects(|job| job.endless && job.polls.load(Ordering::Relaxed) < 2)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    fn subjects(&self, of: impl Fn(&Job) -> bool) -> Vec<Subject> {
        let mut jobs: Vec<_> = self.running.values().filter(|job| of(job)).collect();
        jobs.sort_by_key(|job| job.place);
        jobs.into_iter().map(|job| job.subject.clone()).collect()
    }

    /// Aborts the parts at `places`. [`next`](Self::next) returns each when its task has ended, which takes long only
    /// if it blocks its thread.
    pub(crate) fn abort(&self, places: impl Fn(usize) -> bool) {
        self.running.values().filter(|job| places(job.place)).for_each(|job| job.task.abort());
    }

    /// Whether a part at one of `places` is at work.
    pub(crate) fn works(&self, places: impl Fn(usize) -> bool) -> bool {
        self.running.values().any(|job| places(job.place))
    }

    /// Abandons the parts at `places`, and returns their places and subjects.
    pub(crate) fn leave(&mut self, places: impl Fn(usize) -> bool) -> Vec<(usize, Subject)> {
        let mut left: Vec<_> =
            self.running.extract_if(|_, job| places(job.place)).map(|(_, job)| job).collect();
        left.sort_by_key(|job| job.place);
        left.into_iter().map(|job| (job.place, job.subject)).collect()
    }
}

/// Runs `app` and counts its polls.
async fn counting<F: Future>(polls: Arc<AtomicU64>, app: F) -> F::Output {
    let mut app = pin!(app);
    poll_fn(|context| {
        polls.fetch_add(1, Ordering::Relaxed);
        app.as_mut().poll(context)
    })
    .await
}
