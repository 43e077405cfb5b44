//! Measurements: both clocks, and how long app code or an executor gave no turn.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant as RealInstant};

use tokio::runtime::Handle;
use tokio::time::Instant;

/// Both clocks, read together.
#[derive(Clone, Copy)]
pub(crate) struct BothClocks {
    pub(super) real: RealInstant,
    pub(super) tokio: Instant,
}

impl BothClocks {
    pub(crate) fn at(executor: &Handle) -> Self {
        let _entered = executor.enter();
        Self { tokio: Instant::now(), real: RealInstant::now() }
    }

    pub(crate) fn tokio(self) -> Instant {
        self.tokio
    }

    /// The time until `later`, on tokio's clock and on the system's.
    pub(crate) fn until(self, later: Self) -> (Duration, Duration) {
        (later.tokio.saturating_duration_since(self.tokio), later.real - self.real)
    }

    /// Whether tokio's clock ran along with the system's until `later`, within a tenth.
    pub(crate) fn ran_along(self, later: Self) -> bool {
        let (tokio, real) = self.until(later);
        tokio.abs_diff(real) <= real / 10
    }
}

/// Counts how often app code was entered and left: odd while it runs. There is one writer.
#[derive(Default)]
pub(crate) struct Turns(AtomicU64);

impl Turns {
    /// Runs app code.
    pub(crate) fn inside<T>(&self, app: impl FnOnce() -> T) -> T {
        struct Leave<'a>(&'a Turns);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.step();
            }
        }
        self.step();
        let _leave = Leave(self);
        app()
    }

    fn step(&self) {
        self.0.store(self.0.load(Relaxed).wrapping_add(1), Relaxed);
    }
}

/// How long the same turn of app code has lasted, as far as looks have seen.
#[derive(Default)]
pub(super) struct Meter {
    turn: u64,
    since: Option<BothClocks>,
    pub(super) logged: bool,
}

impl Meter {
    /// Takes a look.
    pub(super) fn look(&mut self, turns: &Turns, now: BothClocks) {
        let turn = turns.0.load(Relaxed);
        let runs = turn % 2 == 1;
        let goes_on = runs && turn == self.turn && self.since.is_some_and(|since| since.ran_along(now));
        if !goes_on {
            *self = Self { turn, since: runs.then_some(now), logged: self.logged && turn == self.turn };
        }
    }

    /// How long the turn has lasted at `now`, if it still lasts.
    pub(super) fn lasted(&self, turns: &Turns, now: BothClocks) -> Option<Duration> {
        let since = self.since.filter(|since| turns.0.load(Relaxed) == self.turn && since.ran_along(now))?;
        Some(now.real - since.real)
    }
}

/// A time without turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stall {
    pub(super) long: Duration,
    /// No task of the executor had a turn; otherwise only one task had none.
    pub(super) executor: bool,
    pub(super) by: Culprit,
}

/// The code that blocks a thread, as far as it is visible from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Culprit {
    Predicate,
    /// The provider or the observer, in the driver's own task.
    Driver,
    Unknown,
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let long = self.long.as_secs_f64();
        match (self.executor, self.by) {
            (true, Culprit::Predicate) => {
                write!(f, "the executor gave no turn for {long:.1} s: a predicate blocks its thread")
            }
            (true, Culprit::Driver) => {
                write!(f, "the executor gave no turn for {long:.1} s: a probe blocks its thread")
            }
            (true, Culprit::Unknown) => write!(
                f,
                "the executor gave no turn for {long:.1} s: a probe blocks its thread, or another task does, or nobody \
                 drives it"
            ),
            (false, Culprit::Predicate) => write!(f, "a predicate blocked its thread for {long:.1} s"),
            (false, _) => {
                write!(f, "the observation had no turn for {long:.1} s: a probe blocks its thread")
            }
        }?;
        f.write_str(" (blocking work belongs into spawn_blocking)")
    }
}

#[cfg(all(test, not(watchkeeper_loom)))]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Makes looks from the times of both clocks, in milliseconds.
    fn looks() -> impl Fn(u64, u64) -> BothClocks {
        let (real_start, tokio_start) = (RealInstant::now(), Instant::now());
        move |real, tokio| BothClocks { real: real_start + ms(real), tokio: tokio_start + ms(tokio) }
    }

    #[test]
    fn clocks_run_along_within_a_tenth() {
        let at = looks();
        for (tokio, along) in [(899, false), (900, true), (1_000, true), (1_100, true), (1_101, false)] {
            assert_eq!(at(0, 0).ran_along(at(1_000, tokio)), along, "{tokio} ms in a second");
        }
    }

    #[test]
    fn a_turn_lasts_since_it_was_first_seen_on_a_running_clock() {
        let (at, turns, mut meter) = (looks(), Turns::default(), Meter::default());
        meter.look(&turns, at(0, 0));
        assert_eq!(meter.lasted(&turns, at(100, 100)), None, "nothing runs");
        turns.inside(|| {
            meter.look(&turns, at(200, 200));
            meter.look(&turns, at(300, 300));
            assert_eq!(meter.lasted(&turns, at(500, 500)), Some(ms(300)));
            assert_eq!(meter.lasted(&turns, at(900, 500)), None, "tokio's clock stood still");
            meter.logged = true;
            meter.look(&turns, at(900, 500));
            assert_eq!(meter.lasted(&turns, at(1_000, 600)), Some(ms(100)), "since it runs again");
            assert!(meter.logged, "it is the same turn");
        });
        assert_eq!(meter.lasted(&turns, at(1_000, 600)), None, "it is over");
        turns.inside(|| {
            assert_eq!(meter.lasted(&turns, at(1_000, 600)), None, "another one, not seen yet");
            meter.look(&turns, at(1_000, 600));
            assert_eq!(meter.lasted(&turns, at(1_010, 610)), Some(ms(10)));
            assert!(!meter.logged, "another turn");
        });
        meter.look(&turns, at(1_100, 700));
        assert_eq!(meter.lasted(&turns, at(1_200, 800)), None);
    }
}
