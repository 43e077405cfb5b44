//! The tasks of a run.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;
use watchkeeper::DynError;

use crate::apart::ABORT_GRACE;
use crate::failure::{Problem, Subject};
use crate::panics::{Panics, message};
use crate::part::{Part, Step};
use crate::{Application, RunContext};

/// Parts at work. Dropping them aborts their tasks; that needs no tokio context.
pub(crate) struct Jobs<A: Application> {
    tasks: JoinSet<Outcome<A>>,
    running: HashMap<Id, Job>,
}

/// A part, how its step ended (an error, or what a panic said), and when.
type Outcome<A> = (Part<A>, Result<Result<(), DynError>, String>, Instant);

struct Job {
    subject: Subject,
    /// Where the part stands among its like.
    place: usize,
    endless: bool,
    began: Instant,
    polls: Arc<AtomicU64>,
}

/// A part whose work is over.
pub(crate) struct Ended<A: Application> {
    pub(crate) subject: Subject,
    pub(crate) place: usize,
    pub(crate) endless: bool,
    pub(crate) at: Instant,
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
    pub(crate) fn spawn(&mut self, mut part: Part<A>, step: Step, panics: Panics, context: RunContext<A>) {
        let (subject, place, endless) = (part.subject.clone(), part.place, part.endless);
        let span = tracing::debug_span!("part", %subject, ?step);
        let polls = Arc::new(AtomicU64::new(0));
        let (counted, of) = (Arc::clone(&polls), subject.clone());
        let work = async move {
            let outcome = panics.caught(of, counting(counted, part.step(step, &context))).await;
            (part, outcome, Instant::now())
        };
        let task = self.tasks.spawn(work.instrument(span));
        let job = Job { subject, place, endless, began: Instant::now(), polls };
        self.running.insert(task.id(), job);
    }

    /// The next part whose step is over; `None` when none works.
    ///
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Ended<A>> {
        let (id, part, problem, at) = match self.tasks.join_next_with_id().await? {
            Ok((id, (part, outcome, at))) => {
                let problem = match outcome {
                    Ok(outcome) => outcome.err().map(Problem::Error),
                    Err(panic) => Some(Problem::Panicked(panic)),
                };
                (id, Some(part), problem, at)
            }
            // All that could panic in the task is guarded.
            Err(error) => {
                let id = error.id();
                let problem = error.try_into_panic().ok().map(|panic| Problem::Panicked(message(panic)));
                (id, None, problem, Instant::now())
            }
        };
        let Job { subject, place, endless, began, .. } = self.running.remove(&id)?;
        let aborted = part.is_none() && problem.is_none();
        let took = at.saturating_duration_since(began);
        Some(Ended { subject, place, endless, at, took, part, problem, aborted })
    }

    /// Who works and ends by itself.
    pub(crate) fn ending(&self) -> Vec<Subject> {
        self.subjects(|job| !job.endless)
    }

    /// Who works.
    pub(crate) fn working(&self) -> Vec<Subject> {
        self.subjects(|_| true)
    }

    /// Who works without an end, and has not come past its first await.
    pub(crate) fn idle(&self) -> Vec<Subject> {
        self.subjects(|job| job.endless && job.polls.load(Ordering::Relaxed) < 2)
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

/// Counts how often it is polled.
async fn counting<F: Future>(polls: Arc<AtomicU64>, app: F) -> F::Output {
    let mut app = pin!(app);
    poll_fn(|context| {
        polls.fetch_add(1, Ordering::Relaxed);
        app.as_mut().poll(context)
    })
    .await
}
