//! Checks an app's observer without a runtime.
//!
//! [`Check`] runs an observer over a script of source sets, and finds defects that stay silent in a runtime:
//!
//! - events that do not add up to the snapshot;
//! - a failed poll that has changed the state;
//! - a poll that loses data when it is dropped at an await, although
//!   [`poll_is_cancel_safe`](Observer::poll_is_cancel_safe) returns `true`.
//!
//! # Examples
//!
//! This observer advances its state and then fails: the answer of its first source is never emitted.
//!
//! ```
//! use watchkeeper::check::Check;
//! use watchkeeper::{DynError, ObservedSource, Observer, async_trait};
//!
//! /// Follows the highest number of its sources, and emits each.
//! struct Highest;
//!
//! #[async_trait]
//! impl Observer for Highest {
//!     type Source = Result<u64, &'static str>;
//!     type State = u64;
//!     type Snapshot = u64;
//!     type Event = u64;
//!
//!     async fn init(&self, _: &[ObservedSource<Self::Source>]) -> Result<u64, DynError> {
//!         Ok(0)
//!     }
//!
//!     async fn poll(&self, nodes: &[ObservedSource<Self::Source>], seen: &mut u64) -> Result<Vec<u64>, DynError> {
//!         let mut events = Vec::new();
//!         for node in nodes {
//!             let height = node.source?; // a failing second source ...
//!             events.extend(*seen + 1..=height);
//!             *seen = height.max(*seen); // ... and what the first one said is lost
//!         }
//!         Ok(events)
//!     }
//!
//!     fn snapshot(&self, seen: &u64) -> u64 {
//!         *seen
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let found = Check::new(|| Highest)
//!     .poll(|| [("a", Ok(1)), ("b", Ok(1))])
//!     .poll(|| [("a", Ok(2)), ("b", Err("refused"))])
//!     .folding(|seen| *seen, |seen, event| *seen = *event)
//!     .run()
//!     .await
//!     .unwrap_err();
//! assert_eq!(
//!     found.to_string(),
//!     "poll 2 failed and changed the state: the snapshot showed 1 before and shows 2 after; change the state only \
//!      after the last step that can fail (the error: refused)"
//! );
//! # }
//! ```

use std::fmt::{self, Debug};
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::config::ObservationConfig;
use crate::error::DynError;
use crate::observer::Observer;
use crate::panics::{AppValue, catch, poll_caught};
use crate::report::debug_as_text;
use crate::source::ObservedSource;
use crate::text::error_chain::chain;
use crate::text::render::debug_line;
use crate::text::{MESSAGE, one_line};

/// The most awaits of one poll that are interrupted.
const AWAITS: u32 = 256;

/// The longest value in an error, in bytes.
const VALUE: usize = 500;

/// A check of one observer over one script: see the [module](self).
///
/// Observer and script are made again for each run, because each interrupted poll needs its own run.
#[must_use = "nothing is checked until `folding(..)` has been called and `run()` was awaited"]
pub struct Check<O: Observer> {
    observer: Box<dyn Fn() -> O + Send + Sync>,
    script: Vec<MakeSet<O::Source>>,
    config: ObservationConfig,
}

type MakeSet<S> = Box<dyn Fn() -> Set<S> + Send + Sync>;

/// The source set of one poll: an array or a `Vec` of pairs `(name, source)`, or a `Vec` of [`ObservedSource`]s.
pub struct Set<S>(Vec<ObservedSource<S>>);

/// A [`Check`] that also knows how events add up.
#[must_use = "nothing is checked until `run()` was awaited"]
pub struct Folding<O: Observer, M> {
    check: Check<O>,
    view: SnapshotView<O, M>,
    fold: Fold<O, M>,
}

type SnapshotView<O, M> = Box<dyn Fn(&<O as Observer>::Snapshot) -> M + Send + Sync>;
type Fold<O, M> = Box<dyn Fn(&mut M, &<O as Observer>::Event) + Send + Sync>;

/// The extent of a check that found nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// Successful polls of the script.
    pub succeeded: u64,
    /// Failed polls of the script.
    pub failed: u64,
    /// Events of the script.
    pub events: u64,
    /// Awaits at which a poll was interrupted. 0 if the observer does not claim to be cancel-safe, or its polls never
    /// wait.
    pub interruptions: u64,
}

/// The place of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// The poll of the script, from 1; 0 is the `init`.
    pub poll: u64,
    /// The poll that was interrupted in this run and the number of its await, both from 1.
    pub interrupted: Option<(u64, u32)>,
}

/// The finding of a [`Check`].
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The script has no polls.
    #[error("the script has no polls: add one with `Check::poll`")]
    EmptyScript,
    /// `init` failed. A check needs an `init` that succeeds.
    #[error("init failed: {}; give poll 1 a set with which it succeeds", one_line(error, MESSAGE))]
    InitFailed {
        /// The error of `init`.
        error: String,
    },
    /// The events up to a poll do not add up to its snapshot.
    #[error(
        "{step}: the events so far add up to {folded}, and the snapshot shows {shown}; emit an event for each change of \
         the state, in the poll that makes it"
    )]
    EventsDiffer {
        /// The poll.
        step: Step,
        /// The view of the snapshot.
        shown: String,
        /// The sum of the events.
        folded: String,
    },
    /// A failed poll has changed the state.
    #[error(
        "{step} failed and changed the state: the snapshot showed {before} before and shows {after} after; change the \
         state only after the last step that can fail (the error: {})",
        one_line(error, MESSAGE)
    )]
    ErrorChangedState {
        /// The failed poll.
        step: Step,
        /// Its error.
        error: String,
        /// The view before the poll.
        before: String,
        /// The view after the poll.
        after: String,
    },
    /// With an interruption the script ended with another snapshot than without.
    #[error(
        "{step}: the script ended with {shown}, and without the interruption with {expected}; put what was found and its \
         events into the state together, between two awaits, or do not claim `poll_is_cancel_safe`"
    )]
    LostByInterruption {
        /// The last poll, and the interrupted one.
        step: Step,
        /// The view at the end of the script without the interruption.
        expected: String,
        /// The view at the end of the script with the interruption.
        shown: String,
    },
    /// A failed poll has changed a part of the state that the snapshot does not show: without that poll the script
    /// ends with another snapshot.
    #[error(
        "{step} failed and lost what it had found: the script ended with {shown}, and without that poll with {expected}; \
         change the state, also what the snapshot does not show of it, only after the last step that can fail (the \
         error: {})",
        one_line(error, MESSAGE)
    )]
    LostByError {
        /// The failed poll.
        step: Step,
        /// Its error.
        error: String,
        /// The view at the end of the script without that poll.
        expected: String,
        /// The view at the end of the script.
        shown: String,
    },
    /// The observer, or a closure of the check, panicked.
    #[error("{step} panicked: {}", one_line(message, MESSAGE))]
    Panicked {
        /// The step that panicked.
        step: Step,
        /// The message of the panic.
        message: String,
    },
    /// An `init` or a poll did not end in time.
    #[error("{step} did not end within {limit:?}")]
    TimedOut {
        /// The step that did not end.
        step: Step,
        /// The time-out: the config's `init_timeout` or `poll_timeout`.
        limit: Duration,
    },
}

debug_as_text!(CheckError);

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.poll {
            0 => f.write_str("init")?,
            poll => write!(f, "poll {poll}")?,
        }
        match self.interrupted {
            Some((poll, nth)) => write!(f, ", after poll {poll} was dropped at its await {nth}"),
            None => Ok(()),
        }
    }
}

impl<N: Into<String>, S, const K: usize> From<[(N, S); K]> for Set<S> {
    fn from(sources: [(N, S); K]) -> Self {
        Self(sources.into_iter().map(|(name, source)| ObservedSource::new(name, source)).collect())
    }
}

impl<N: Into<String>, S> From<Vec<(N, S)>> for Set<S> {
    fn from(sources: Vec<(N, S)>) -> Self {
        Self(sources.into_iter().map(|(name, source)| ObservedSource::new(name, source)).collect())
    }
}

impl<S> From<Vec<ObservedSource<S>>> for Set<S> {
    fn from(sources: Vec<ObservedSource<S>>) -> Self {
        Self(sources)
    }
}

impl<O: Observer> Check<O> {
    /// Checks the observers that `observer` makes.
    pub fn new(observer: impl Fn() -> O + Send + Sync + 'static) -> Self {
        Self { observer: Box::new(observer), script: Vec::new(), config: ObservationConfig::default() }
    }

    /// Adds a poll of these sources to the script. `init` gets the first set.
    ///
    /// Use fakes as sources, each with its answer or its failure.
    pub fn poll<T: Into<Set<O::Source>>>(mut self, sources: impl Fn() -> T + Send + Sync + 'static) -> Self {
        self.script.push(Box::new(move || sources().into()));
        self
    }

    /// Sets the config with which the observer is [configured](Observer::configured). Its `init_timeout` and
    /// `poll_timeout` also limit the check. Default: that of [`ObservationConfig`].
    pub fn configured(self, config: ObservationConfig) -> Self {
        Self { config, ..self }
    }

    /// Defines how events add up: `fold` starts at `M::default()` and adds one event after the other. After each
    /// successful poll its value must equal the `view` of the snapshot.
    ///
    /// Omit from the view values without events, such as the time of the last poll.
    pub fn folding<M>(
        self,
        view: impl Fn(&O::Snapshot) -> M + Send + Sync + 'static,
        fold: impl Fn(&mut M, &O::Event) + Send + Sync + 'static,
    ) -> Folding<O, M>
    where
        M: Default + PartialEq + Debug,
    {
        Folding { check: self, view: Box::new(view), fold: Box::new(fold) }
    }
}

impl<O, M> Folding<O, M>
where
    O: Observer,
    M: Default + PartialEq + Debug,
{
    /// Runs the script once to its end, then again:
    ///
    /// - without each failed poll, which must not change the end;
    /// - with each await interrupted, at most 256 for each poll, if the observer claims to be cancel-safe: the poll
    ///   is dropped at that await, and polled again.
    ///
    /// Between two polls the config's interval passes on tokio's clock. Pause the clock in a test, so that it does
    /// not wait.
    ///
    /// # Errors
    ///
    /// [`CheckError`] has the step, the expected value and the value that was found.
    pub async fn run(self) -> Result<Checked, CheckError> {
        let whole = ScriptRun::begin(&self, RunDifference::Nothing).await?.run_to_the_end().await?;
        let ScriptRun { end, mut checked, claims, failures, .. } = whole;
        for (poll, error) in failures {
            let without =
                ScriptRun::begin(&self, RunDifference::Without { poll }).await?.run_to_the_end().await?.end;
            if without != end {
                let step = Step { poll, interrupted: None };
                let (expected, shown) = (shown(&without), shown(&end));
                return Err(CheckError::LostByError { step, error, expected, shown });
            }
        }
        if !claims {
            return Ok(checked);
        }
        for poll in 1..=checked.succeeded + checked.failed {
            for nth in 1..=AWAITS {
                let run = ScriptRun::begin(&self, RunDifference::Interrupted { poll, nth })
                    .await?
                    .run_to_the_end()
                    .await?;
                if !run.was_interrupted {
                    break;
                }
                checked.interruptions += 1;
                if run.end != end {
                    let (expected, shown) = (shown(&end), shown(&run.end));
                    return Err(CheckError::LostByInterruption { step: run.at(), expected, shown });
                }
            }
        }
        Ok(checked)
    }
}

/// The difference between a run and the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RunDifference {
    Nothing,
    /// The poll is dropped at its `nth` await, and polled again.
    Interrupted {
        poll: u64,
        nth: u32,
    },
    /// The poll is left out.
    Without {
        poll: u64,
    },
}

/// One run of the script.
struct ScriptRun<'a, O: Observer, M> {
    folding: &'a Folding<O, M>,
    observer: AppValue<O>,
    state: AppValue<O::State>,
    /// Whether the observer claims to be cancel-safe.
    claims: bool,
    poll: u64,
    change: RunDifference,
    was_interrupted: bool,
    /// The failed polls and their errors.
    failures: Vec<(u64, String)>,
    folded: M,
    /// The view of the last snapshot.
    end: M,
    checked: Checked,
}

impl<'a, O, M> ScriptRun<'a, O, M>
where
    O: Observer,
    M: Default + PartialEq + Debug,
{
    async fn begin(folding: &'a Folding<O, M>, change: RunDifference) -> Result<Self, CheckError> {
        let at = Step { poll: 0, interrupted: None };
        let Check { observer, script, config } = &folding.check;
        let first = script.first().ok_or(CheckError::EmptyScript)?;
        let made = catch(|| {
            let mut observer = AppValue::new(observer());
            observer.configured(config);
            let claims = observer.poll_is_cancel_safe();
            (observer, claims, first())
        });
        let (observer, claims, set) = made.map_err(|message| CheckError::Panicked { step: at, message })?;
        let limit = config.init_timeout;
        let built = ended(at, limit, None, async { observer.init(&set.0).await.map(AppValue::new) }).await?;
        let Some(built) = built else { unreachable!("an init is not interrupted") };
        let state = built.map_err(|error| CheckError::InitFailed { error: text(&error) })?;
        let checked = Checked { succeeded: 0, failed: 0, events: 0, interruptions: 0 };
        let (folded, end) = (M::default(), M::default());
        let mut run = Self {
            folding,
            observer,
            state,
            claims,
            poll: 0,
            change,
            was_interrupted: false,
            failures: Vec::new(),
            folded,
            end,
            checked,
        };
        run.end = run.view()?;
        Ok(run)
    }

    fn at(&self) -> Step {
        let interrupted = match self.change {
            RunDifference::Interrupted { poll, nth } if self.was_interrupted => Some((poll, nth)),
            _ => None,
        };
        Step { poll: self.poll, interrupted }
    }

    async fn run_to_the_end(mut self) -> Result<Self, CheckError> {
        for set in &self.folding.check.script {
            self.poll += 1;
            let nth = match self.change {
                RunDifference::Without { poll } if poll == self.poll => {
                    sleep(self.folding.check.config.interval).await;
                    continue;
                }
                RunDifference::Interrupted { poll, nth } if poll == self.poll => Some(nth),
                _ => None,
            };
            let set = self.caught(|_| set())?;
            if self.look(&set, nth).await? == Looked::Interrupted {
                self.was_interrupted = true;
                self.look(&set, None).await?;
            }
        }
        Ok(self)
    }

    /// Polls, and checks the result.
    async fn look(&mut self, set: &Set<O::Source>, interrupt: Option<u32>) -> Result<Looked, CheckError> {
        let (step, config) = (self.at(), &self.folding.check.config);
        let limit = config.poll_timeout;
        // As in a runtime: work that the observer has spawned continues between two polls.
        sleep(config.interval).await;
        let polled = ended(step, limit, interrupt, self.observer.poll(&set.0, &mut self.state)).await?;
        match polled {
            None => return Ok(Looked::Interrupted),
            Some(Ok(events)) => {
                self.checked.succeeded += 1;
                self.checked.events += events.len() as u64;
                for event in &events {
                    self.caught(|run| (run.folding.fold)(&mut run.folded, event))?;
                }
                self.end = self.view()?;
                if self.folded != self.end {
                    let (folded, shown) = (shown(&self.folded), shown(&self.end));
                    return Err(CheckError::EventsDiffer { step, shown, folded });
                }
            }
            Some(Err(error)) => {
                self.checked.failed += 1;
                self.failures.push((self.poll, text(&error)));
                let (before, after) = (std::mem::take(&mut self.end), self.view()?);
                // The snapshot may now show the results of the interrupted poll.
                if before != after && !self.was_interrupted {
                    let (before, after, error) = (shown(&before), shown(&after), text(&error));
                    return Err(CheckError::ErrorChangedState { step, error, before, after });
                }
                self.end = after;
            }
        }
        Ok(Looked::ToTheEnd)
    }

    fn view(&mut self) -> Result<M, CheckError> {
        self.caught(|run| {
            let snapshot = AppValue::new(run.observer.snapshot(&run.state));
            (run.folding.view)(&snapshot)
        })
    }

    fn caught<T>(&mut self, app: impl FnOnce(&mut Self) -> T) -> Result<T, CheckError> {
        let step = self.at();
        catch(|| app(self)).map_err(|message| CheckError::Panicked { step, message })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looked {
    ToTheEnd,
    Interrupted,
}

/// Runs work of the observer to its end. `None` if it was dropped at the await `interrupt`.
async fn ended<F: Future>(
    step: Step,
    limit: Duration,
    interrupt: Option<u32>,
    work: F,
) -> Result<Option<F::Output>, CheckError> {
    let mut work = pin!(work);
    let mut awaits = 0;
    let working = poll_fn(|context| match poll_caught(work.as_mut(), context) {
        Poll::Ready(ended) => Poll::Ready(ended.map(Some)),
        Poll::Pending => {
            awaits += 1;
            if interrupt == Some(awaits) { Poll::Ready(Ok(None)) } else { Poll::Pending }
        }
    });
    match timeout(limit, working).await {
        Ok(ended) => ended.map_err(|message| CheckError::Panicked { step, message }),
        Err(_) => Err(CheckError::TimedOut { step, limit }),
    }
}

fn shown(value: &impl Debug) -> String {
    debug_line(value, VALUE)
}

/// The text of an error is app code, which may panic.
fn text(error: &DynError) -> String {
    catch(|| chain(&**error)).unwrap_or_else(|panic| format!("an error whose text panicked: {panic}"))
}

impl<S> Debug for Set<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Set").field("sources", &self.0.len()).finish()
    }
}

impl<O: Observer> Debug for Check<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").finish_non_exhaustive()
    }
}

impl<O: Observer, M> Debug for Folding<O, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Folding").finish_non_exhaustive()
    }
}
