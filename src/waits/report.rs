//! What a wait that was not met says.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper_fsm::{State, StopReason};

use super::evidence::Evidence;
use super::show::{Show, Shown};
use crate::duplicates::health_of;
use crate::error::no_turn;
use crate::failure::ObservationFailure;
use crate::log::{Entry, What};
use crate::observer::Observer;
use crate::status::{ObservationSnapshot, Published};
use crate::text::one_line;

/// A shown snapshot is cut behind this many characters.
const SHOWN: usize = 2_000;
/// A reason is cut behind this many bytes.
const REASON: usize = 1_000;
/// A shown event is cut behind this many characters.
const EVENT: usize = 200;

/// A wait that was not met, with what a person needs to see why.
///
/// `Display` is the report: label, window, outcome, last value, first violation, and what happened to
/// the runtime and its sources inside the window. `Debug` prints the same, so that `unwrap` in a test
/// shows it.
///
/// A Raft cluster of three nodes (`examples/openraft_kv`) whose leader was killed while another node hung:
///
/// ```text
/// not met in time: "another leader is agreed on" within 4s
///   judged 16; the last snapshot, of cycle 19:
///     leader None, present ["n3"]
///   freshness: fresh
///   lifecycle
///     +0.000s idle, cycle 3
///     +3.798s cycles 4 to 19 succeeded
///     +4.000s idle, cycle 19
///   sources: n1, n2, n3
///     n1 is stale: last answer 4.2 s ago; failed 16 times in a row, last 0.2 s ago: unreachable: Connection refused (os error 111)
///     n2 is stale: last answer 4.2 s ago; failed 1 time in a row, last 1.0 s ago: gives no answer within 3s; probe in flight for 0.7 s
/// ```
///
/// An invariant beside the same test:
///
/// ```text
/// violated: "three nodes answer"
///   first violation at +0.874s, in cycle 4:
///     leader None, present ["n2", "n3"]
///   judged 3; that was the last snapshot
///   freshness: fresh
///   lifecycle
///     +0.000s idle, cycle 1
///     +0.874s cycles 2 to 4 succeeded
///     +0.874s idle, cycle 4
///   sources: n1, n2, n3
///     n1 is failing: last answer 0.4 s ago; failed 1 time in a row, last 0.1 s ago: unreachable: Connection refused (os error 111)
/// ```
#[derive(Clone)]
pub struct Unmet(pub(super) Box<Report>);

#[derive(Clone)]
pub(super) struct Report {
    pub(super) label: String,
    pub(super) window: Option<Duration>,
    pub(super) holds: bool,
    pub(super) outcome: UnmetOutcome,
    pub(super) judged: u64,
    pub(super) last: Option<Shown>,
    pub(super) violation: Option<(Duration, Option<Shown>)>,
    pub(super) note: Option<String>,
    /// The last reason of the predicate.
    pub(super) reason: Option<String>,
    pub(super) events: Option<(u64, Vec<String>)>,
    pub(super) freshness: Freshness,
    pub(super) lifecycle: Vec<(Duration, String)>,
    pub(super) cut: bool,
    pub(super) failures: Vec<Arc<ObservationFailure>>,
    pub(super) sources: Vec<Source>,
}

/// When the data was not fresh.
#[derive(Clone)]
pub(super) struct Freshness {
    pub(super) never: bool,
    pub(super) stale: Vec<(Duration, Option<Duration>)>,
    pub(super) more: u64,
}

#[derive(Clone)]
pub(super) struct Source {
    pub(super) name: Arc<str>,
    /// How many of its probes failed inside the window.
    pub(super) failures: u64,
    /// How many have failed since it answered.
    pub(super) in_a_row: u64,
    /// What is wrong with it.
    pub(super) trouble: Option<String>,
}

/// Why a wait was not met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnmetOutcome {
    /// The window is over: fresh data was judged, and none satisfied the condition.
    NotMet,
    /// What was to hold throughout did not.
    Violated,
    /// The predicate gave up: [`Verdict::GiveUp`](super::Verdict::GiveUp). [`Unmet::reason`] says why.
    GaveUp,
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
    /// The runtime's executor gave no turn until the window was over: nobody drives it, or something blocks
    /// its thread.
    NotDriven {
        /// For how long there was no turn, at least.
        no_turn_for: Duration,
    },
    /// The runtime was paused, and no cycle that counts has succeeded.
    Paused,
    /// There was data, all of it stale when it came.
    Stale,
    /// The runtime ended inside the window.
    Stopped {
        /// Why it ended.
        reason: StopReason,
    },
    /// Not every source was asked since the start: there was neither an answer nor a failure of some, and they
    /// were not silent for long enough to say so. The report names them.
    SourcesNotAsked,
    /// The predicate of an invariant has panicked, or what was to show its snapshot.
    Panicked,
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
    /// The time for which a value is to be the same is zero, or does not fit into the window. The report says which
    /// window would do.
    Hold,
    /// The wait is for at least no sources: anything would meet it.
    NoSources,
    /// The wait is for one source, and the observer keeps nothing by source.
    NoSourceHealth,
    /// The wait had ended: its outcome was returned by an earlier poll.
    PolledAgain,
}

impl Unmet {
    /// What was waited for.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.0.label
    }

    /// How long it was waited for at most; `None` for an invariant.
    #[must_use]
    pub fn window(&self) -> Option<Duration> {
        self.0.window
    }

    /// Why it was not met.
    #[must_use]
    pub fn outcome(&self) -> UnmetOutcome {
        self.0.outcome
    }

    /// The last reason that the predicate gave, if it gave one: see [`Verdict`](super::Verdict). Escaped and
    /// bounded.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.0.reason.as_deref()
    }

    /// How many snapshots (or, for a state, publications; for a source set, refreshes) were judged.
    #[must_use]
    pub fn judged(&self) -> u64 {
        self.0.judged
    }

    /// The failures inside the window.
    #[must_use]
    pub fn failures(&self) -> &[Arc<ObservationFailure>] {
        &self.0.failures
    }

    /// Without a story, not even a lifecycle: whoever would know it is gone.
    pub(super) fn bare(label: &str, outcome: UnmetOutcome, note: Option<String>) -> Self {
        Self(Box::new(Report {
            label: label.to_owned(),
            window: None,
            holds: true,
            outcome,
            judged: 0,
            last: None,
            violation: None,
            note,
            reason: None,
            events: None,
            freshness: Freshness { never: false, stale: Vec::new(), more: 0 },
            lifecycle: Vec::new(),
            cut: false,
            failures: Vec::new(),
            sources: Vec::new(),
        }))
    }

    /// The cycle whose snapshot was the first violation; `None` if there was none, or if it was time
    /// that made it.
    #[must_use]
    pub fn first_violation(&self) -> Option<u64> {
        self.0.violation.as_ref()?.1.as_ref().map(|shown| shown.cycle)
    }
}

/// What a wait knows of itself.
pub(super) struct Frame {
    pub(super) label: String,
    pub(super) began: Instant,
    pub(super) window: Option<Duration>,
    pub(super) ended: Instant,
    pub(super) outcome: UnmetOutcome,
    pub(super) note: Option<String>,
    pub(super) holds: bool,
}

/// Puts a report together.
pub(super) fn write<O: Observer>(
    frame: Frame,
    evidence: &Evidence<O::Snapshot, O::Event>,
    (entries, cut): (&[Entry], bool),
    show: &Show<'_, O>,
) -> Unmet {
    let Frame { label, began, window, ended, outcome, note, holds } = frame;
    let since = |at: Instant| at.saturating_duration_since(began);
    let shown = |snapshot: &Arc<ObservationSnapshot<O::Snapshot>>| {
        show.show(snapshot.cycle, &snapshot.value)
            .map(|shown| Shown { text: shorten(shown.text, SHOWN), ..shown })
    };
    let mut lifecycle = vec![(Duration::ZERO, describe(&evidence.first))];
    let mut failures = Vec::new();
    for entry in entries {
        let Some((at, what)) = inside(evidence, entry, ended) else { continue };
        if let What::Failed(failure) = &what {
            failures.push(Arc::clone(failure));
        }
        lifecycle.push((since(at), what.to_string()));
    }
    lifecycle.push((since(ended), describe(&evidence.status)));
    let spans = evidence.spans.told.iter();
    let events = show.event.map(|show| {
        let shown = evidence.events.iter();
        let shown = shown.map(|(batch, index)| {
            format!("cycle {}: {}", batch.cycle, shorten(show(&batch.events[*index]), EVENT))
        });
        (evidence.event_count, shown.collect())
    });
    let reason = evidence.reason.as_ref().map(|reason| one_line(reason, REASON));
    Unmet(Box::new(Report {
        window,
        holds,
        outcome,
        judged: evidence.judged,
        last: evidence.last.as_ref().or(evidence.status.snapshot.as_ref()).and_then(shown),
        violation: evidence
            .violation
            .as_ref()
            .map(|violation| (since(violation.at), violation.snapshot.as_ref().and_then(shown))),
        note: note.or_else(|| reason.as_ref().map(|reason| format!("reason: {reason}"))),
        reason,
        events,
        freshness: Freshness {
            never: evidence.status.last_success.is_none(),
            stale: spans.map(|(from, until)| (since(*from), until.map(since))).collect(),
            more: evidence.spans.more,
        },
        lifecycle,
        cut,
        failures,
        sources: sources::<O>(&evidence.first, &evidence.status, ended),
        label,
    }))
}

/// As much of an entry as lies behind the wait's begin and before its end.
fn inside<S, E>(evidence: &Evidence<S, E>, entry: &Entry, ended: Instant) -> Option<(Instant, What)> {
    let &What::Succeeded { first, last } = &entry.what else {
        return (entry.at <= ended).then(|| (entry.at, entry.what.clone()));
    };
    // A run of successes may have begun before, and may go on behind.
    let known = evidence.first.snapshot.as_ref().map_or(0, |snapshot| snapshot.cycle + 1);
    let first = first.max(known);
    let (at, last) = match &evidence.status.snapshot {
        Some(snapshot) if entry.at > ended => (snapshot.observed_at, last.min(snapshot.cycle)),
        _ => (entry.at, last),
    };
    (first <= last && at <= ended).then_some((at, What::Succeeded { first, last }))
}

fn sources<O: Observer>(
    first: &Published<O::Snapshot>,
    last: &Published<O::Snapshot>,
    ended: Instant,
) -> Vec<Source> {
    let health = |status: &Published<O::Snapshot>, name: &str| {
        status.snapshot.as_ref().and_then(|snapshot| health_of::<O>(snapshot, name))
    };
    let source = |name: &Arc<str>| {
        let now = health(last, name);
        let before = health(first, name).map_or(0, |health| health.facts.failures);
        let failures = now.as_ref().map_or(0, |health| health.facts.failures.saturating_sub(before));
        let in_a_row = now.as_ref().map_or(0, |health| health.facts.failures_in_a_row);
        let trouble = now
            .filter(|health| health.is_failing() || !health.freshness(ended).is_fresh())
            .map(|health| health.explain(name, ended));
        Source { name: Arc::clone(name), failures, in_a_row, trouble }
    };
    last.source_names.iter().map(source).collect()
}

fn describe<S>(status: &Published<S>) -> String {
    let paused = if status.paused { ", paused" } else { "" };
    format!("{}, cycle {}{paused}", status.state, status.cycle)
}

fn shorten(mut shown: String, limit: usize) -> String {
    if let Some((end, _)) = shown.char_indices().nth(limit) {
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
            Self::Violated => f.write_str("violated"),
            Self::GaveUp => f.write_str("given up"),
            Self::Inconclusive(Inconclusive::NothingObserved) => {
                f.write_str("inconclusive (no cycle that counts has succeeded)")
            }
            Self::Inconclusive(Inconclusive::NotDriven { no_turn_for }) => {
                write!(f, "inconclusive ({})", no_turn(*no_turn_for))
            }
            Self::Inconclusive(Inconclusive::Paused) => f.write_str("inconclusive (the runtime was paused)"),
            Self::Inconclusive(Inconclusive::Stale) => f.write_str("inconclusive (the data was stale)"),
            Self::Inconclusive(Inconclusive::Stopped { reason }) => {
                write!(f, "inconclusive (the runtime has stopped: {reason})")
            }
            Self::Inconclusive(Inconclusive::SourcesNotAsked) => {
                f.write_str("inconclusive (not every source was asked since the start)")
            }
            Self::Inconclusive(Inconclusive::Panicked) => f.write_str("inconclusive (app code has panicked)"),
            Self::Inconclusive(Inconclusive::FellBehind { missed }) => {
                write!(f, "inconclusive (the waiting task missed {missed} publications)")
            }
            Self::Invalid(InvalidWait::Window) => {
                f.write_str("invalid wait (the window must be more than zero and at most 24 h)")
            }
            Self::Invalid(InvalidWait::ForeignMark) => {
                f.write_str("invalid wait (the mark is of another runtime: take one from this handle)")
            }
            Self::Invalid(InvalidWait::Hold) => f.write_str(
                "invalid wait (the time to be stable for must be more than zero and fit into the window)",
            ),
            Self::Invalid(InvalidWait::NoSources) => {
                f.write_str("invalid wait (it is for at least 0 sources: ask for one or more)")
            }
            Self::Invalid(InvalidWait::NoSourceHealth) => f.write_str(
                "invalid wait (the observer keeps nothing by source: have it implement source_health)",
            ),
            Self::Invalid(InvalidWait::PolledAgain) => {
                f.write_str("invalid wait (it has ended, and was polled again)")
            }
        }
    }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = &*self.0;
        let Report { label, outcome, judged, lifecycle, cut, .. } = report;
        write!(f, "{outcome}: {label:?}")?;
        match report.window {
            Some(window) => writeln!(f, " {} {window:?}", if report.holds { "during" } else { "within" })?,
            None => writeln!(f)?,
        }
        let note = report.note.as_deref();
        if lifecycle.is_empty() {
            return write!(f, "  {}", note.unwrap_or("nothing else is known: whoever watched it is gone"));
        }
        if let UnmetOutcome::Invalid(_) = outcome {
            return write!(f, "  {}", note.unwrap_or("nothing was judged"));
        }
        if let Some(note) = note {
            writeln!(f, "  {note}")?;
        }
        match &report.violation {
            Some((at, Some(shown))) => {
                writeln!(f, "  first violation at +{:.3}s, in cycle {}:", at.as_secs_f64(), shown.cycle)?;
                indented(f, &shown.text)?;
            }
            Some((at, None)) => writeln!(f, "  first violation at +{:.3}s", at.as_secs_f64())?,
            None => {}
        }
        write!(f, "  judged {judged}")?;
        match &report.last {
            Some(last) if report.violation_is(last) => writeln!(f, "; that was the last snapshot")?,
            Some(last) => {
                writeln!(f, "; the last snapshot, of cycle {}:", last.cycle)?;
                indented(f, &last.text)?;
            }
            None => writeln!(f, "; there is no snapshot")?,
        }
        if let Some((count, shown)) = &report.events {
            writeln!(f, "  events: {count}{}", if *count > 0 { ", the last:" } else { "" })?;
            for event in shown {
                writeln!(f, "    {event}")?;
            }
        }
        writeln!(f, "  freshness: {}", report.freshness)?;
        writeln!(f, "  lifecycle{}", if *cut { " (older entries were dropped)" } else { "" })?;
        for (at, what) in lifecycle {
            writeln!(f, "    +{:.3}s {what}", at.as_secs_f64())?;
        }
        let names: Vec<&str> = report.sources.iter().map(|source| &*source.name).collect();
        write!(f, "  sources: {}", if names.is_empty() { "none".to_owned() } else { names.join(", ") })?;
        for source in &report.sources {
            let times = if source.failures == 1 { "time" } else { "times" };
            match (&source.trouble, source.failures) {
                (None, 0) => {}
                (None, failures) => {
                    write!(f, "\n    {} has failed {failures} {times} and is fresh", source.name)?;
                }
                // A row of failures that began inside the window was told.
                (Some(trouble), failures) if failures <= source.in_a_row => write!(f, "\n    {trouble}")?,
                (Some(trouble), failures) => {
                    write!(f, "\n    {trouble}; failed {failures} {times} in the window")?;
                }
            }
        }
        Ok(())
    }
}

impl Report {
    fn violation_is(&self, last: &Shown) -> bool {
        matches!(&self.violation, Some((_, Some(first))) if first.cycle == last.cycle)
    }
}

fn indented(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    text.lines().try_for_each(|line| writeln!(f, "    {line}"))
}

impl fmt::Display for Freshness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.never {
            return f.write_str("there was no success");
        }
        if self.stale.is_empty() {
            return f.write_str("fresh");
        }
        for (nth, (from, until)) in self.stale.iter().enumerate() {
            let comma = if nth > 0 { ", " } else { "" };
            write!(f, "{comma}stale from +{:.3}s", from.as_secs_f64())?;
            if let Some(until) = until {
                write!(f, " to +{:.3}s", until.as_secs_f64())?;
            }
        }
        if self.more > 0 { write!(f, " and {} more times", self.more) } else { Ok(()) }
    }
}

impl fmt::Debug for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Unmet {}
