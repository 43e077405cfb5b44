//! The report for machines.

use std::time::Duration;

use serde_json::{Value, json};

use super::report::{Unmet, UnmetOutcome};
use super::show::Shown;

impl Unmet {
    /// The report as JSON: what `Display` prints, in fields. Times are seconds from the wait's begin.
    ///
    /// Snapshots are JSON where the wait was given a way to show them so
    /// ([`show_json`](super::WaitBuilder::show_json)), else text.
    ///
    /// ```json
    /// {
    ///   "label": "a leader is agreed on", "outcome": "not_met", "reason": "not met in time",
    ///   "window_s": 10.0, "judged": 12, "note": "reason: n2 names no leader",
    ///   "last": {"cycle": 41, "value": {"leader": null}}, "first_violation": null,
    ///   "events": null,
    ///   "never_succeeded": false, "stale": [{"from_s": 2.5, "until_s": null}], "stale_not_shown": 0,
    ///   "lifecycle": [{"at_s": 0.0, "what": "idle, cycle 29"}], "lifecycle_cut": false,
    ///   "failures": [{"cycle": 42, "stage": "poll", "cause": "error", "message": "connection refused"}],
    ///   "sources": [{"name": "n1", "failures": 3, "failures_in_a_row": 3, "trouble": "n1 is failing: ..."}]
    /// }
    /// ```
    #[must_use]
    pub fn to_json(&self) -> Value {
        let report = &*self.0;
        let kind = match report.outcome {
            UnmetOutcome::NotMet => "not_met",
            UnmetOutcome::Violated => "violated",
            UnmetOutcome::GaveUp => "gave_up",
            UnmetOutcome::Inconclusive(_) => "inconclusive",
            UnmetOutcome::Invalid(_) => "invalid",
        };
        let violation = report.violation.as_ref().map(|(at, shown)| {
            json!({
                "at_s": at.as_secs_f64(),
                "cycle": shown.as_ref().map(|shown| shown.cycle),
                "value": shown.as_ref().map(value),
            })
        });
        let stale = report.freshness.stale.iter().map(|(from, until)| {
            json!({ "from_s": from.as_secs_f64(), "until_s": until.map(|until| until.as_secs_f64()) })
        });
        let lifecycle =
            report.lifecycle.iter().map(|(at, what)| json!({ "at_s": at.as_secs_f64(), "what": what }));
        let failures = report.failures.iter().map(|failure| {
            json!({
                "cycle": failure.cycle,
                "stage": failure.stage.to_string(),
                "cause": failure.cause.to_string(),
                "message": failure.message,
            })
        });
        let sources = report.sources.iter().map(|source| {
            json!({
                "name": &*source.name,
                "failures": source.failures,
                "failures_in_a_row": source.in_a_row,
                "trouble": source.trouble,
            })
        });
        json!({
            "label": report.label,
            "outcome": kind,
            "reason": report.outcome.to_string(),
            "window_s": report.window.map(|window: Duration| window.as_secs_f64()),
            "judged": report.judged,
            "note": report.note,
            "last": report.last.as_ref().map(|shown| json!({ "cycle": shown.cycle, "value": value(shown) })),
            "first_violation": violation,
            "events": report.events.as_ref().map(|(count, last)| json!({ "count": count, "last": last })),
            "never_succeeded": report.freshness.never,
            "stale": stale.collect::<Vec<_>>(),
            "stale_not_shown": report.freshness.more,
            "lifecycle": lifecycle.collect::<Vec<_>>(),
            "lifecycle_cut": report.cut,
            "failures": failures.collect::<Vec<_>>(),
            "sources": sources.collect::<Vec<_>>(),
        })
    }
}

fn value(shown: &Shown) -> Value {
    shown.json.clone().unwrap_or_else(|| Value::String(shown.text.clone()))
}
