//! The report of a wait that was not met.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::changes::{Changed, Changes, Shower, changes};
use super::evidence::Evidence;
use super::outcome::UnmetOutcome;
use super::show::{ReportedSnapshot, Show};
use super::story::{self, Lifecycle, Sources};
use crate::error::ObservationFailure;
use crate::observer::Observer;
use crate::panics::catch;
use crate::publish::shared::Logged;
use crate::status::ObservationSnapshot;
use crate::text::error_chain::keep_lines_of;
use crate::text::{LABEL, one_line, prefix, quoted};

/// Bytes of the whole text.
const TEXT: usize = 16 * 1_024;
/// Bytes of a snapshot, including indentation.
const SNAPSHOT: usize = 2_000;
/// Bytes of an event.
pub(super) const EVENT: usize = 160;
/// Bytes of a reason.
const REASON: usize = 1_000;
/// Bytes of an operator's note.
const NOTE: usize = 1_200;
/// Bytes of the lines about sources, not counting the last one.
const SOURCES: usize = 1_500;
/// Indentation under a heading.
const INDENT: &str = "    ";

/// The report of a wait that was not met.
///
/// `Display` prints the label, window, outcome, last value, first violation, changes inside the window, and the
/// lifecycle of the runtime and of its sources. `Debug` prints the same, so that `unwrap` in a test shows it.
///
/// The text has at most 16 KiB: 2,000 bytes of a snapshot, the last eight changes, the newest part of the lifecycle,
/// the first sources in trouble. Omitted parts are counted. Names, errors and values are escaped; a repeated error is
/// printed once.
///
/// Changes are found by comparing the texts of the newest nine snapshots of cycles with events, up to 16 KiB each. If
/// the observer emits no events, the newest nine snapshots are compared, and eight older ones spread over the window;
/// a change between two of these has the time of the later one. Snapshots are rendered once, after the wait has
/// failed. They are compared as published, including data that does not count for the wait, but without moments
/// (`Instant`). If the app's own [`show`](super::WaitBuilder::show) makes more than 16 KiB, nothing is compared.
///
/// A Raft cluster of three nodes (`examples/openraft_kv`) after its leader was killed while another node hung:
///
/// ```text
/// not met in time: "another leader is agreed on" within 4s
///   judged 16; the last snapshot, of cycle 21:
///     leader None, present ["n3"]
///   changes
///     +0.259s leader Some("n1"), present ["n1", "n2", "n3"] -> leader None, present ["n2", "n3"]
///     +0.887s leader None, present ["n2", "n3"] -> leader None, present ["n3"]
///   freshness: fresh
///   lifecycle
///     +0.000s idle, cycle 5
///     +3.882s cycles 6 to 21 succeeded
///     +4.000s idle, cycle 21
///   sources: n1, n2, n3
///     n1 is stale: last answer 4.1 s ago; 16 consecutive failures, last 0.1 s ago: unreachable: Connection refused (os error 111)
///     n2 is stale: last answer 4.1 s ago; 1 consecutive failure, last 0.9 s ago: gives no answer within 3s; probe in flight for 0.6 s
/// ```
///
/// An invariant beside the same test:
///
/// ```text
/// violated: "three nodes answer"
///   first violation at +0.892s, in cycle 6:
///     leader None, present ["n2", "n3"]
///   judged 4; that was the last snapshot
///   changes
///     +0.892s leader Some("n1"), present ["n1", "n2", "n3"] -> leader None, present ["n2", "n3"]
///   freshness: fresh
///   lifecycle
///     +0.000s idle, cycle 2
///     +0.892s cycles 3 to 6 succeeded
///     +0.892s idle, cycle 6
///   sources: n1, n2, n3
///     n1 is failing: last answer 0.4 s ago; 1 consecutive failure, last 0.1 s ago: unreachable: Connection refused (os error 111)
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
    pub(super) last: Option<ReportedSnapshot>,
    pub(super) violation: Option<(Duration, Option<ReportedSnapshot>)>,
    pub(super) note: Option<String>,
    /// The last reason of the predicate.
    pub(super) reason: Option<String>,
    pub(super) changes: Changes,
    pub(super) events: Option<(u64, Vec<String>)>,
    pub(super) freshness: StaleTimes,
    pub(super) lifecycle: Lifecycle,
    /// It is of a supervised machine, whose states are the lifecycle.
    pub(super) is_of_states: bool,
    pub(super) failures: Vec<Arc<ObservationFailure>>,
    pub(super) failures_cut: u64,
    pub(super) sources: Sources,
}

/// The times when the data was not fresh.
#[derive(Clone)]
pub(super) struct StaleTimes {
    pub(super) never: bool,
    pub(super) stale: Vec<(Duration, Option<Duration>)>,
    pub(super) more: u64,
}

impl Unmet {
    /// The label of the wait.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.0.label
    }

    /// The wait's window; `None` for an invariant.
    #[must_use]
    pub fn window(&self) -> Option<Duration> {
        self.0.window
    }

    /// Why the wait was not met.
    #[must_use]
    pub fn outcome(&self) -> UnmetOutcome {
        self.0.outcome
    }

    /// The predicate's last reason, if there is one: see [`Verdict`](super::Verdict). Escaped and bounded.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.0.reason.as_deref()
    }

    /// How many snapshots were judged; publications for a state, refreshes for a source set.
    #[must_use]
    pub fn judged(&self) -> u64 {
        self.0.judged
    }

    /// The failures inside the window, oldest first, without [`failures_cut`](Self::failures_cut) older ones.
    #[must_use]
    pub fn failures(&self) -> &[Arc<ObservationFailure>] {
        &self.0.failures
    }

    /// How many older failures of the window are missing from [`failures`](Self::failures). A runtime keeps its
    /// newest 256.
    #[must_use]
    pub fn failures_cut(&self) -> u64 {
        self.0.failures_cut
    }

    /// A report without snapshots, lifecycle or sources.
    pub(crate) fn bare(label: &str, outcome: UnmetOutcome, note: Option<String>) -> Self {
        keep_lines_of::<Self>();
        Self(Box::new(Report {
            label: label.to_owned(),
            window: None,
            holds: true,
            outcome,
            judged: 0,
            last: None,
            violation: None,
            note: note.map(|note| one_line(&note, NOTE)),
            reason: None,
            changes: Changes::default(),
            events: None,
            freshness: StaleTimes { never: false, stale: Vec::new(), more: 0 },
            lifecycle: Lifecycle::default(),
            is_of_states: false,
            failures: Vec::new(),
            failures_cut: 0,
            sources: Sources::default(),
        }))
    }

    /// The report of a wait for a state of a supervised machine.
    pub(crate) fn of_states(
        label: &str,
        window: Duration,
        outcome: UnmetOutcome,
        note: Option<String>,
        story: StateStory,
    ) -> Self {
        let StateStory { judged, states, more, reason } = story;
        let mut unmet = Self::bare(label, outcome, note);
        let report = &mut *unmet.0;
        report.window = Some(window);
        report.holds = false;
        report.judged = judged;
        report.reason = reason.map(|reason| one_line(&reason, REASON));
        report.lifecycle = Lifecycle { lines: states, more, cut: false };
        report.is_of_states = true;
        unmet
    }

    /// The cycle of the snapshot that was the first violation; `None` without a violation, or if the data turned
    /// stale.
    #[must_use]
    pub fn first_violation(&self) -> Option<u64> {
        self.0.violation.as_ref()?.1.as_ref().map(|shown| shown.cycle)
    }
}

/// What a wait for a state has seen.
pub(crate) struct StateStory {
    pub(crate) judged: u64,
    /// The newest states, each other than the one before it, since the begin of the wait.
    pub(crate) states: Vec<(Duration, String)>,
    /// How many older ones are not there.
    pub(crate) more: u64,
    pub(crate) reason: Option<String>,
}

/// The wait's own part of its report.
pub(super) struct WaitInfo {
    pub(super) label: String,
    pub(super) began: Instant,
    pub(super) window: Option<Duration>,
    pub(super) ended: Instant,
    pub(super) outcome: UnmetOutcome,
    pub(super) note: Option<String>,
    pub(super) holds: bool,
}

/// Makes the report. Each snapshot is rendered once.
pub(super) fn write<O: Observer>(
    frame: WaitInfo,
    evidence: &Evidence<O::Snapshot, O::Event>,
    logged: Logged,
    show: &Show<'_, O>,
) -> Unmet {
    let WaitInfo { label, began, window, ended, outcome, note, holds } = frame;
    let since = |at: Instant| at.saturating_duration_since(began);
    let mut shower = Shower::new(show);
    let last = evidence.last.as_ref().or(evidence.status.snapshot.as_ref());
    let changes = changes(&evidence.kept, evidence.status.snapshot.as_ref(), &mut shower, began);
    let mut shown = |snapshot: &Arc<ObservationSnapshot<O::Snapshot>>| {
        shower.show(snapshot).map(|seen| ReportedSnapshot::of(snapshot.cycle, seen, SNAPSHOT, INDENT.len()))
    };
    let violation = evidence.violation.as_ref();
    let violation =
        violation.map(|violation| (since(violation.at), violation.snapshot.as_ref().and_then(&mut shown)));
    let last = last.and_then(shown);
    let spans = evidence.spans.shown.iter();
    let events = show.event.map(|show| {
        let shown = evidence.events.iter();
        let shown = shown.map(|(batch, index)| {
            let event = catch(|| show(&batch.events[*index]));
            let event = event.unwrap_or_else(|panic| format!("(showing it panicked: {panic})"));
            format!("cycle {}: {}", batch.cycle, one_line(&event, EVENT))
        });
        (evidence.event_count, shown.collect())
    });
    let reason = evidence.reason.as_ref().map(|reason| one_line(reason, REASON));
    keep_lines_of::<Unmet>();
    Unmet(Box::new(Report {
        window,
        holds,
        outcome,
        judged: evidence.judged,
        last,
        violation,
        note: note.map(|note| one_line(&note, NOTE)),
        reason,
        changes,
        events,
        freshness: StaleTimes {
            never: evidence.status.last_success.is_none(),
            stale: spans.map(|(from, until)| (since(*from), until.map(since))).collect(),
            more: evidence.spans.more,
        },
        lifecycle: story::lifecycle(evidence, &logged, began, ended),
        is_of_states: false,
        sources: story::sources::<O>(&evidence.first, &evidence.status, ended),
        failures: logged.failures,
        failures_cut: logged.failures_cut,
        label,
    }))
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.0.write(&mut text)?;
        // Each part is bounded; this bounds their sum.
        let shown = prefix(&text, if text.len() > TEXT { TEXT - 40 } else { TEXT });
        f.write_str(shown)?;
        match text.len() - shown.len() {
            0 => Ok(()),
            more => write!(f, " ... ({more} more bytes)"),
        }
    }
}

impl Report {
    fn write(&self, f: &mut String) -> fmt::Result {
        write!(f, "{}: {}", self.outcome, quoted(&self.label, LABEL))?;
        match self.window {
            Some(window) => writeln!(f, " {} {window:?}", if self.holds { "during" } else { "within" })?,
            None => writeln!(f)?,
        }
        let note = self.note.as_deref();
        if self.is_of_states && self.lifecycle.lines.is_empty() {
            return write!(f, "  {}", note.unwrap_or("no state was judged"));
        }
        if self.lifecycle.lines.is_empty() {
            return write!(
                f,
                "  {}",
                note.unwrap_or("nothing else is known: the task that watched it is gone")
            );
        }
        if let UnmetOutcome::Invalid(_) = self.outcome {
            return write!(f, "  {}", note.unwrap_or("nothing was judged"));
        }
        if let Some(reason) = &self.reason {
            writeln!(f, "  reason: {reason}")?;
        }
        if let Some(note) = note {
            writeln!(f, "  {note}")?;
        }
        if self.is_of_states {
            return self.write_states(f);
        }
        self.write_snapshots(f)?;
        self.write_changes(f)?;
        if let Some((count, shown)) = &self.events {
            writeln!(f, "  events: {count}{}", if *count > 0 { ", the last:" } else { "" })?;
            for event in shown {
                writeln!(f, "{INDENT}{event}")?;
            }
        }
        writeln!(f, "  freshness: {}", self.freshness)?;
        self.write_lifecycle(f)?;
        self.write_sources(f)
    }

    fn write_states(&self, f: &mut String) -> fmt::Result {
        let Lifecycle { lines, more, .. } = &self.lifecycle;
        write!(f, "  judged {}; ", self.judged)?;
        match more {
            0 => f.push_str("the states"),
            more => write!(f, "the last {} of {} states", lines.len(), lines.len() as u64 + more)?,
        }
        for (at, state) in lines {
            write!(f, "\n{INDENT}+{:.3}s {state}", at.as_secs_f64())?;
        }
        Ok(())
    }

    fn write_snapshots(&self, f: &mut String) -> fmt::Result {
        match &self.violation {
            Some((at, Some(shown))) => {
                writeln!(f, "  first violation at +{:.3}s, in cycle {}:", at.as_secs_f64(), shown.cycle)?;
                indented(f, &shown.text)?;
            }
            Some((at, None)) => writeln!(f, "  first violation at +{:.3}s", at.as_secs_f64())?,
            None => {}
        }
        write!(f, "  judged {}", self.judged)?;
        match &self.last {
            Some(last) if self.violation_is(last) => writeln!(f, "; that was the last snapshot"),
            Some(last) => {
                writeln!(f, "; the last snapshot, of cycle {}:", last.cycle)?;
                indented(f, &last.text)
            }
            None => writeln!(f, "; there is no snapshot"),
        }
    }

    fn write_changes(&self, f: &mut String) -> fmt::Result {
        let Changes { shown, more, dropped, costly } = &self.changes;
        if *costly {
            return writeln!(f, "  changes: not compared: a snapshot takes more than 16 KiB to show");
        }
        if shown.is_empty() {
            return Ok(());
        }
        f.push_str("  changes");
        match (more, dropped) {
            (0, 0) => {}
            (more, 0) => write!(f, " (the last {} of {})", shown.len(), shown.len() as u64 + more)?,
            (0, dropped) => write!(f, " (without those of {dropped} older snapshots)")?,
            (more, dropped) => {
                let all = shown.len() as u64 + more;
                write!(
                    f,
                    " (the last {} of {all}, without those of {dropped} older snapshots)",
                    shown.len()
                )?;
            }
        }
        f.push('\n');
        for Changed { at, what, .. } in shown {
            writeln!(f, "{INDENT}+{:.3}s {what}", at.as_secs_f64())?;
        }
        Ok(())
    }

    fn write_lifecycle(&self, f: &mut String) -> fmt::Result {
        let Lifecycle { lines, more, cut } = &self.lifecycle;
        f.push_str("  lifecycle");
        match (more, cut) {
            (0, false) => {}
            (0, true) => f.push_str(" (older entries were dropped)"),
            (more, false) => write!(f, " ({more} older entries are not shown)")?,
            (more, true) => write!(f, " ({more} older entries are not shown, others were dropped)")?,
        }
        f.push('\n');
        for (at, what) in lines {
            writeln!(f, "{INDENT}+{:.3}s {what}", at.as_secs_f64())?;
        }
        if self.failures_cut > 0 {
            let all = self.failures.len() as u64 + self.failures_cut;
            writeln!(f, "  failures: {all}, of which the oldest {} were dropped", self.failures_cut)?;
        }
        Ok(())
    }

    fn write_sources(&self, f: &mut String) -> fmt::Result {
        write!(f, "  sources: {}", self.sources.names)?;
        if let Some(panic) = &self.sources.panicked {
            return write!(
                f,
                "\n{INDENT}(what is known of them is not shown: the observer panicked: {panic})"
            );
        }
        let begin = f.len();
        let mut shown = 0;
        for source in self.sources.known.iter().filter(|source| source.is_troubled()) {
            if f.len() - begin >= SOURCES {
                break;
            }
            shown += 1;
            let times = if source.failures == 1 { "time" } else { "times" };
            match (&source.trouble, source.failures) {
                (None, failures) => {
                    write!(f, "\n{INDENT}{} has failed {failures} {times} and is fresh", source.name)?;
                }
                // The consecutive failures that began inside the window are printed already.
                (Some(trouble), failures) if failures <= source.consecutive => {
                    write!(f, "\n{INDENT}{trouble}")?;
                }
                (Some(trouble), failures) => {
                    write!(f, "\n{INDENT}{trouble}; failed {failures} {times} in the window")?;
                }
            }
        }
        match self.sources.troubled - shown {
            0 => Ok(()),
            more => write!(f, "\n{INDENT}and {more} more in trouble"),
        }
    }

    fn violation_is(&self, last: &ReportedSnapshot) -> bool {
        matches!(&self.violation, Some((_, Some(first))) if first.cycle == last.cycle)
    }
}

fn indented(f: &mut String, text: &str) -> fmt::Result {
    text.lines().try_for_each(|line| writeln!(f, "{INDENT}{line}"))
}

impl fmt::Display for StaleTimes {
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

#[cfg(all(test, not(watchkeeper_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_too_long_in_all_is_cut_once_more() {
        let of = |bytes: usize| {
            let mut unmet = Unmet::bare("x", UnmetOutcome::NotMet, None);
            unmet.0.lifecycle.lines = vec![(Duration::ZERO, "y".repeat(bytes))];
            unmet.to_string()
        };
        let most = TEXT - of(0).len();
        for bytes in [most - 1, most] {
            assert!(of(bytes).ends_with("y\n  sources: "), "{bytes} bytes");
        }
        let cut = of(most + 1);
        assert!(cut.ends_with("y ... (41 more bytes)") && cut.len() <= TEXT, "{} bytes", cut.len());
        let cut = of(9 * TEXT);
        assert!(
            cut.ends_with(" more bytes)") && cut.len() <= TEXT && cut.len() > TEXT - 40,
            "{} bytes",
            cut.len()
        );
    }
}
