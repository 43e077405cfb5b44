//! The clock of the executor a runtime was started on.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep};

use crate::panics::poll_caught;
use crate::pulse::Pulse;
use crate::shield::Shield;

/// Tokio's clock, also for threads and executors that are not the runtime's own.
///
/// Outside its executor, `Instant::now()` would ignore a paused clock and a timer would have
/// nothing to wake it.
#[derive(Clone)]
pub(crate) struct Clock {
    executor: Handle,
    started: Instant,
    wall: Arc<Mutex<Wall>>,
    pulse: Arc<Pulse>,
}

/// What a clock on the wall showed at some instant of tokio's clock.
#[derive(Clone, Copy, Debug)]
struct Wall {
    at: Instant,
    time: SystemTime,
}

/// How far wall and tokio's clock may be apart before that is looked into.
const DRIFT: Duration = Duration::from_millis(1);

impl Wall {
    /// What it shows at another instant, if nobody sets it in between.
    fn at(self, instant: Instant) -> SystemTime {
        let shown = match instant.checked_duration_since(self.at) {
            Some(behind) => self.time.checked_add(behind),
            None => self.time.checked_sub(self.at - instant),
        };
        shown.unwrap_or(self.time)
    }

    /// Whether it shows something else now than was to be expected.
    fn is_off(self, now: Instant, time: SystemTime) -> bool {
        let expected = self.at(now);
        let off = time.duration_since(expected).or_else(|_| expected.duration_since(time));
        off.is_ok_and(|off| off > DRIFT)
    }
}

impl Clock {
    /// The clock of the current executor.
    pub(crate) fn of(executor: Handle) -> Self {
        let started = {
            let _entered = executor.enter();
            Instant::now()
        };
        let wall = Wall { at: started, time: SystemTime::now() };
        let pulse = Pulse::of(executor.clone());
        Self { executor, started, wall: Arc::new(Mutex::new(wall)), pulse }
    }

    pub(crate) fn now(&self) -> Instant {
        let _entered = self.executor.enter();
        Instant::now()
    }

    pub(crate) fn sleep_until(&self, deadline: Instant) -> Sleep {
        let _entered = self.executor.enter();
        tokio::time::sleep_until(deadline)
    }

    /// For those who wait on whatever executor.
    pub(crate) fn timer(&self, deadline: Instant) -> Timer {
        Timer { sleep: Box::pin(self.sleep_until(deadline)), shield: Shield::default() }
    }

    pub(crate) fn executor(&self) -> &Handle {
        &self.executor
    }

    /// Whether the executor gives turns.
    pub(crate) fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// `instant` on the wall, for display, asked at `now`.
    ///
    /// The machine may have slept in between, in which tokio's clock stands still, or its clock was set: where
    /// tokio's clock runs with the system's, the wall's is read again. A clock that is paused or was advanced by
    /// hand has a time of its own, which is the start's and what has elapsed since.
    pub(crate) fn wall(&self, instant: Instant, now: Instant) -> SystemTime {
        let mut wall = self.wall.lock().unwrap_or_else(PoisonError::into_inner);
        if wall.is_off(now, SystemTime::now())
            && let Some(at) = self.now_if_running()
        {
            *wall = Wall { at, time: SystemTime::now() };
        }
        wall.at(instant)
    }

    /// The time, if tokio's clock runs with the system's.
    fn now_if_running(&self) -> Option<Instant> {
        let before = std::time::Instant::now();
        let now = self.now();
        (before..=std::time::Instant::now()).contains(&now.into_std()).then_some(now)
    }
}

/// Is over at its deadline, or when its executor has shut down.
///
/// Tokio's own panics when it is polled behind that; the observation's end has been published then.
pub(crate) struct Timer {
    sleep: Pin<Box<Sleep>>,
    /// Tokio's driver wakes those who wait, all in one go.
    shield: Shield,
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let waker = self.shield.over(context.waker());
        poll_caught(self.sleep.as_mut(), &mut Context::from_waker(&waker)).map(|_| ())
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

    const HOUR: Duration = Duration::from_secs(3600);

    /// As if the wall's clock had been set by an hour since the start, or the machine had slept for one.
    fn off_by_an_hour(clock: &Clock, forward: bool) {
        let mut wall = clock.wall.lock().unwrap();
        wall.time = if forward { wall.time - HOUR } else { wall.time + HOUR };
    }

    #[tokio::test]
    async fn a_wall_clock_that_was_set_is_read_again() {
        for forward in [true, false] {
            let clock = Clock::of(Handle::current());
            off_by_an_hour(&clock, forward);
            let now = clock.now();
            let (before, shown, after) = (SystemTime::now(), clock.wall(now, now), SystemTime::now());
            assert!(
                before - DRIFT <= shown && shown <= after + DRIFT,
                "{shown:?} in {before:?} to {after:?}"
            );
            assert_eq!(clock.wall(now + HOUR, now), shown + HOUR, "one that is to come");
            assert_eq!(clock.wall(now - HOUR / 2, now), shown - HOUR / 2, "one from before the start");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_clock_has_a_time_of_its_own() {
        let clock = Clock::of(Handle::current());
        let start = clock.wall(clock.started(), clock.now());
        for hours in [0, 1, 2] {
            let now = clock.now();
            assert_eq!(clock.wall(now, now), start + hours * HOUR);
            tokio::time::advance(HOUR).await;
        }
        off_by_an_hour(&clock, true);
        assert_eq!(clock.wall(clock.started(), clock.now()), start - HOUR, "it does not look at the wall");
    }

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
