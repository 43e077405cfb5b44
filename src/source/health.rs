//! The health of one source, as a value and as a sentence.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Cause;
use crate::status::freshness::Freshness;
use crate::text::{self, MESSAGE, NAME, one_line};

/// One failed probe.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProbeFailure {
    /// When the failure was known, on tokio's clock.
    pub at: Instant,
    /// How long the probe ran.
    pub elapsed: Duration,
    /// How it failed.
    pub cause: Cause,
    /// The error with all its causes, or the panic's message: at most 1 KiB. A longer one is truncated and ends in
    /// the count of what was cut. `Display` escapes it.
    pub message: String,
}

impl ProbeFailure {
    /// A probe that began at `began`, with a failure known at `at`. A long message is truncated: see
    /// [`message`](Self::message).
    #[must_use]
    pub fn new(began: Instant, at: Instant, cause: Cause, message: impl Into<String>) -> Self {
        let message = text::message(&message.into());
        Self { at, elapsed: at.saturating_duration_since(began), cause, message }
    }

    /// When the probe began.
    #[must_use]
    pub fn began(&self) -> Instant {
        self.at.checked_sub(self.elapsed).unwrap_or(self.at)
    }
}

/// One line, escaped.
impl fmt::Display for ProbeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&one_line(&self.message, MESSAGE))
    }
}

/// The answers and failures of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceFacts {
    /// When the probe of the last answer began: the value is no older than that.
    pub last_success: Option<Instant>,
    /// How long the last answer took.
    pub last_elapsed: Option<Duration>,
    /// When the value last changed.
    pub changed_at: Option<Instant>,
    /// How many consecutive probes have failed since the last answer. [`asked_since`](Self::asked_since) keeps the
    /// count if it keeps the last failure.
    pub consecutive_failures: u64,
    /// The last failure. A later answer does not clear it.
    pub last_failure: Option<Arc<ProbeFailure>>,
    /// When the probe in flight began, if there is one.
    pub in_flight_since: Option<Instant>,
    /// How many probes were answered.
    pub answers: u64,
    /// How many probes have failed.
    pub failures: u64,
    /// If set, answers and failures of probes that began earlier are left out: see
    /// [`asked_since`](Self::asked_since).
    pub since: Option<Instant>,
}

/// For a custom observer that records the facts of a source, probe by probe.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tokio::time::Instant;
/// use watchkeeper::runtime::Cause;
/// use watchkeeper::source::{ProbeFailure, SourceFacts, SourceHealth};
///
/// let mut facts = SourceFacts::default();
/// let began = Instant::now();
/// facts.began(began);
/// facts.answered(began, began + Duration::from_millis(3));
/// facts.began(began + Duration::from_secs(1));
/// let failed = began + Duration::from_millis(1_500);
/// facts.failed(ProbeFailure::new(began + Duration::from_secs(1), failed, Cause::Error, "connection refused"));
///
/// let health = SourceHealth::new(facts, Duration::from_secs(2));
/// assert_eq!(
///     health.explain("n1", failed),
///     "n1 is failing: last answer 1.5 s ago; 1 consecutive failure, last 0.0 s ago: connection refused",
/// );
/// ```
impl SourceFacts {
    /// Records that a probe has begun.
    pub fn began(&mut self, at: Instant) {
        self.in_flight_since = Some(at);
    }

    /// Records an answer at `ended` to the probe that began at `began`. Returns how many consecutive probes had
    /// failed before.
    #[allow(clippy::must_use_candidate, reason = "recording is the point; the count is a courtesy")]
    pub fn answered(&mut self, began: Instant, ended: Instant) -> u64 {
        self.in_flight_since = None;
        self.last_success = Some(began);
        self.last_elapsed = Some(ended.saturating_duration_since(began));
        self.answers += 1;
        std::mem::take(&mut self.consecutive_failures)
    }

    /// Records a failed probe. Returns how many consecutive probes have failed, including this one.
    #[allow(clippy::must_use_candidate, reason = "recording is the point; the count is a courtesy")]
    pub fn failed(&mut self, failure: impl Into<Arc<ProbeFailure>>) -> u64 {
        self.in_flight_since = None;
        self.failures += 1;
        self.consecutive_failures += 1;
        self.last_failure = Some(failure.into());
        self.consecutive_failures
    }

    /// These facts without the answer and the failures of probes that began before `since`. `None` if there is
    /// nothing to leave out: the facts then count unchanged.
    ///
    /// A probe in flight and the counts of all answers and failures are kept. A failure that was followed by an
    /// answer is kept as long as that answer is.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use tokio::time::Instant;
    /// use watchkeeper::source::SourceFacts;
    ///
    /// let mut facts = SourceFacts::default();
    /// let began = Instant::now();
    /// facts.answered(began, began + Duration::from_millis(3));
    ///
    /// assert_eq!(facts.asked_since(began), None);
    /// let later = facts.asked_since(began + Duration::from_millis(1)).unwrap();
    /// assert_eq!((later.last_success, later.answers), (None, 1));
    /// ```
    #[must_use]
    pub fn asked_since(&self, since: Instant) -> Option<Self> {
        if self.oldest().is_none_or(|oldest| oldest >= since) {
            return None;
        }
        let mut facts = Self { since: Some(since), ..self.clone() };
        if facts.last_success.is_some_and(|asked| asked < since) {
            (facts.last_success, facts.last_elapsed, facts.changed_at) = (None, None, None);
        }
        let is_over = facts.consecutive_failures == 0 && facts.last_success.is_some();
        if facts.last_failure.as_ref().is_some_and(|failure| failure.began() < since) && !is_over {
            (facts.consecutive_failures, facts.last_failure) = (0, None);
        }
        Some(facts)
    }

    /// When the probe of the oldest fact that counts began: the last answer, or the failure since.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        let failing = self.last_failure.as_ref().filter(|_| self.consecutive_failures > 0);
        let failed = failing.map(|failure| failure.began());
        match (self.last_success, failed) {
            (Some(answered), Some(failed)) => Some(answered.min(failed)),
            (answered, failed) => answered.or(failed),
        }
    }

    /// See [`SourceHealth::is_answering`]. The age of the answer includes the time that the answer took.
    pub(crate) fn is_answering(&self, now: Instant, stale_after: Duration, collect_for: Duration) -> bool {
        let freshness = Freshness { last_success: self.last_success, stale_after, read_at: now };
        let patience = self.patience(collect_for);
        let hangs = self.in_flight_since.is_some_and(|since| now.saturating_duration_since(since) > patience);
        freshness.is_fresh() && self.consecutive_failures == 0 && !hangs
    }

    /// How long a probe may be in flight before its source counts as silent.
    fn patience(&self, collect_for: Duration) -> Duration {
        collect_for.max(self.last_elapsed.unwrap_or_default().saturating_mul(2))
    }
}

/// The health of one source, without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceHealth {
    /// The answers and failures of the source.
    pub facts: SourceFacts,
    /// The age from which the last answer counts as stale.
    pub stale_after: Duration,
    /// How long a cycle waits for an answer. A probe in flight for longer may count as unanswered: see
    /// [`is_answering`](Self::is_answering).
    pub collect_for: Duration,
}

impl SourceHealth {
    /// For custom observers that keep such facts. By default a cycle waits for an answer for a quarter of
    /// `stale_after`; [`collecting_for`](Self::collecting_for) changes this.
    #[must_use]
    pub fn new(facts: SourceFacts, stale_after: Duration) -> Self {
        Self { facts, stale_after, collect_for: stale_after / 4 }
    }

    /// Sets how long a cycle waits for an answer.
    #[must_use]
    pub fn collecting_for(self, collect_for: Duration) -> Self {
        Self { collect_for, ..self }
    }

    /// This health without the answer and the failures of probes that began before `since`. `None` if there is
    /// nothing to leave out. For [`Observer::asked_since`](crate::Observer::asked_since).
    #[must_use]
    pub fn asked_since(&self, since: Instant) -> Option<Self> {
        self.facts.asked_since(since).map(|facts| Self { facts, ..*self })
    }

    /// Whether the source answers, as far as is known at `now`.
    ///
    /// It does if its last answer is fresh, no probe has failed since, and no probe is in flight for longer than
    /// [`collect_for`](Self::collect_for) or twice the time that the last answer took, whichever is
    /// longer.
    ///
    /// A source that has just died stays *fresh* until its last answer is too old, which takes seconds. It stops
    /// *answering* once a probe is refused or not answered in time.
    #[must_use]
    pub fn is_answering(&self, now: Instant) -> bool {
        self.facts.is_answering(now, self.stale_after, self.collect_for)
    }

    /// Whether the source was asked at `since` or later and the outcome is known at `now`: an answer, a failure, or
    /// silence. A slow source counts as silent after the same time as for [`is_answering`](Self::is_answering),
    /// counted from `since` if the probe began before.
    pub(crate) fn was_heard(&self, since: Instant, now: Instant) -> bool {
        let facts = &self.facts;
        let failed = || facts.last_failure.as_ref().is_none_or(|failure| failure.began() >= since);
        let patience = facts.patience(self.collect_for);
        let is_silent = |begun: Instant| now.saturating_duration_since(begun.max(since)) >= patience;
        facts.last_success.is_some_and(|asked| asked >= since)
            || (self.is_failing() && failed())
            || facts.in_flight_since.is_some_and(is_silent)
    }

    /// How old the last answer is at `now`, counted from when its probe began.
    #[must_use]
    pub fn freshness(&self, now: Instant) -> Freshness {
        Freshness { last_success: self.facts.last_success, stale_after: self.stale_after, read_at: now }
    }

    /// Whether the last probe that ended failed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.facts.consecutive_failures > 0
    }

    /// One sentence about the source `name`, without a full stop: the age of its last answer at `now`, the failures
    /// since, and whether a probe is in flight. One line, escaped, of at most 2 KiB.
    #[must_use]
    pub fn explain(&self, name: &str, now: Instant) -> String {
        let facts = &self.facts;
        let name = one_line(name, NAME);
        let freshness = self.freshness(now);
        let mut said = match (freshness.age(), facts.since) {
            (None, None) => format!("{name} has never answered"),
            (None, Some(since)) => {
                let counts = seconds(now.saturating_duration_since(since));
                format!("{name} has answered no probe of the last {counts}")
            }
            (Some(age), _) => {
                let how = match (freshness.is_fresh(), self.is_failing()) {
                    (true, false) if self.is_answering(now) => "fresh",
                    (true, false) => "silent",
                    (true, true) => "failing",
                    (false, _) => "stale",
                };
                format!("{name} is {how}: last answer {} ago", seconds(age))
            }
        };
        if let Some(failure) = facts.last_failure.as_ref().filter(|_| self.is_failing()) {
            let ago = seconds(now.saturating_duration_since(failure.at));
            let consecutive = facts.consecutive_failures;
            let failures = if consecutive == 1 { "failure" } else { "failures" };
            let _ = write!(said, "; {consecutive} consecutive {failures}, last {ago} ago: {failure}");
        }
        match facts.in_flight_since {
            Some(since) => {
                let for_now = seconds(now.saturating_duration_since(since));
                let _ = write!(said, "; probe in flight for {for_now}");
            }
            None if freshness.never_succeeded() && !self.is_failing() => {
                said.push_str(if facts.since.is_none() { "; not probed yet" } else { "; none is in flight" });
            }
            None => {}
        }
        said
    }
}

/// A duration in seconds, with one decimal.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(all(test, not(watchkeeper_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_says_what_is_known() {
        let now = Instant::now() + Duration::from_secs(100);
        let ago = |millis| now.checked_sub(Duration::from_millis(millis));
        let failure = |millis: u64| {
            let at = ago(millis).unwrap();
            ProbeFailure::new(at, at, Cause::Error, "connection refused")
        };
        // (last answer, consecutive failures, in flight since)
        let cases = [
            (None, 0, None, "n1 has never answered; not probed yet"),
            (None, 0, Some(3_100), "n1 has never answered; probe in flight for 3.1 s"),
            (
                None,
                1,
                None,
                "n1 has never answered; 1 consecutive failure, last 0.4 s ago: connection refused",
            ),
            (Some(100), 0, None, "n1 is fresh: last answer 0.1 s ago"),
            (
                Some(900),
                2,
                None,
                "n1 is failing: last answer 0.9 s ago; 2 consecutive failures, last 0.4 s ago: connection refused",
            ),
            (Some(4_200), 0, Some(3_100), "n1 is stale: last answer 4.2 s ago; probe in flight for 3.1 s"),
            (
                Some(4_200),
                7,
                Some(0),
                "n1 is stale: last answer 4.2 s ago; 7 consecutive failures, last 0.4 s ago: connection refused; \
                 probe in flight for 0.0 s",
            ),
        ];
        for (answered, consecutive_failures, in_flight, expected) in cases {
            let facts = SourceFacts {
                last_success: answered.and_then(ago),
                consecutive_failures,
                last_failure: (consecutive_failures > 0).then(|| Arc::new(failure(400))),
                in_flight_since: in_flight.and_then(ago),
                ..SourceFacts::default()
            };
            assert_eq!(SourceHealth::new(facts, Duration::from_secs(2)).explain("n1", now), expected);
        }
    }
}
