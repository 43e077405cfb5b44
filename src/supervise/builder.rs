//! The builder: the only way to a handle.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::board::{End, StateBoard};
use super::failure::{Failure, Outcome};
use super::handle::{GRACE, Supervised};
use super::machine::Machine;
use super::restart::{Restart, When};
use super::run::{Factory, Lives, Made, first_state, made, run};
use super::supervisor::{Settings, Supervisor, UnhandledEvents};
use super::worker::{NoWorker, Worker};
use crate::clock::Clock;
use crate::config::{LONGEST_NAME, MAX_DURATION, logged_name};
use crate::panics::{AppValue, log_panic, poll_caught};
use crate::parent::Parent;
use crate::report::debug_as_text;
use crate::task::inbox::life;
use crate::task::lifetime::Terminate;
use crate::text::{MESSAGE, one_line};

/// Supervises `machine`: see [`MachineBuilder`].
///
/// # Examples
///
/// ```
/// use std::convert::Infallible;
/// use watchkeeper::supervise::{Machine, Out, Outcome, Reaction, supervise};
///
/// struct Counter(u32);
///
/// #[derive(Debug)]
/// enum Event { Add(u32), Close }
///
/// impl Machine for Counter {
///     type State = u32;
///     type Event = Event;
///     type Command = Infallible;
///
///     fn state(&self) -> u32 {
///         self.0
///     }
///
///     fn handle(&mut self, event: Event, out: &mut Out<Infallible>) -> Reaction<Event> {
///         match event {
///             Event::Add(more) => self.0 += more,
///             Event::Close => out.finish(),
///         }
///         Reaction::Stayed
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), watchkeeper::DynError> {
/// let counter = supervise(Counter(0)).spawn()?;
/// counter.send(Event::Add(2)).await?;
/// assert_eq!(counter.ask(Event::Add(3)).await?, 5);
/// counter.send(Event::Close).await?;
/// assert!(matches!(counter.ended().await, Outcome::Finished));
/// # Ok(())
/// # }
/// ```
pub fn supervise<M: Machine>(machine: M) -> MachineBuilder<M, NoWorker> {
    MachineBuilder::new(Source::Once(AppValue::new(machine), AppValue::new(NoWorker)))
}

/// Supervises what `factory` makes: for each life a machine and its worker, which is [`NoWorker`] for a machine without
/// commands.
///
/// It is called first by [`spawn`](MachineBuilder::spawn), and then for each new life of a [`Restart`], in the machine's
/// task, after the old machine and worker were dropped. There, a panic of it is a failure like one of the machine.
///
/// # Examples
///
/// ```
/// use std::convert::Infallible;
/// use std::time::Duration;
/// use watchkeeper::supervise::{Backoff, Delays, FailureWindow, NoWorker, Restart, supervise_with};
/// # use watchkeeper::supervise::{Machine, Out, Reaction};
/// # struct Counter(u32);
/// # impl Machine for Counter {
/// #     type State = u32;
/// #     type Event = u32;
/// #     type Command = Infallible;
/// #     fn state(&self) -> u32 { self.0 }
/// #     fn handle(&mut self, more: u32, _: &mut Out<Infallible>) -> Reaction<u32> {
/// #         self.0 += more;
/// #         Reaction::Stayed
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), watchkeeper::DynError> {
/// let second = Duration::from_secs(1);
/// let delays = Delays::new(Backoff { first: second, max: 30 * second, jitter: 0.5, seed: 7 });
/// let restart = Restart::on_failure(delays, FailureWindow::new(5, 60 * second));
/// let counter = supervise_with(|| (Counter(0), NoWorker)).restart(restart).spawn()?;
/// assert_eq!(counter.ask(3).await?, 3);
/// counter.restart()?;
/// counter.wait_for("a new life begins", |count| *count == 0).within(second).await?;
/// # Ok(())
/// # }
/// ```
pub fn supervise_with<M, W, F>(factory: F) -> MachineBuilder<M, W>
where
    M: Machine,
    W: Worker<M>,
    F: FnMut() -> (M, W) + Send + 'static,
{
    MachineBuilder::new(Source::Factory(AppValue::new(Box::new(factory))))
}

enum Source<M, W> {
    Once(AppValue<M>, AppValue<W>),
    Factory(AppValue<Factory<M, W>>),
    /// A worker beside a factory that makes one.
    TwoWorkers,
}

/// A machine that does not run yet.
///
/// What depends on the machine's state is on [`Machine`], the rest is here. A machine with commands needs a
/// [`worker`](Self::worker), or this does not compile:
///
/// ```compile_fail,E0277
/// # use watchkeeper::supervise::{Machine, supervise};
/// # fn example<M: Machine<Command = u32>>(machine: M) {
/// let handle = supervise(machine).spawn();
/// # }
/// ```
#[must_use = "nothing runs before `.spawn()`"]
pub struct MachineBuilder<M: Machine, W> {
    source: Source<M, W>,
    name: Option<String>,
    trace: usize,
    parent: Option<CancellationToken>,
    settings: Settings,
}

/// Transitions that are kept, unless the builder says otherwise.
const TRACE: usize = 16;

impl<M: Machine, W> MachineBuilder<M, W> {
    fn new(source: Source<M, W>) -> Self {
        let settings = Settings {
            capacity: 64,
            work_timeout: None,
            drain: Duration::from_secs(10),
            unhandled: UnhandledEvents::Reject,
            restart: Restart::never(),
        };
        Self { source, name: None, trace: TRACE, parent: None, settings }
    }

    /// How many events the channel holds, at least 1. As many may be deferred; while as many commands wait, no event is
    /// taken from the channel. Default: 64.
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.settings.capacity = capacity;
        self
    }

    /// How long one command may take, at most 24 h. Default: as long as it takes.
    pub fn work_timeout(mut self, limit: Duration) -> Self {
        self.settings.work_timeout = Some(limit);
        self
    }

    /// How long a stop lets the machine drain, at most 24 h. Default: 10 s.
    ///
    /// The same time bounds what follows after the last handle is dropped: how long a machine that takes no event holds
    /// those in the channel, and then how long commands run to their end.
    pub fn drain(mut self, limit: Duration) -> Self {
        self.settings.drain = limit;
        self
    }

    /// The machine's name in the log: 1 to 256 bytes. Default: none.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// What happens with an event that no state handles. Default: [`UnhandledEvents::Reject`].
    pub fn unhandled(mut self, unhandled: UnhandledEvents) -> Self {
        self.settings.unhandled = unhandled;
        self
    }

    /// How many of the newest transitions [`Supervised::transitions`] returns. Default: 16.
    pub fn trace(mut self, transitions: usize) -> Self {
        self.trace = transitions;
        self
    }

    /// Cancelling `parent` is a requested stop, from any thread. A stop of the machine does not cancel it.
    pub fn parent(mut self, parent: CancellationToken) -> Self {
        self.parent = Some(parent);
        self
    }

    /// Whether the machine lives again after a failure. Needs a factory: [`supervise_with`]. Default:
    /// [`Restart::never`].
    pub fn restart(mut self, restart: Restart) -> Self {
        self.settings.restart = restart;
        self
    }
}

impl<M: Machine> MachineBuilder<M, NoWorker> {
    /// The worker that executes the machine's commands. For [`supervise_with`] the factory makes it.
    pub fn worker<W: Worker<M>>(self, worker: W) -> MachineBuilder<M, W> {
        let Self { source, name, trace, parent, settings } = self;
        let source = match source {
            Source::Once(machine, _) => Source::Once(machine, AppValue::new(worker)),
            // One worker is there for one life: a later one would have none.
            Source::Factory(_) | Source::TwoWorkers => Source::TwoWorkers,
        };
        MachineBuilder { source, name, trace, parent, settings }
    }
}

impl<M: Machine, W> MachineBuilder<M, W> {
    /// Spawns the machine in a task of the current tokio runtime.
    ///
    /// # Errors
    ///
    /// [`SuperviseError`]: a setting is out of range, the factory or [`Machine::state`] panicked, or there is no tokio
    /// runtime.
    ///
    /// # Panics
    ///
    /// If the tokio runtime has no timer (`enable_time`).
    pub fn spawn(self) -> Result<Supervised<M>, SuperviseError>
    where
        W: Worker<M>,
    {
        let Self { source, name, trace, parent, settings } = self;
        if matches!(source, Source::TwoWorkers) {
            return Err(SuperviseError::TwoWorkers);
        }
        validate(&settings, name.as_deref(), matches!(source, Source::Factory(_)))?;
        let executor = Handle::try_current().map_err(|_| SuperviseError::NoTokioRuntime)?;
        let panicked = |message: String| SuperviseError::Panicked { message: one_line(&message, MESSAGE) };
        let (Made { machine, state, worker }, factory) = match source {
            Source::Once(machine, worker) => (first_state(machine, worker).map_err(panicked)?, None),
            Source::Factory(mut factory) => (made(&mut factory).map_err(panicked)?, Some(factory)),
            Source::TwoWorkers => return Err(SuperviseError::TwoWorkers),
        };
        let clock = Clock::of(executor.clone());
        let capacity = settings.capacity;
        let name = name.as_deref().map(logged_name);
        let span = tracing::info_span!("machine", machine = std::any::type_name::<M>(), name);
        clock.pulse().logs_as(&span);
        let board = Arc::new(StateBoard::new(clock.clone(), Arc::clone(&state), capacity, trace));
        let end: Arc<dyn Terminate<_>> = board.clone();
        let (sender, inbox, guard) = life(&clock, settings.drain + GRACE, None, end);
        let parent = parent.map(|parent| Parent::of(&sender.life, &parent));
        let life = Arc::clone(&sender.life);
        let handle = Supervised::new(sender, Arc::clone(&board), capacity, factory.is_some());
        let supervisor = Supervisor::new(machine, state, Arc::clone(&board), settings);
        let (died, died_board) = (Arc::clone(&life), Arc::clone(&board));
        let (supervisor, worker) = (Some(supervisor), Some(worker));
        let whole = Lives { inbox, supervisor, worker, factory, handle: handle.downgrade(), board, life };
        // The guard is dropped last, after all app values: here if the task never ran, and below if it ran.
        let whole = (Box::pin(run(whole)), parent, guard);
        let task = async move {
            let (lives, parent, guard) = whole;
            // What is bound last is dropped first: the guard after all app values.
            let _guard = guard;
            let _parent = parent;
            let mut lives = lives;
            let ended = std::future::poll_fn(|context| poll_caught(lives.as_mut(), context)).await;
            drop(lives);
            if let Err(panic) = ended {
                log_panic("the supervisor", &panic);
                let failure = Failure::of_method("app code outside of any method", &panic);
                died_board.end(Outcome::Panicked(Arc::new(failure)));
                died.end(End::Over);
            }
        };
        executor.spawn(task.instrument(span));
        Ok(handle)
    }
}

fn validate(settings: &Settings, name: Option<&str>, has_factory: bool) -> Result<(), SuperviseError> {
    let Settings { capacity, work_timeout, drain, restart, .. } = settings;
    if !(1..=Semaphore::MAX_PERMITS).contains(capacity) {
        return Err(SuperviseError::Capacity { capacity: *capacity, most: Semaphore::MAX_PERMITS });
    }
    let durations = [("work_timeout", work_timeout.unwrap_or(MAX_DURATION)), ("drain", *drain)];
    for (setting, duration) in durations {
        if duration.is_zero() || duration > MAX_DURATION {
            return Err(SuperviseError::OutOfRange { setting, duration });
        }
    }
    if name.is_some_and(|name| name.is_empty() || name.len() > LONGEST_NAME) {
        return Err(SuperviseError::Name);
    }
    if restart.when == When::Never {
        return Ok(());
    }
    if !has_factory {
        return Err(SuperviseError::NoFactory);
    }
    if let Some((field, value)) = restart.backoff().invalid() {
        return Err(SuperviseError::Backoff { field, value });
    }
    if !restart.window.is_valid() {
        return Err(SuperviseError::FailureWindow);
    }
    Ok(())
}

/// Why a machine was not spawned.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SuperviseError {
    /// There is room for no event, or for too many.
    #[error("capacity is {capacity}: it must be at least 1 and at most {most}")]
    Capacity {
        /// What was set.
        capacity: usize,
        /// The largest.
        most: usize,
    },
    /// A duration is zero or over 24 h.
    #[error("{setting} is {duration:?}: it must be more than zero and at most 24 h")]
    OutOfRange {
        /// The builder's method.
        setting: &'static str,
        /// What was set.
        duration: Duration,
    },
    /// The name is empty or too long.
    #[error("name must have 1 to 256 bytes")]
    Name,
    /// A restart without a factory.
    #[error("restart needs a factory that makes each life: spawn it with supervise_with")]
    NoFactory,
    /// A worker beside a factory.
    #[error("the factory of supervise_with makes the worker of each life: return this one there")]
    TwoWorkers,
    /// A field of the restart's backoff is out of range.
    #[error(
        "Backoff::{field} is {value}: `first` must be more than zero, `max` at least `first` and at most 24 h, `jitter` \
         between 0 and 1"
    )]
    Backoff {
        /// The field.
        field: &'static str,
        /// What was set.
        value: String,
    },
    /// The restart's window is zero or over 24 h.
    #[error("the time of FailureWindow must be more than zero and at most 24 h")]
    FailureWindow,
    /// App code has panicked before there was a task.
    #[error("{message}")]
    Panicked {
        /// What panicked, and its message: one line, escaped and bounded.
        message: String,
    },
    /// There is no tokio runtime.
    #[error("there is no tokio runtime here: call spawn inside one")]
    NoTokioRuntime,
}

debug_as_text!(SuperviseError);
