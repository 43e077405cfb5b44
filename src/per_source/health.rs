//! Whether one source can be believed, and why not.

use std::fmt::Write as _;
use std::time::Duration;

use tokio::time::Instant;

use super::SourceFacts;
use crate::freshness::Freshness;

/// What is known of one source, without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceHealth {
    /// When it answered, and how often it did not.
    pub facts: SourceFacts,
    /// The age from which on its last answer counts as stale.
    pub stale_after: Duration,
}

impl SourceHealth {
    /// For observers that keep such facts of their own.
    #[must_use]
    pub fn new(facts: SourceFacts, stale_after: Duration) -> Self {
        Self { facts, stale_after }
    }

    /// How old its last answer is at `now`, counted from when the answering probe began.
    #[must_use]
    pub fn freshness(&self, now: Instant) -> Freshness {
        Freshness { last_success: self.facts.last_success, stale_after: self.stale_after, read_at: now }
    }

    /// Whether the last probe that ended has failed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.facts.failures_in_a_row > 0
    }

    /// One sentence on the source called `name`, without a full stop: how old its last answer is at `now`,
    /// what failed since, and whether a probe is in flight.
    #[must_use]
    pub fn explain(&self, name: &str, now: Instant) -> String {
        let facts = &self.facts;
        let freshness = self.freshness(now);
        let mut said = match freshness.age() {
            None => format!("{name} has never answered"),
            Some(age) => {
                let how = match (freshness.is_fresh(), self.is_failing()) {
                    (true, false) => "fresh",
                    (true, true) => "failing",
                    (false, _) => "stale",
                };
                format!("{name} is {how}: last answer {} ago", seconds(age))
            }
        };
        if let Some(failure) = facts.last_failure.as_ref().filter(|_| self.is_failing()) {
            let ago = seconds(now.saturating_duration_since(failure.at));
            let times = if facts.failures_in_a_row == 1 { "time" } else { "times" };
            let in_a_row = facts.failures_in_a_row;
            let _ = write!(said, "; failed {in_a_row} {times} in a row, last {ago} ago: {}", failure.message);
        }
        match facts.in_flight_since {
            Some(since) => {
                let for_now = seconds(now.saturating_duration_since(since));
                let _ = write!(said, "; probe in flight for {for_now}");
            }
            None if freshness.never_succeeded() && !self.is_failing() => said.push_str("; not probed yet"),
            None => {}
        }
        said
    }
}

/// A duration as people say it.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(all(test, not(watchkeeper_loom)))]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::per_source::ProbeFailure;

    #[test]
    fn a_sentence_says_what_is_known() {
        let now = Instant::now() + Duration::from_secs(100);
        let ago = |millis| now.checked_sub(Duration::from_millis(millis));
        let failure = |millis| ProbeFailure {
            at: ago(millis).unwrap(),
            elapsed: Duration::ZERO,
            cause: crate::Cause::Error,
            message: "connection refused".to_owned(),
        };
        // (last answer, failures in a row, in flight since)
        let cases = [
            (None, 0, None, "n1 has never answered; not probed yet"),
            (None, 0, Some(3_100), "n1 has never answered; probe in flight for 3.1 s"),
            (
                None,
                1,
                None,
                "n1 has never answered; failed 1 time in a row, last 0.4 s ago: connection refused",
            ),
            (Some(100), 0, None, "n1 is fresh: last answer 0.1 s ago"),
            (
                Some(900),
                2,
                None,
                "n1 is failing: last answer 0.9 s ago; failed 2 times in a row, last 0.4 s ago: connection refused",
            ),
            (Some(4_200), 0, Some(3_100), "n1 is stale: last answer 4.2 s ago; probe in flight for 3.1 s"),
            (
                Some(4_200),
                7,
                Some(0),
                "n1 is stale: last answer 4.2 s ago; failed 7 times in a row, last 0.4 s ago: connection refused; \
                 probe in flight for 0.0 s",
            ),
        ];
        for (answered, failures_in_a_row, in_flight, expected) in cases {
            let facts = SourceFacts {
                last_success: answered.and_then(ago),
                failures_in_a_row,
                last_failure: (failures_in_a_row > 0).then(|| Arc::new(failure(400))),
                in_flight_since: in_flight.and_then(ago),
                ..SourceFacts::default()
            };
            assert_eq!(SourceHealth::new(facts, Duration::from_secs(2)).explain("n1", now), expected);
        }
    }
}
