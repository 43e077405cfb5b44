//! The report as JSON.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::outcome::UnmetOutcome;
use super::report::Unmet;
use super::show::ReportedSnapshot;
use crate::error::ObservationFailure;
use crate::text::{LABEL, MESSAGE, one_line};

/// Bytes of the failures' messages, not counting the oldest one.
const FAILURES: usize = 8 * 1_024;

impl Unmet {
    /// The report as JSON: the same content as `Display`, in fields. Times are seconds since the begin of the wait.
    ///
    /// Snapshots are JSON with [`show_json`](super::WaitBuilder::show_json), and text otherwise. If the pretty JSON
    /// of a snapshot has more than 16 KiB, the beginning of its text replaces it, with a `note` beside it.
    ///
    /// It has at most 96 KiB when printed without spaces. Omitted parts are counted: `failures_not_shown` (including
    /// `failures_cut`, which were no longer known), `lifecycle_not_shown`, `changes_not_shown`, `sources_not_shown`.
    /// Texts are escaped as in `Display`.
    ///
    /// ```json
    /// {
    ///   "label": "a leader is agreed on", "outcome": "not_met", "reason": "not met in time",
    ///   "window_s": 10.0, "judged": 12, "predicate_reason": "n2 names no leader", "note": null,
    ///   "last": {"cycle": 41, "value": {"leader": null}}, "first_violation": null,
    ///   "changes": [{"at_s": 1.5, "cycle": 35, "what": "leader: 1 -> null"}],
    ///   "changes_not_shown": 0, "snapshots_not_compared": 0,
    ///   "events": null,
    ///   "never_succeeded": false, "stale": [{"from_s": 2.5, "until_s": null}], "stale_not_shown": 0,
    ///   "lifecycle": [{"at_s": 0.0, "what": "idle, cycle 29"}], "lifecycle_not_shown": 0, "lifecycle_cut": false,
    ///   "failures": [{"cycle": 42, "stage": "poll", "cause": "error", "message": "connection refused"}],
    ///   "failures_not_shown": 0, "failures_cut": 0,
    ///   "sources": [{"name": "n1", "failures": 3, "consecutive_failures": 3, "trouble": "n1 is failing: ..."}],
    ///   "sources_not_shown": 0
    /// }
    /// ```
    #[must_use]
    pub fn to_json(&self) -> Value {
        let report = &*self.0;
        let kind = match report.outcome {
            UnmetOutcome::NotMet => "not_met",
            UnmetOutcome::Violated => "violated",
            UnmetOutcome::GaveUp => "gave_up",
            UnmetOutcome::Ended => "ended",
            UnmetOutcome::Inconclusive(_) => "inconclusive",
            UnmetOutcome::Invalid(_) => "invalid",
        };
        let violation = report.violation.as_ref().map(|(at, shown)| {
            let mut violation = shown.as_ref().map_or_else(|| json!({ "cycle": null, "value": null }), value);
            violation["at_s"] = json!(at.as_secs_f64());
            violation
        });
        let stale = report.freshness.stale.iter().map(|(from, until)| {
            json!({ "from_s": from.as_secs_f64(), "until_s": until.map(|until| until.as_secs_f64()) })
        });
        let changes = report.changes.shown.iter().map(
            |changed| json!({ "at_s": changed.at.as_secs_f64(), "cycle": changed.cycle, "what": changed.what }),
        );
        let lifecycle = report.lifecycle.lines.iter();
        let lifecycle = lifecycle.map(|(at, what)| json!({ "at_s": at.as_secs_f64(), "what": what }));
        let failures = newest(&report.failures);
        let failures_not_shown = (report.failures.len() - failures.len()) as u64 + report.failures_cut;
        let sources = report.sources.known.iter().map(|source| {
            json!({
                "name": source.name,
                "failures": source.failures,
                "consecutive_failures": source.consecutive,
                "trouble": source.trouble,
            })
        });
        json!({
            "label": one_line(&report.label, LABEL),
            "outcome": kind,
            "reason": report.outcome.to_string(),
            "window_s": report.window.map(|window: Duration| window.as_secs_f64()),
            "judged": report.judged,
            "predicate_reason": report.reason,
            "note": report.note,
            "last": report.last.as_ref().map(value),
            "first_violation": violation,
            "changes": changes.collect::<Vec<_>>(),
            "changes_not_shown": report.changes.more,
            "snapshots_not_compared": report.changes.dropped,
            "events": report.events.as_ref().map(|(count, last)| json!({ "count": count, "last": last })),
            "never_succeeded": report.freshness.never,
            "stale": stale.collect::<Vec<_>>(),
            "stale_not_shown": report.freshness.more,
            "lifecycle": lifecycle.collect::<Vec<_>>(),
            "lifecycle_not_shown": report.lifecycle.more,
            "lifecycle_cut": report.lifecycle.cut,
            "failures": failures,
            "failures_not_shown": failures_not_shown,
            "failures_cut": report.failures_cut,
            "sources": sources.collect::<Vec<_>>(),
            "sources_not_shown": report.sources.count - report.sources.known.len(),
        })
    }
}

/// As many of the newest failures as fit, oldest first.
fn newest(failures: &[Arc<ObservationFailure>]) -> Vec<Value> {
    let mut room = FAILURES;
    let mut shown = Vec::new();
    for failure in failures.iter().rev() {
        if room == 0 {
            break;
        }
        room = room.saturating_sub(failure.message.len() + 80);
        shown.push(json!({
            "cycle": failure.cycle,
            "stage": failure.stage.to_string(),
            "cause": failure.cause.to_string(),
            "message": one_line(&failure.message, MESSAGE),
        }));
    }
    shown.reverse();
    shown
}

fn value(shown: &ReportedSnapshot) -> Value {
    match &shown.json {
        Some(json) => json!({ "cycle": shown.cycle, "value": json }),
        None if shown.is_too_large => json!({
            "cycle": shown.cycle,
            "value": shown.text,
            "note": "it has more than 16 KiB: this is the beginning of its text",
        }),
        None => json!({ "cycle": shown.cycle, "value": shown.text }),
    }
}
