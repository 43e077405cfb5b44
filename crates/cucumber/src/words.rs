//! The words of a step.

use std::time::Duration;

use cucumber::step::Context;
use watchkeeper::StateKind;

use crate::StepError;

/// As long as a wait may be.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What a step's pattern has captured, in order.
pub(crate) struct Words(Vec<String>);

/// What a source is waited to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Fresh,
    Stale,
    Failing,
}

impl Words {
    pub(crate) fn of(context: Context) -> Self {
        // The first match is the whole step.
        Self(context.matches.into_iter().skip(1).map(|(_, word)| word).collect())
    }

    /// The observer's name: every pattern begins with it.
    pub(crate) fn observer(&self) -> &str {
        self.nth(0)
    }

    pub(crate) fn nth(&self, nth: usize) -> &str {
        self.0.get(nth).map_or("", String::as_str)
    }

    /// The time to wait: patterns that have one end with it.
    pub(crate) fn window(&self) -> Result<Duration, StepError> {
        duration(self.0.last().map_or("", String::as_str))
    }
}

fn duration(given: &str) -> Result<Duration, StepError> {
    match humantime::parse_duration(given) {
        Ok(duration) if !duration.is_zero() && duration <= LONGEST => Ok(duration),
        _ => Err(StepError::Duration { given: given.to_owned() }),
    }
}

pub(crate) fn count(given: &str, what: &'static str, least: u64) -> Result<u64, StepError> {
    match given.parse() {
        Ok(count) if count >= least => Ok(count),
        _ => Err(StepError::Count { given: given.to_owned(), what, least }),
    }
}

pub(crate) fn state(name: &str) -> Result<StateKind, StepError> {
    let found = StateKind::ALL.into_iter().find(|kind| kind.to_string().eq_ignore_ascii_case(name));
    found.ok_or_else(|| StepError::UnknownState { name: name.to_owned() })
}

pub(crate) fn condition(name: &str) -> Result<Condition, StepError> {
    match name {
        "fresh" => Ok(Condition::Fresh),
        "stale" => Ok(Condition::Stale),
        "failing" => Ok(Condition::Failing),
        _ => Err(StepError::UnknownCondition { name: name.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_said_as_people_say_it() {
        let cases = [
            ("5 seconds", Some(5_000)),
            ("1 second", Some(1_000)),
            ("500 ms", Some(500)),
            ("500ms", Some(500)),
            ("1 minute", Some(60_000)),
            ("1 minute 30 seconds", Some(90_000)),
            ("1m30s", Some(90_000)),
            ("24 hours", Some(86_400_000)),
            ("24 hours 1 ms", None),
            ("0 seconds", None),
            ("0", None),
            ("5", None),
            ("-5 seconds", None),
            ("soon", None),
            ("", None),
        ];
        for (given, expected) in cases {
            let parsed = duration(given).ok();
            assert_eq!(parsed, expected.map(Duration::from_millis), "{given:?}");
        }
    }

    #[test]
    fn a_count_is_in_range() {
        let cases = [("3", 0, Some(3)), ("0", 0, Some(0)), ("0", 1, None), ("99999999999999999999", 0, None)];
        for (given, least, expected) in cases {
            assert_eq!(count(given, "sources", least).ok(), expected, "{given:?}");
        }
    }

    #[test]
    fn a_state_is_found_in_any_case_and_an_unknown_one_lists_all() {
        assert_eq!(state("Idle").unwrap(), StateKind::Idle);
        assert_eq!(state("refreshing").unwrap(), StateKind::Refreshing);
        assert_eq!(
            state("Sleeping").unwrap_err().to_string(),
            "no state is called \"Sleeping\"; the states are starting, refreshing, polling, idle, failed, stopped"
        );
    }
}
