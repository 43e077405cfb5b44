//! The words of a step.

use std::time::Duration;

use cucumber::step::Context;
use watchkeeper::runtime::StateKind;

use crate::{StepError, parse_duration};

/// The captures of a step's pattern, in order.
pub(crate) struct StepCaptures(Vec<String>);

/// A condition of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Fresh,
    Stale,
    Failing,
}

impl StepCaptures {
    pub(crate) fn of(context: Context) -> Self {
        // The first match is the whole step.
        let mut words: Vec<String> = context.matches.into_iter().skip(1).map(|(_, word)| word).collect();
        if let Some(observer) = words.first_mut() {
            *observer = unescaped(observer);
        }
        Self(words)
    }

    /// The observer's name: every pattern begins with it.
    pub(crate) fn observer(&self) -> &str {
        self.nth(0)
    }

    pub(crate) fn nth(&self, nth: usize) -> &str {
        self.0.get(nth).map_or("", String::as_str)
    }

    /// A word between quotes.
    pub(crate) fn text(&self, nth: usize) -> String {
        unescaped(self.nth(nth))
    }

    /// The time to wait, which is the last capture.
    pub(crate) fn window(&self) -> Result<Duration, StepError> {
        parse_duration(self.0.last().map_or("", String::as_str))
    }
}

/// The text of words between quotes: `\"` is a quote and `\\` a backslash; any other backslash is itself.
pub(crate) fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(each) = rest.next() {
        let escaped = if each == '\\' { rest.next_if(|next| matches!(next, '"' | '\\')) } else { None };
        plain.push(escaped.unwrap_or(each));
    }
    plain
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
    let known = [("fresh", Condition::Fresh), ("stale", Condition::Stale), ("failing", Condition::Failing)];
    let found = known.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, condition)| condition).ok_or_else(|| StepError::UnknownCondition { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    impl<const N: usize> From<[&str; N]> for StepCaptures {
        fn from(words: [&str; N]) -> Self {
            Self(words.map(str::to_owned).into())
        }
    }

    #[test]
    fn a_quote_is_written_with_a_backslash() {
        let cases = [
            ("n1", "n1"),
            (r#"a \"b\""#, r#"a "b""#),
            (r"C:\dir", r"C:\dir"),
            (r"C:\\", r"C:\"),
            (r#"\\""#, r#"\""#),
            (r"\", r"\"),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(unescaped(text), expected, "{text}");
        }
    }

    #[test]
    fn a_count_is_in_range() {
        assert_eq!(count("3", "sources", 0).unwrap(), 3);
        assert_eq!(count("0", "sources", 0).unwrap(), 0);
        let refused = |given, least| count(given, "events", least).unwrap_err().to_string();
        assert_eq!(refused("0", 1), "0 events cannot be waited for: the count must be at least 1");
        assert_eq!(
            refused("99999999999999999999", 0),
            "99999999999999999999 events cannot be waited for: the count must fit into 64 bits"
        );
        assert_eq!(
            refused("some", 1),
            "some events cannot be waited for: the count must be a whole number, in digits"
        );
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
