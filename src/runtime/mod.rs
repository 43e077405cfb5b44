//! Starting a runtime, and owning it.

mod poll_now;
mod transactional;

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::clock::Clock;
use crate::config::ObservationConfig;
use crate::config::logged_name;
use crate::control::ObservationControl;
use crate::cursor::Instance;
use crate::driver::core::Core;
use crate::driver::publisher::FirstCycle;
use crate::driver::{Driver, drive};
use crate::error::ObservationRuntimeError;
use crate::handle::ObservationHandle;
use crate::observer::Observer;
use crate::panics::{AppValue, catch, log_panic, poll_caught};
use crate::parent::Parent;
use crate::publish::history::History;
use crate::publish::shared::Shared;
use crate::shield::shielded;
use crate::source::{Provider, SourceProvider};
use crate::status::Published;
use crate::task::inbox::life;

use crate::task::lifetime::Terminate;

pub use crate::config::{Backoff, MAX_DURATION, Retry};
pub use crate::error::Cause;
pub use crate::error::{ControlError, PollNowError};
pub use crate::status::ObservationStatus;
pub use crate::status::freshness::Freshness;
pub use crate::task::lifetime::StopOutcome;
pub use tokio_util::sync::CancellationToken;
pub use transactional::Transactional;
pub use watchkeeper_fsm::{State, StateKind, StopReason};

/// A running observation: one task that owns provider, observer and state.
///
/// Dropping the runtime requests its stop and does not wait; this needs no tokio context. Remaining handles,
/// subscriptions and waits end with [`StopReason::Dropped`]. Cancelling the config's
/// [`parent`](ObservationConfig::parent) is a requested stop.
///
/// A runtime that is not bound to a variable stops at once. The compiler warns about it. With the warning denied,
/// this does not compile:
///
/// ```compile_fail
/// #![deny(unused_must_use)]
/// # use watchkeeper::{ObservationConfig, ObservationRuntime, ObservationRuntimeError, Observer, StaticSourceProvider};
/// async fn started<O: Observer<Source = u64>>(observer: O) -> Result<(), ObservationRuntimeError> {
///     let sources = StaticSourceProvider::new(Vec::new());
///     ObservationRuntime::start(sources, observer, ObservationConfig::default()).await?;
///     Ok(())
/// }
/// ```
///
/// With the runtime bound, it compiles:
///
/// ```
/// #![deny(unused_must_use)]
/// # use watchkeeper::{ObservationConfig, ObservationRuntime, ObservationRuntimeError, Observer, StaticSourceProvider};
/// async fn started<O: Observer<Source = u64>>(observer: O) -> Result<(), ObservationRuntimeError> {
///     let sources = StaticSourceProvider::new(Vec::new());
///     let _runtime = ObservationRuntime::start(sources, observer, ObservationConfig::default()).await?;
///     Ok(())
/// }
/// ```
///
/// # Logs
///
/// Entries are emitted with `tracing`, under the targets `watchkeeper::..`, inside the span `observation`. The span's
/// fields are `instance` (the first eight digits of its cursors), `observer` and the config's `name`. If app code
/// blocks the runtime's thread, the end is logged outside the span. Names and errors are escaped and truncated.
///
/// | level | message | when | fields |
/// |---|---|---|---|
/// | info | `observation started` | the first source set is known | `name`, `observer`, `interval`, `history_limit`, `sources`, `names` |
/// | info | `observation ended` | the end was published | `name`, `observer`, `reason`, `cycle`, `instance` |
/// | info | `sources joined`, `sources left` | another set | `cycle`, `count`, `names`, `sources` |
/// | warn | `sources without a name of their own are left out: ..` | once, and when other names are concerned | `cycle`, `names`, `unnamed`, `left_out` |
/// | info | `every source has a name of its own again` | after that | `cycle` |
/// | warn | `cycle failed` | the 1st, 2nd, 4th, 8th .. consecutive failure | `cycle`, `stage`, `cause`, `consecutive`, `error` |
/// | debug | `cycle failed` | the others | the same |
/// | info | `recovered` | the first success after failures | `cycle`, `after_failures` |
/// | debug | `cycle succeeded` | each success | `cycle`, `generation`, `elapsed`, `sources`, `events` |
/// | trace | `transition`, `rejected` | each step of the machine | `from`, `to`, `cycle` |
/// | warn | `source failed` | a source of `PerSource`: the first of consecutive failures; of a cycle the first eight | `source`, `cause`, `error` |
/// | info | `source recovered` | its first answer after failures; of a cycle the first eight | `source`, `after_failures` |
/// | warn | `a poll was cut off after ..` | `PerSource` collected for longer than its poll may take | |
/// | warn | `the executor gave no turn for ..`, `a predicate blocked its thread for ..` | something is waited for, and that lasts 3 s and more | `wait` |
/// | error | `.. panicked` | a destructor or waker of the app's | `panic` |
/// | error | `no thread could be started: ..` | once | |
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use watchkeeper::{
///     DynError, ObservationConfig, ObservationRuntime, ObservedSource, Observer, StaticSourceProvider,
///     async_trait,
/// };
/// use watchkeeper::runtime::State;
///
/// struct Counter;
///
/// #[async_trait]
/// impl Observer for Counter {
///     type Source = u64;
///     type State = u64;
///     type Snapshot = u64;
///     type Event = u64;
///
///     async fn init(&self, _: &[ObservedSource<u64>]) -> Result<u64, DynError> {
///         Ok(0)
///     }
///
///     async fn poll(&self, steps: &[ObservedSource<u64>], sum: &mut u64) -> Result<Vec<u64>, DynError> {
///         *sum += steps.iter().map(|step| step.source).sum::<u64>();
///         Ok(vec![*sum])
///     }
///
///     fn snapshot(&self, sum: &u64) -> u64 {
///         *sum
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let steps = StaticSourceProvider::new(vec![ObservedSource::new("step", 5)]);
/// let runtime = ObservationRuntime::start(steps, Counter, ObservationConfig::default()).await?;
/// let handle = runtime.handle();
/// assert_eq!(handle.latest_snapshot().unwrap().value, 0); // cycle 0 has been published
///
/// handle.eventually("the sum reaches 15", |sum| *sum >= 15).within(Duration::from_secs(5)).await?;
///
/// let _ = runtime.stop().await;
/// assert!(matches!(handle.state(), State::Stopped { .. }));
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping the runtime stops the observation: keep it for as long as something is to be observed"]
pub struct ObservationRuntime<O: Observer> {
    handle: ObservationHandle<O>,
    control: ObservationControl,
}

impl<O: Observer> ObservationRuntime<O> {
    /// Starts an observation and returns once cycle 0 is published.
    ///
    /// There is one refresh and one `init`, without a retry. After a failure, or when this future is dropped, no task
    /// is left.
    ///
    /// # Errors
    ///
    /// [`ObservationRuntimeError`]: a config field is out of range, the first refresh or `init` failed, there is no
    /// tokio runtime, or nobody drives the tokio runtime.
    ///
    /// # Panics
    ///
    /// If the tokio runtime has no timer (`enable_time`).
    pub async fn start<P>(
        provider: P,
        observer: O,
        config: ObservationConfig,
    ) -> Result<Self, ObservationRuntimeError>
    where
        P: SourceProvider<O::Source>,
    {
        let (_, starting) = Self::start_with_control(provider, observer, config)?;
        starting.await
    }

    /// Starts an observation like [`start`](Self::start), and returns its control at once.
    ///
    /// If the start is abandoned, [`ObservationControl::stop`] stops it and waits for its end.
    ///
    /// The future resolves once cycle 0 is published. Dropping it requests the stop.
    ///
    /// # Errors
    ///
    /// [`ObservationRuntimeError`]: a config field is out of range, or there is no tokio runtime. The future returns
    /// the error of the first cycle.
    ///
    /// # Panics
    ///
    /// If the tokio runtime has no timer (`enable_time`).
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tokio::time::timeout;
    /// # use watchkeeper::{DynError, ObservationConfig, ObservationRuntime, Observer, SourceProvider};
    /// # use watchkeeper::runtime::StopOutcome;
    /// # async fn example<O: Observer>(
    /// #     provider: impl SourceProvider<O::Source>, observer: O,
    /// # ) -> Result<(), DynError> {
    /// let config = ObservationConfig::default();
    /// let (control, starting) = ObservationRuntime::start_with_control(provider, observer, config)?;
    /// match timeout(Duration::from_secs(1), starting).await {
    ///     Ok(started) => drop(started?),
    ///     // Nothing of the observer runs after this line.
    ///     Err(_) => assert_eq!(control.stop().await, StopOutcome::Stopped),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn start_with_control<P>(
        provider: P,
        observer: O,
        config: ObservationConfig,
    ) -> Result<
        (ObservationControl, impl Future<Output = Result<Self, ObservationRuntimeError>> + Send),
        ObservationRuntimeError,
    >
    where
        P: SourceProvider<O::Source>,
    {
        let (report, reported) = oneshot::channel();
        let (runtime, task) = Self::spawn(provider, observer, config, Some(FirstCycle { report }))?;
        let control = runtime.control();
        // Dropping this future drops the runtime, which requests its stop.
        let starting = async move {
            let pulse = Arc::clone(runtime.handle.shared.clock.pulse());
            let first_cycle = shielded(async {
                tokio::select! {
                    biased;
                    reported = reported => Ok(reported),
                    no_turn_for = pulse.no_turn(None, false) => Err(no_turn_for),
                }
            });
            let reported = first_cycle.await;
            match reported.map_err(|no_turn_for| ObservationRuntimeError::NotDriven { no_turn_for })? {
                Ok(Ok(())) => Ok(runtime),
                Ok(Err(error)) => {
                    // A panic of the driver is already published as the end.
                    let _ = shielded(task).await;
                    Err(error)
                }
                Err(_) => {
                    let reason = runtime.control.end().await;
                    Err(ObservationRuntimeError::Ended { reason })
                }
            }
        };
        Ok((control, starting))
    }

    /// Starts an observation and returns at once. A failed first cycle is retried like any other, as `config.retry`
    /// says.
    ///
    /// # Errors
    ///
    /// [`ObservationRuntimeError`]: a config field is out of range, or there is no tokio runtime.
    ///
    /// # Panics
    ///
    /// If the tokio runtime has no timer (`enable_time`).
    pub fn start_in_background<P>(
        provider: P,
        observer: O,
        config: ObservationConfig,
    ) -> Result<Self, ObservationRuntimeError>
    where
        P: SourceProvider<O::Source>,
    {
        Self::spawn(provider, observer, config, None).map(|(runtime, _)| runtime)
    }

    #[expect(clippy::needless_pass_by_value, reason = "what is not needed any more goes here")]
    fn spawn<P>(
        provider: P,
        observer: O,
        config: ObservationConfig,
        first_cycle: Option<FirstCycle>,
    ) -> Result<(Self, JoinHandle<()>), ObservationRuntimeError>
    where
        P: SourceProvider<O::Source>,
    {
        // On an early return, each is dropped separately.
        let (provider, mut observer) = (Provider::new(provider), AppValue::new(observer));
        config.validate()?;
        let executor = Handle::try_current().map_err(|_| ObservationRuntimeError::NoTokioRuntime)?;
        let panicked = |method| move |message| ObservationRuntimeError::ObserverPanicked { method, message };
        catch(|| observer.configured(&config)).map_err(panicked("configured"))?;
        let keeps_state =
            catch(|| observer.poll_is_cancel_safe()).map_err(panicked("poll_is_cancel_safe"))?;
        let instance = config.resume.map_or_else(Instance::random, |resume| resume.cursor.instance);
        let clock = Clock::of(executor.clone());
        let history = History::new(instance, config.history_limit, config.first());
        let first = Published::before_the_start(clock.started(), &config);
        let (name, observer_type) = (config.name.as_deref(), std::any::type_name::<O>());
        let shared = Arc::new(Shared::new((name, observer_type), clock.clone(), history, first));
        let name = name.map(logged_name);
        let span = tracing::info_span!("observation", %instance, observer = observer_type, name);
        clock.pulse().logs_as(&span);
        let end: Arc<dyn Terminate<StopReason>> = shared.clone();
        let (remote, inbox, guard) = life(&clock, config.stop_timeout, config.wake.as_ref(), end);
        let parent = config.parent.as_ref().map(|parent| Parent::of(&remote.life, parent));
        let core =
            Core::new(Arc::clone(&shared), Arc::clone(&remote.life), &config, keeps_state, first_cycle);
        // The guard is dropped last, after all app values: here if the task never ran ...
        let died = Arc::clone(&remote.life);
        let whole = Driver { inbox, core, observer, provider };
        let whole = (Box::pin(drive(whole)), parent, guard);
        let driver = async move {
            let (drive, parent, guard) = whole;
            // ... and here if it ran, because `drive` is dropped before.
            let _guard = guard;
            let _parent = parent;
            let mut drive = pin!(drive);
            if let Err(panic) = poll_fn(|context| poll_caught(drive.as_mut(), context)).await {
                died.end(StopReason::Died);
                log_panic("the driver", &panic);
            }
        };
        let task = executor.spawn(driver.instrument(span));
        let control = ObservationControl::new(remote, shared.clone());
        let runtime = Self { handle: ObservationHandle::new(shared), control };
        Ok((runtime, task))
    }

    /// The read side. It is cloneable and outlives the runtime.
    #[must_use]
    pub fn handle(&self) -> ObservationHandle<O> {
        self.handle.clone()
    }

    /// The control side. It is cloneable and outlives the runtime.
    #[must_use]
    pub fn control(&self) -> ObservationControl {
        self.control.clone()
    }

    /// Stops the runtime: see [`ObservationControl::stop`].
    pub async fn stop(&self) -> StopOutcome {
        self.control.stop().await
    }
}

impl<O: Observer> Drop for ObservationRuntime<O> {
    fn drop(&mut self) {
        self.control.request_stop(StopReason::Dropped);
    }
}

impl<O: Observer> fmt::Debug for ObservationRuntime<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObservationRuntime")
            .field("name", &self.handle.name())
            .field("state", &self.handle.state())
            .finish_non_exhaustive()
    }
}
