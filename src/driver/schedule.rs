//! When the next cycle is due. Time is an argument.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::{Backoff, Retry};
use crate::time::later;

/// The grid of ticks, and the delays of retries beside it.
pub(crate) struct Schedule {
    /// Point 0 of the grid.
    origin: Instant,
    interval: Duration,
    /// The first point that neither fired nor was passed over.
    next: u64,
    /// The instant of `next`.
    next_at: Instant,
    missed: u64,
    retry: Retry,
    jitter: fastrand::Rng,
    /// The cycle in flight was requested; the schedule did not start it.
    asked: bool,
    /// How many delays the backoff has used since the last success.
    delays: u64,
    /// When the last delay ends.
    retry_at: Option<Instant>,
}

impl Schedule {
    /// A grid through `start + offset`. The start itself is cycle 0's.
    pub(crate) fn new(start: Instant, interval: Duration, offset: Duration, retry: Retry) -> Self {
        let seed = if let Retry::Backoff(Backoff { seed, .. }) = retry { seed } else { 0 };
        let (origin, next) = (later(start, offset), u64::from(offset.is_zero()));
        Self {
            origin,
            interval,
            next,
            next_at: point(origin, interval, next),
            missed: 0,
            retry,
            jitter: fastrand::Rng::with_seed(seed),
            asked: false,
            delays: 0,
            retry_at: None,
        }
    }

    /// How many points were missed because a cycle took too long.
    pub(crate) fn missed(&self) -> u64 {
        self.missed
    }

    /// Whether retries have their own delays.
    pub(crate) fn backs_off(&self) -> bool {
        matches!(self.retry, Retry::Backoff(_))
    }

    /// The next point was reached.
    pub(crate) fn fired(&mut self) {
        self.go_to(self.next + 1);
    }

    fn go_to(&mut self, next: u64) {
        self.next = next;
        self.next_at = point(self.origin, self.interval, next);
    }

    /// Passes over points up to `now` that did not fire. They count as missed, unless `on_purpose`.
    pub(crate) fn pass(&mut self, now: Instant, on_purpose: bool) {
        if now < self.next_at {
            return;
        }
        let reached = now.checked_duration_since(self.origin).map_or(0, |since| {
            // A run of 24 h intervals overflows neither count.
            u64::try_from(since.as_nanos() / self.interval.as_nanos()).unwrap_or(u64::MAX - 1) + 1
        });
        if reached > self.next {
            self.missed += if on_purpose { 0 } else { reached - self.next };
            self.go_to(reached);
        }
    }

    /// The first point of the grid after `now`.
    pub(crate) fn next_tick(&mut self, now: Instant) -> Instant {
        self.pass(now, false);
        self.next_at
    }

    /// A cycle begins: `asked` if it was requested, otherwise it was due.
    pub(crate) fn begins(&mut self, asked: bool) {
        self.asked = asked;
    }

    /// A cycle has succeeded: the backoff starts over.
    pub(crate) fn succeeded(&mut self) {
        self.delays = 0;
    }

    /// A cycle has failed.
    ///
    /// A requested cycle that fails during a delay leaves the delay unchanged. If the delay ended before the cycle
    /// did, the cycle counts as the retry.
    pub(crate) fn failed(&mut self, now: Instant, paused: bool) {
        let waited_for = !paused && self.retry_at.is_none_or(|at| at <= now);
        if !self.asked || waited_for || self.delays == 0 {
            self.delays = self.delays.saturating_add(1);
            self.delay(now);
        }
    }

    /// When to retry after a failed cycle, if the retry has its own delay. A pause ends the delay; resuming begins
    /// one of the same length.
    pub(crate) fn next_try(&mut self, now: Instant, resumed: bool) -> Option<Instant> {
        if resumed {
            self.delay(now);
        }
        self.retry_at
    }

    fn delay(&mut self, now: Instant) {
        let Retry::Backoff(backoff) = self.retry else { return };
        self.retry_at = Some(later(now, backoff.delay(self.delays, self.jitter.f64())));
    }
}

/// Point `nth` of a grid.
fn point(origin: Instant, interval: Duration, nth: u64) -> Instant {
    let nanos = interval.as_nanos().saturating_mul(u128::from(nth));
    later(origin, Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    //  start  .  1 s  .  2 s  .  3 s  .  4 s
    //    0       |       |       |       |
    #[test]
    fn the_next_point_behind_now_is_taken_and_the_passed_ones_are_missed() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, SECOND, Duration::ZERO, Retry::NextTick);
        // (now, expected tick, missed so far)
        for (now, tick, missed) in [(10, 1000, 0), (1010, 2000, 0), (4200, 5000, 2), (5000, 6000, 2)] {
            assert_eq!(schedule.next_tick(at(start, now)), at(start, tick), "at {now} ms");
            assert_eq!(schedule.missed(), missed, "at {now} ms");
            schedule.fired();
        }
    }

    #[test]
    fn a_point_that_comes_to_pass_during_a_cycle_is_missed_even_when_its_tick_was_never_armed() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, SECOND, Duration::ZERO, Retry::NextTick);
        assert_eq!(schedule.next_tick(at(start, 1000)), at(start, 2000), "cycle 0 ended on the point");
        assert_eq!(schedule.missed(), 1);
    }

    #[test]
    fn an_offset_moves_the_grid_and_not_the_start() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, SECOND, at(start, 300) - start, Retry::NextTick);
        assert_eq!(schedule.next_tick(at(start, 1)), at(start, 300));
        schedule.fired();
        assert_eq!(schedule.next_tick(at(start, 301)), at(start, 1300));
    }

    #[test]
    fn points_passed_on_purpose_are_not_missed() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, SECOND, Duration::ZERO, Retry::NextTick);
        schedule.pass(at(start, 2500), false);
        schedule.pass(at(start, 8500), true);
        assert_eq!(schedule.next_tick(at(start, 9500)), at(start, 10_000));
        assert_eq!(schedule.missed(), 3, "1 s and 2 s before, 9 s after");
    }

    /// The delays after this many failures of cycles that were not requested.
    fn delays(start: Instant, backoff: Backoff, failures: u64) -> Vec<Duration> {
        let mut schedule = Schedule::new(start, SECOND, Duration::ZERO, Retry::Backoff(backoff));
        let mut delay = || {
            schedule.failed(start, false);
            schedule.next_try(start, false).unwrap() - start
        };
        (0..failures).map(|_| delay()).collect()
    }

    #[test]
    fn backoff_doubles_up_to_its_cap_and_jitter_only_shortens() {
        let start = Instant::now();
        let backoff = Backoff { first: SECOND, max: 5 * SECOND, jitter: 0.0, seed: 1 };
        let plain = delays(start, backoff, 100);
        assert_eq!(plain[..5], [SECOND, 2 * SECOND, 4 * SECOND, 5 * SECOND, 5 * SECOND]);
        assert_eq!(plain[99], 5 * SECOND);

        let jittered = Backoff { jitter: 0.5, ..backoff };
        let drawn = delays(start, jittered, 20);
        assert_eq!(drawn, delays(start, jittered, 20), "the same seed gives the same delays");
        for (n, (delay, full)) in drawn.iter().zip(&plain).enumerate() {
            assert!(delay <= full && *delay >= *full / 2, "failure {n}: {delay:?} of {full:?}");
        }
        assert!(drawn[3..].iter().any(|delay| *delay != drawn[3]), "{drawn:?}");
    }

    //    0    1 s          3 s                      7 s
    //    |    |            |                        |
    //    F  a F  a  a      F a a     a              F     a: asked for, and fails
    #[test]
    fn what_was_asked_for_neither_shortens_nor_lengthens_a_delay() {
        let start = Instant::now();
        let backoff = Backoff { first: SECOND, max: 60 * SECOND, jitter: 0.0, seed: 1 };
        let mut schedule = Schedule::new(start, SECOND, Duration::ZERO, Retry::Backoff(backoff));
        // (when it failed, asked for, paused, the retry that is due)
        let steps = [
            (0, true, false, 1000),
            (500, true, false, 1000),
            (1000, false, false, 3000),
            (1500, true, false, 3000),
            (2500, true, false, 3000),
            // It ended when the delay was over, so it counts as the retry.
            (3000, true, false, 7000),
            (7500, true, true, 7000),
            (8000, false, false, 16_000),
        ];
        for (millis, asked, paused, due) in steps {
            schedule.begins(asked);
            schedule.failed(at(start, millis), paused);
            assert_eq!(schedule.next_try(at(start, millis), false), Some(at(start, due)), "at {millis} ms");
        }
        assert_eq!(schedule.next_try(at(start, 9000), true), Some(at(start, 17_000)), "as long as before");
        schedule.succeeded();
        schedule.begins(true);
        schedule.failed(at(start, 20_000), false);
        assert_eq!(schedule.next_try(at(start, 20_000), false), Some(at(start, 21_000)));
    }
}
