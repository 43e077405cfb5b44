//! The clock of the executor a runtime was started on.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep};

use crate::panics::poll_caught;
use crate::pulse::Pulse;

/// Tokio's clock, also for threads and executors that are not the runtime's own.
///
/// Outside its executor, `Instant::now()` would ignore a paused clock and a timer would have
/// nothing to wake it.
#[derive(Clone)]
pub(crate) struct Clock {
    started: Instant,
    started_wall: SystemTime,
    pulse: Arc<Pulse>,
}

impl Clock {
    /// The clock of the current executor.
    pub(crate) fn of(executor: Handle) -> Self {
        let started = {
            let _entered = executor.enter();
            Instant::now()
        };
        Self { started, started_wall: SystemTime::now(), pulse: Pulse::of(executor) }
    }

    pub(crate) fn now(&self) -> Instant {
        let _entered = self.executor().enter();
        Instant::now()
    }

    pub(crate) fn sleep_until(&self, deadline: Instant) -> Sleep {
        let _entered = self.executor().enter();
        tokio::time::sleep_until(deadline)
    }

    /// For those who wait on whatever executor.
    pub(crate) fn timer(&self, deadline: Instant) -> Timer {
        Timer(Box::pin(self.sleep_until(deadline)))
    }

    pub(crate) fn executor(&self) -> &Handle {
        self.pulse.executor()
    }

    /// Whether the executor gives turns.
    pub(crate) fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// `instant` on the wall, for display: the start's wall clock plus what has elapsed since.
    pub(crate) fn wall(&self, instant: Instant) -> SystemTime {
        let elapsed = instant.saturating_duration_since(self.started);
        self.started_wall.checked_add(elapsed).unwrap_or(self.started_wall)
    }
}

/// Is over at its deadline, or when its executor has shut down.
///
/// Tokio's own panics when it is polled behind that; the observation's end has been published then.
pub(crate) struct Timer(Pin<Box<Sleep>>);

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        poll_caught(self.0.as_mut(), context).map(|_| ())
    }
}

/// Adds without overflow: a far future is as good as never.
pub(crate) fn later(instant: Instant, by: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
    instant.checked_add(by).unwrap_or_else(|| instant + FAR)
}

#[cfg(all(test, not(watchkeeper_loom)))]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn a_timer_is_over_when_its_executor_has_shut_down() {
        let executor = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let clock = Clock::of(executor.handle().clone());
        let far = clock.now() + Duration::from_secs(3600);
        let (mut waiting, mut unpolled) = (clock.timer(far), clock.timer(far));
        let mut context = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut waiting).poll(&mut context).is_pending());
        drop(executor);
        assert!(Pin::new(&mut waiting).poll(&mut context).is_ready());
        assert!(Pin::new(&mut unpolled).poll(&mut context).is_ready());
    }
}
