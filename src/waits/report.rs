//! What a wait that was not met says.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper_fsm::{State, StopReason};

use crate::failure::ObservationFailure;
use crate::log::{Entry, What};
use crate::status::{ObservationSnapshot, Published};

/// A shown snapshot is cut behind this many characters.
const SHOWN: usize = 2_000;

/// A wait that was not met, with what a person needs to see why.
///
/// `Display` is the report: label, window, outcome, last value, and what happened to the runtime
/// inside the window. `Debug` prints the same, so that `unwrap` in a test shows it.
///
/// ```text
/// not met in time: "a leader is agreed" within 10s
///   judged 12; the last snapshot, of cycle 41:
///     Cluster { leader: None, fresh: 2 }
///   lifecycle
///     +0.000s idle, cycle 29
///     +7.250s cycles 30 to 41 succeeded
///     +7.512s cycle 42 failed in poll: connection refused
///     +10.000s failed (poll, 3 in a row), cycle 44
///   sources: n1, n2, n3
/// ```
#[derive(Clone)]
pub struct Unmet(Box<Report>);

#[derive(Clone)]
struct Report {
    label: String,
    window: Duration,
    outcome: UnmetOutcome,
    judged: u64,
    last: Option<(u64, String)>,
    lifecycle: Vec<(Duration, String)>,
    cut: bool,
    failures: Vec<Arc<ObservationFailure>>,
    sources: Vec<Arc<str>>,
}

/// Why a wait was not met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnmetOutcome {
    /// The window is over: fresh data was judged, and none satisfied the condition.
    NotMet,
    /// Nothing can be said: the condition may or may not have held.
    Inconclusive(Inconclusive),
    /// The wait itself makes no sense.
    Invalid(InvalidWait),
}

/// Why nothing can be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Inconclusive {
    /// No cycle that counts has succeeded inside the window.
    NothingObserved,
    /// The runtime was paused, and no cycle that counts has succeeded.
    Paused,
    /// There was data, all of it stale when it came.
    Stale,
    /// The runtime ended inside the window.
    Stopped {
        /// Why it ended.
        reason: StopReason,
    },
    /// The waiting task did not keep up, and some publications were not judged.
    FellBehind {
        /// How many.
        missed: u64,
    },
}

/// Why a wait makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidWait {
    /// The window is zero or over 24 h.
    Window,
    /// The mark was taken from another runtime.
    ForeignMark,
}

impl Unmet {
    /// What was waited for.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.0.label
    }

    /// How long it was waited for at most.
    #[must_use]
    pub fn window(&self) -> Duration {
        self.0.window
    }

    /// Why it was not met.
    #[must_use]
    pub fn outcome(&self) -> UnmetOutcome {
        self.0.outcome
    }

    /// How many snapshots (or, for a state, publications) were judged.
    #[must_use]
    pub fn judged(&self) -> u64 {
        self.0.judged
    }

    /// The failures inside the window.
    #[must_use]
    pub fn failures(&self) -> &[Arc<ObservationFailure>] {
        &self.0.failures
    }
}

/// What a wait has seen so far.
pub(super) struct Evidence<S> {
    /// The status when the wait was made.
    pub(super) first: Arc<Published<S>>,
    /// The status behind the last publication.
    pub(super) status: Arc<Published<S>>,
    pub(super) judged: u64,
    pub(super) missed: u64,
    stale: u64,
    last: Option<Arc<ObservationSnapshot<S>>>,
}

impl<S> Evidence<S> {
    pub(super) fn new(first: Arc<Published<S>>) -> Self {
        Self { status: Arc::clone(&first), first, judged: 0, missed: 0, stale: 0, last: None }
    }

    pub(super) fn saw(&mut self, snapshot: &Arc<ObservationSnapshot<S>>, fresh: bool) {
        if fresh {
            self.judged += 1;
            self.last = Some(Arc::clone(snapshot));
        } else {
            self.stale += 1;
        }
    }

    /// The outcome when the window is over.
    pub(super) fn at_the_end(&self) -> UnmetOutcome {
        let reason = if self.missed > 0 {
            Inconclusive::FellBehind { missed: self.missed }
        } else if self.judged > 0 {
            return UnmetOutcome::NotMet;
        } else if self.stale > 0 {
            Inconclusive::Stale
        } else if self.status.paused {
            Inconclusive::Paused
        } else {
            Inconclusive::NothingObserved
        };
        UnmetOutcome::Inconclusive(reason)
    }

    pub(super) fn report(
        &self,
        label: String,
        (began, window, ended): (Instant, Duration, Instant),
        outcome: UnmetOutcome,
        (entries, cut): (&[Entry], bool),
        show: Option<&(dyn Fn(&S) -> String + Send + '_)>,
    ) -> Unmet {
        let last = self.last.as_ref().or(self.status.snapshot.as_ref());
        let last = last.zip(show).map(|(last, show)| (last.cycle, shorten(show(&last.value))));
        let mut lifecycle = vec![(Duration::ZERO, describe(&self.first))];
        let mut failures = Vec::new();
        for entry in entries {
            let Some((at, what)) = self.inside(entry, ended) else { continue };
            if let What::Failed(failure) = &what {
                failures.push(Arc::clone(failure));
            }
            lifecycle.push((at.saturating_duration_since(began), what.to_string()));
        }
        lifecycle.push((ended.saturating_duration_since(began), describe(&self.status)));
        let sources = self.status.source_names.to_vec();
        let judged = self.judged;
        Unmet(Box::new(Report { label, window, outcome, judged, last, lifecycle, cut, failures, sources }))
    }

    /// As much of an entry as lies behind the wait's begin and before its end.
    fn inside(&self, entry: &Entry, ended: Instant) -> Option<(Instant, What)> {
        let &What::Succeeded { first, last } = &entry.what else {
            return (entry.at <= ended).then(|| (entry.at, entry.what.clone()));
        };
        // A run of successes may have begun before, and may go on behind.
        let known = self.first.snapshot.as_ref().map_or(0, |snapshot| snapshot.cycle + 1);
        let first = first.max(known);
        let (at, last) = match &self.status.snapshot {
            Some(snapshot) if entry.at > ended => (snapshot.observed_at, last.min(snapshot.cycle)),
            _ => (entry.at, last),
        };
        (first <= last && at <= ended).then_some((at, What::Succeeded { first, last }))
    }
}

fn describe<S>(status: &Published<S>) -> String {
    let paused = if status.paused { ", paused" } else { "" };
    format!("{}, cycle {}{paused}", status.state, status.cycle)
}

fn shorten(mut shown: String) -> String {
    if let Some((end, _)) = shown.char_indices().nth(SHOWN) {
        let rest = shown[end..].chars().count();
        shown.truncate(end);
        let _ = write!(shown, " ... ({rest} more characters)");
    }
    shown
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |names: &[Arc<str>]| names.join(", ");
        match self {
            Self::Succeeded { first, last, .. } if first == last => write!(f, "cycle {first} succeeded"),
            Self::Succeeded { first, last, .. } => write!(f, "cycles {first} to {last} succeeded"),
            Self::Failed(failure) => failure.fmt(f),
            Self::Sources(change) => {
                let joined =
                    (!change.joined.is_empty()).then(|| format!("joined: {}", names(&change.joined)));
                let left = (!change.left.is_empty()).then(|| format!("left: {}", names(&change.left)));
                match (joined, left) {
                    (Some(joined), Some(left)) => write!(f, "sources {joined}; {left}"),
                    (Some(one), None) | (None, Some(one)) => write!(f, "sources {one}"),
                    (None, None) => f.write_str("sources in another order"),
                }
            }
            Self::Paused => f.write_str("paused"),
            Self::Resumed => f.write_str("resumed"),
            Self::Entered(State::Starting) => f.write_str("starting: the observer's state is built anew"),
            Self::Entered(state) => state.fmt(f),
        }
    }
}

impl fmt::Display for UnmetOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMet => f.write_str("not met in time"),
            Self::Inconclusive(Inconclusive::NothingObserved) => {
                f.write_str("inconclusive (no cycle that counts has succeeded)")
            }
            Self::Inconclusive(Inconclusive::Paused) => f.write_str("inconclusive (the runtime was paused)"),
            Self::Inconclusive(Inconclusive::Stale) => f.write_str("inconclusive (all data was stale)"),
            Self::Inconclusive(Inconclusive::Stopped { reason }) => {
                write!(f, "inconclusive (the runtime has stopped: {reason})")
            }
            Self::Inconclusive(Inconclusive::FellBehind { missed }) => {
                write!(f, "inconclusive (the waiting task missed {missed} publications)")
            }
            Self::Invalid(InvalidWait::Window) => {
                f.write_str("invalid wait (the window must be more than zero and at most 24 h)")
            }
            Self::Invalid(InvalidWait::ForeignMark) => {
                f.write_str("invalid wait (the mark is of another runtime: take one from this handle)")
            }
        }
    }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { label, window, outcome, judged, last, lifecycle, cut, sources, .. } = &*self.0;
        writeln!(f, "{outcome}: {label:?} within {window:?}")?;
        write!(f, "  judged {judged}")?;
        match last {
            Some((cycle, shown)) => {
                writeln!(f, "; the last snapshot, of cycle {cycle}:")?;
                for line in shown.lines() {
                    writeln!(f, "    {line}")?;
                }
            }
            None => writeln!(f, "; there is no snapshot")?,
        }
        writeln!(f, "  lifecycle{}", if *cut { " (older entries were dropped)" } else { "" })?;
        for (at, what) in lifecycle {
            writeln!(f, "    +{:.3}s {what}", at.as_secs_f64())?;
        }
        write!(f, "  sources: {}", if sources.is_empty() { "none".to_owned() } else { sources.join(", ") })
    }
}

impl fmt::Debug for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Unmet {}
