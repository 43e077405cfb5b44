//! Polling now, and waiting for the result.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};

use tokio::task::unconstrained;
use watchkeeper_fsm::State;

use crate::control::{EndedCycle, ObservationControl, Polled};
use crate::error::PollNowError;
use crate::observer::Observer;
use crate::publish::queue::Publication;
use crate::publish::shared::{Registered, Shared};
use crate::runtime::ObservationRuntime;
use crate::shield::shielded;
use crate::status::ObservationSnapshot;

impl<O: Observer> ObservationRuntime<O> {
    /// Starts a cycle now, or right after the one in flight, and returns the snapshot of that cycle.
    ///
    /// Otherwise like [`ObservationControl::poll_now`](crate::ObservationControl::poll_now). After the cycle in
    /// flight has ended, it takes at most `refresh_timeout` and `poll_timeout` (or `init_timeout`) together.
    ///
    /// # Errors
    ///
    /// [`PollNowError`]: the control was not taken, the cycle failed, its publication was missed, the runtime ended,
    /// or its executor gives no turn.
    ///
    /// # Cancel safety
    ///
    /// The cycle runs even if this future is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use watchkeeper::ObservedSource;
    /// # use watchkeeper::source::SharedSources;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), watchkeeper::DynError> {
    /// async fn length(file: ObservedSource<String>) -> std::io::Result<usize> {
    ///     Ok(file.source.len())
    /// }
    ///
    /// let files = SharedSources::default();
    /// let runtime = watchkeeper::observe(Duration::from_secs(60), files.clone(), length).await?;
    /// files.insert("motd", "hello".to_owned());
    /// let snapshot = runtime.poll_now_and_wait().await?;
    /// assert_eq!(snapshot.value.answer("motd"), Some(&5));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn poll_now_and_wait(&self) -> Result<Arc<ObservationSnapshot<O::Snapshot>>, PollNowError> {
        polled(&self.handle().shared, &self.control()).await
    }
}

impl<S: Send + Sync, E: Send + Sync> Polled for Shared<S, E> {
    fn poll_now_and_wait<'a>(&'a self, control: &'a ObservationControl) -> EndedCycle<'a> {
        Box::pin(async move { polled(self, control).await.map(|snapshot| snapshot.cycle) })
    }
}

async fn polled<S, E>(shared: &Shared<S, E>, control: &ObservationControl) -> PollNowResult<S> {
    let mut ear = Ear::of(shared);
    let pulse = Arc::clone(shared.clock.pulse());
    // Unconstrained: without budget the reply would stay unread, and the cycle may already be in the queue.
    let mut asking = pin!(unconstrained(control.poll_now()));
    let mut no_turn_for = pin!(shielded(pulse.no_turn(None, true)));
    let mut cycle = None;
    poll_fn(|context| {
        let mut heard = VecDeque::new();
        let missed = ear.take(&mut heard, context.waker());
        if cycle.is_none()
            && let Poll::Ready(taken) = asking.as_mut().poll(context)
        {
            cycle = Some(taken?);
        }
        // Publications from before the control was taken are of earlier cycles. Those of this cycle are in `heard` or
        // still to come.
        if let Some(cycle) = cycle
            && let Some(ended) = heard.iter().find_map(|publication| of_cycle(cycle, publication, missed))
        {
            return Poll::Ready(ended);
        }
        if cycle.is_some()
            && let Poll::Ready(no_turn_for) = no_turn_for.as_mut().poll(context)
        {
            return Poll::Ready(Err(PollNowError::NotDriven { no_turn_for }));
        }
        Poll::Pending
    })
    .await
}

/// Receives all publications until it is dropped.
struct Ear<'a, S, E> {
    shared: &'a Shared<S, E>,
    registered: Registered,
}

impl<'a, S, E> Ear<'a, S, E> {
    fn of(shared: &'a Shared<S, E>) -> Self {
        let (registered, _) = shared.register(false);
        Self { shared, registered }
    }

    fn take(&mut self, heard: &mut VecDeque<Publication<S, E>>, waker: &Waker) -> u64 {
        self.shared.take(&mut self.registered, heard, waker)
    }
}

impl<S, E> Drop for Ear<'_, S, E> {
    fn drop(&mut self) {
        self.shared.unregister(&mut self.registered);
    }
}

type PollNowResult<S> = Result<Arc<ObservationSnapshot<S>>, PollNowError>;

/// How the cycle ended, if `publication` shows it.
fn of_cycle<S, E>(cycle: u64, publication: &Publication<S, E>, missed: u64) -> Option<PollNowResult<S>> {
    let status = &publication.status;
    let snapshot = status.snapshot.as_ref().filter(|snapshot| snapshot.cycle >= cycle);
    let failure = status.last_error.as_ref().filter(|failure| failure.cycle >= cycle);
    match (snapshot, failure) {
        (Some(snapshot), _) if snapshot.cycle == cycle => Some(Ok(Arc::clone(snapshot))),
        (_, Some(failure)) if failure.cycle == cycle => Some(Err(PollNowError::Failed(Arc::clone(failure)))),
        (None, None) => match status.state {
            State::Stopped { reason } => Some(Err(PollNowError::Ended { reason })),
            _ => None,
        },
        _ => Some(Err(PollNowError::FellBehind { missed })),
    }
}
