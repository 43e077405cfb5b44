//! The time of a runtime: the clock of its executor, or that of the records that a feed publishes.

mod fed;

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

pub(crate) use fed::Fed;
use fed::FedTimer;
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep};

use crate::panics::poll_caught;
use crate::pulse::{BothClocks, Pulse};
use crate::shield::Shield;
use crate::time::{Wall, nanos, since_1970};

/// Tokio's clock, usable from threads and executors other than the runtime's; or the clock of a feed.
///
/// Outside its executor, `Instant::now()` would ignore a paused clock and a timer would have
/// nothing to wake it.
#[derive(Clone)]
pub(crate) struct Clock {
    started: Instant,
    time: Time,
    /// A feed has an executor as well: its invariants run there.
    pulse: Arc<Pulse>,
}

#[derive(Clone)]
enum Time {
    Tokio,
    Fed(Arc<Fed>),
}

/// The largest ignored difference between the wall clock and tokio's.
const DRIFT: Duration = Duration::from_millis(1);
/// How long a reading of the wall clock is valid.
const LOOK: Duration = Duration::from_millis(1);

impl Clock {
    /// The clock of the current executor.
    pub(crate) fn of(executor: Handle) -> Self {
        let started = {
            let _entered = executor.enter();
            Instant::now()
        };
        Self { started, time: Time::Tokio, pulse: Pulse::of(executor) }
    }

    /// A clock that stands still until it is advanced.
    pub(crate) fn fed(executor: Handle, fed: &Arc<Fed>) -> Self {
        Self { started: fed.now(), time: Time::Fed(Arc::clone(fed)), pulse: Pulse::of(executor) }
    }

    pub(crate) fn is_fed(&self) -> bool {
        matches!(self.time, Time::Fed(_))
    }

    /// The time at this look.
    pub(crate) fn at(&self, look: BothClocks) -> Instant {
        match &self.time {
            Time::Tokio => look.tokio(),
            Time::Fed(fed) => fed.now(),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        if let Time::Fed(fed) = &self.time {
            return fed.now();
        }
        let _entered = self.executor().enter();
        Instant::now()
    }

    /// A sleep on the executor's clock.
    pub(crate) fn sleep_until(&self, deadline: Instant) -> Sleep {
        let _entered = self.executor().enter();
        tokio::time::sleep_until(deadline)
    }

    /// A timer that can be polled on any executor.
    pub(crate) fn timer(&self, deadline: Instant) -> Timer {
        Timer(match &self.time {
            Time::Tokio => Ticking::Tokio(Box::pin(self.sleep_until(deadline)), Shield::default()),
            Time::Fed(fed) => Ticking::Fed(FedTimer::new(Arc::clone(fed), deadline)),
        })
    }

    /// Ready when the executor owes a turn and gives none: see [`Pulse::no_turn`]. Never ready for a feed.
    pub(crate) async fn no_turn(&self, due: Option<Instant>) -> Duration {
        if self.is_fed() { pending().await } else { self.pulse.no_turn(due, false).await }
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

    /// The wall time of `instant`, for display, computed at `now`.
    ///
    /// The machine may have slept, during which tokio's clock stands still, or the wall clock may have been set. If
    /// tokio's clock runs with the system's, the wall clock is read again. A clock that is paused or was advanced by
    /// hand has its own time: that of the start plus what has elapsed since.
    pub(crate) fn wall(&self, instant: Instant, now: Instant) -> SystemTime {
        if let Time::Fed(fed) = &self.time {
            return fed.wall(instant);
        }
        let wall = &self.pulse.wall;
        let since_start = now.saturating_duration_since(self.started);
        let looked = Duration::from_nanos(wall.looked.load(Relaxed));
        if since_start.abs_diff(looked) >= LOOK {
            wall.looked.store(nanos(since_start), Relaxed);
            self.look_at_the_wall(wall, since_start);
        }
        let start = Duration::from_nanos(wall.start.load(Relaxed));
        let shown = start + since_start;
        let shown = match instant.checked_duration_since(now) {
            Some(to_come) => shown.saturating_add(to_come),
            None => shown.saturating_sub(now - instant),
        };
        since_epoch(shown)
    }

    /// Reads the wall clock again, `since_start` after the start on tokio's clock.
    #[cold]
    fn look_at_the_wall(&self, wall: &Wall, since_start: Duration) {
        let start = Duration::from_nanos(wall.start.load(Relaxed));
        if (start + since_start).abs_diff(since_1970()) > DRIFT
            && let Some(now) = self.now_if_running()
        {
            let start = since_1970().saturating_sub(now.saturating_duration_since(self.started));
            wall.start.store(nanos(start), Relaxed);
        }
    }

    /// The time, if tokio's clock runs with the system's.
    fn now_if_running(&self) -> Option<Instant> {
        let before = std::time::Instant::now();
        let now = self.now();
        (before..=std::time::Instant::now()).contains(&now.into_std()).then_some(now)
    }
}

/// Times after the year 9999 are shown as its end.
fn since_epoch(since: Duration) -> SystemTime {
    const LAST: Duration = Duration::from_secs(253_402_300_799);
    SystemTime::UNIX_EPOCH + since.min(LAST)
}

/// Ends at its deadline, or when its executor has shut down.
///
/// Tokio's timer panics when polled after the shutdown; the observation's end is published by then.
pub(crate) struct Timer(Ticking);

enum Ticking {
    /// Tokio's driver wakes many waiters in one call: hence the shield.
    Tokio(Pin<Box<Sleep>>, Shield),
    Fed(FedTimer),
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Ticking::Tokio(sleep, shield) => {
                let waker = shield.over(context.waker());
                poll_caught(sleep.as_mut(), &mut Context::from_waker(&waker)).map(|_| ())
            }
            Ticking::Fed(timer) => timer.poll(context.waker()),
        }
    }
}

#[cfg(all(test, not(watchkeeper_loom)))]
mod tests {
    use std::task::Waker;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// As if the wall clock had been set by an hour since it was last read, or the machine had slept for an hour.
    fn off_by_an_hour(clock: &Clock, forward: bool) {
        let wall = &clock.pulse.wall;
        let change = |start| Some(if forward { start - nanos(HOUR) } else { start + nanos(HOUR) });
        wall.start.fetch_update(Relaxed, Relaxed, change).expect("the change is never refused");
        wall.looked.store(u64::MAX, Relaxed);
    }

    #[tokio::test]
    async fn a_wall_clock_that_was_set_is_read_again() {
        for forward in [true, false] {
            let clock = Clock::of(Handle::current());
            off_by_an_hour(&clock, forward);
            let before = SystemTime::now();
            let now = clock.now();
            let (shown, after) = (clock.wall(now, now), SystemTime::now());
            assert!(
                before - DRIFT <= shown && shown <= after + DRIFT,
                "{shown:?} in {before:?} to {after:?}"
            );
            assert_eq!(clock.wall(now + HOUR, now), shown + HOUR, "one that is to come");
            let earlier = now.checked_sub(Duration::from_secs(1)).unwrap();
            assert_eq!(clock.wall(earlier, now), shown - Duration::from_secs(1), "one from before the start");
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

    #[tokio::test(start_paused = true)]
    async fn a_record_that_is_read_late_has_the_time_of_what_it_is_of() {
        let probe = |_| async { Ok::<_, crate::DynError>(0) };
        let runtime = crate::observe(HOUR, [("n1", ())], probe).await.unwrap();
        let mut tap = runtime.handle().tap(crate::subscription::TapLimits::default());
        runtime.poll_now_and_wait().await.unwrap();
        off_by_an_hour(&runtime.handle().shared.clock, true);
        let record = loop {
            let record = tap.recv().await.unwrap();
            if record.snapshot.is_some() {
                break record;
            }
        };
        assert_eq!(Some(record.system_time), record.snapshot.map(|snapshot| snapshot.system_time));
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
