//! Waits for one condition, without a running observation.

use std::fmt;
use std::future::pending;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::config::{MAX_DURATION, ObservationConfig};
use crate::error::DynError;
use crate::observer::Observer;
use crate::runtime::ObservationRuntime;
use crate::source::ObservedSource;
use crate::text::{LABEL, quoted};
use crate::wait::{InvalidWait, Unmet, UnmetOutcome, Verdict};

/// Waits until one condition is met, without a running observation.
///
/// `condition` is asked at once and then at each [`every`](Until::every), one question at a time, until
/// [`within`](Until::within) is over. It returns a `bool`, a `Result<(), reason>` or a [`Verdict`], or a `Result` of
/// one of these. An error means "not yet"; the error and its causes are the reason.
///
/// The condition runs in the awaiting task and may borrow; its panic propagates there. The report is that of every
/// other wait: see [`Unmet`]. For several waits on the same thing, start an [observation](crate::observe).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use watchkeeper::until;
///
/// # struct Job { left: std::cell::Cell<u32> }
/// # impl Job {
/// #     async fn left(&self) -> std::io::Result<u32> {
/// #         self.left.set(self.left.get() - 1);
/// #         Ok(self.left.get())
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), watchkeeper::DynError> {
/// # let job = Job { left: 4.into() };
/// until("the job is done", || async { job.left().await.map(|left| left == 0) })
///     .every(Duration::from_millis(100))
///     .within(Duration::from_secs(10))
///     .await?;
/// # Ok(())
/// # }
/// ```
///
/// The report when the condition is not met:
///
/// ```
/// # use std::time::Duration;
/// # use watchkeeper::until;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let refused = || async { Err::<bool, _>("connection refused") };
/// let unmet = until("the job is done", refused).within(Duration::from_secs(1)).await.unwrap_err();
/// assert_eq!(unmet.reason(), Some("connection refused"));
/// assert!(unmet.to_string().starts_with(r#"not met in time: "the job is done" within 1s"#));
/// # }
/// ```
pub fn until<C, Fut, R>(label: impl Into<String>, condition: C) -> Until<C>
where
    C: FnMut() -> Fut,
    Fut: Future<Output = R>,
    R: Into<Verdict>,
{
    Until { label: label.into(), condition, every: Duration::from_millis(100), parent: None }
}

/// A condition that still needs its window: see [`until`].
#[must_use = "a condition without a window is not asked: add `.within(..)`, then `.await`"]
pub struct Until<C> {
    label: String,
    condition: C,
    every: Duration,
    parent: Option<CancellationToken>,
}

impl<C> Until<C> {
    /// The time between two questions. Default: 100 ms.
    ///
    /// An answer that takes longer skips the questions that were due meanwhile.
    pub fn every(self, every: Duration) -> Self {
        Self { every, ..self }
    }

    /// Ends the wait when `parent` is cancelled. Default: no parent.
    ///
    /// The condition's future is then dropped, and the wait is inconclusive
    /// ([`Inconclusive::Stopped`](crate::wait::Inconclusive::Stopped), requested). If `parent` is cancelled already,
    /// the condition is never asked.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use watchkeeper::until;
    /// use watchkeeper::runtime::{CancellationToken, StopReason};
    /// use watchkeeper::wait::{Inconclusive, UnmetOutcome};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let parent = CancellationToken::new();
    /// let never = || async {
    ///     parent.cancel();
    ///     false
    /// };
    /// let unmet = until("it is done", never).with_parent(parent.clone()).within(Duration::from_secs(10)).await.unwrap_err();
    /// let cancelled = Inconclusive::Stopped { reason: StopReason::Requested };
    /// assert_eq!(unmet.outcome(), UnmetOutcome::Inconclusive(cancelled));
    /// # }
    /// ```
    pub fn with_parent(self, parent: CancellationToken) -> Self {
        Self { parent: Some(parent), ..self }
    }

    /// Asks until the condition is met, for at most `window`, which begins at the first poll of this future.
    ///
    /// If the condition is still answering when the window ends, its future is dropped.
    ///
    /// # Errors
    ///
    /// [`Unmet`] if the condition was not met or gave up; if it never answered or the [parent](Self::with_parent) was
    /// cancelled (inconclusive); if the window or the interval is zero or over 24 h; or if there is no tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the condition's future and asks no more.
    pub async fn within<Fut, R>(self, window: Duration) -> Result<(), Unmet>
    where
        C: FnMut() -> Fut,
        Fut: Future<Output = R>,
        R: Into<Verdict>,
    {
        let Self { label, mut condition, every, parent } = self;
        let (ask, mut asked) = mpsc::channel::<Reply>(1);
        // Only the window ends a question.
        let config = ObservationConfig {
            interval: every,
            init_timeout: MAX_DURATION,
            poll_timeout: MAX_DURATION,
            stale_after: Some(MAX_DURATION),
            parent,
            ..ObservationConfig::default()
        };
        let started = ObservationRuntime::start_in_background([("condition", ())], Condition { ask }, config);
        let runtime = started.map_err(|error| {
            let not_started = UnmetOutcome::Invalid(InvalidWait::NotStarted);
            Unmet::bare(&label, not_started, Some(error.to_string()))
        })?;
        let wait = runtime.handle().eventually(label, |said: &LastVerdict| said.0.clone());
        let wait = wait.or_now().within(window);
        let answering = async {
            while let Some(mut reply) = asked.recv().await {
                tokio::select! {
                    biased;
                    said = condition() => drop(reply.send(said.into())),
                    () = reply.closed() => {}
                }
            }
            pending::<()>().await;
        };
        let ended = tokio::select! {
            biased;
            ended = wait => ended.map(drop),
            () = answering => Ok(()),
        };
        let _ = runtime.stop().await;
        ended
    }
}

impl<C> fmt::Debug for Until<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Until")
            .field("label", &format_args!("{}", quoted(&self.label, LABEL)))
            .field("every", &self.every)
            .finish_non_exhaustive()
    }
}

type Reply = oneshot::Sender<Verdict>;

/// Asks the condition, which runs in the awaiting task.
struct Condition {
    ask: mpsc::Sender<Reply>,
}

/// The condition's last verdict.
#[derive(Clone, PartialEq, Eq)]
struct LastVerdict(Verdict);

impl fmt::Debug for LastVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Verdict::Met => f.write_str("met"),
            Verdict::NotYet(reason) if reason.is_empty() => f.write_str("not yet"),
            Verdict::NotYet(reason) => write!(f, "not yet: {reason}"),
            Verdict::GiveUp(reason) => write!(f, "gave up: {reason}"),
        }
    }
}

#[async_trait]
impl Observer for Condition {
    type Source = ();
    type State = LastVerdict;
    type Snapshot = LastVerdict;
    type Event = ();

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<LastVerdict, DynError> {
        let (reply, said) = oneshot::channel();
        self.ask.send(reply).await?;
        Ok(LastVerdict(said.await?))
    }

    async fn poll(
        &self,
        condition: &[ObservedSource<()>],
        said: &mut LastVerdict,
    ) -> Result<Vec<()>, DynError> {
        let now = self.init(condition).await?;
        let news = if now == *said { Vec::new() } else { vec![()] };
        *said = now;
        Ok(news)
    }

    fn snapshot(&self, said: &LastVerdict) -> LastVerdict {
        said.clone()
    }
}
