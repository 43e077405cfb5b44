//! Source events as text.

use std::fmt;

use super::SourceEvent;
use crate::text::render::debug_line;
use crate::text::{NAME, one_line};

/// Bytes of a value.
const VALUE: usize = 120;

/// One line for timelines: `n2: 1 -> 2`, `n1 failed: connection refused`.
///
/// Values are shown by `Debug`, at most 120 bytes each. The line is escaped and has at most 2 KiB.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use tokio::time::Instant;
/// use watchkeeper::per_source::SourceEvent;
///
/// let asked_at = Instant::now();
/// let changed = SourceEvent::Changed { source: "n2".into(), old: Arc::new(1), new: Arc::new(2), asked_at };
/// assert_eq!(changed.to_string(), "n2: 1 -> 2");
/// let appeared = SourceEvent::Appeared { source: "n1".into(), value: Arc::new("up\nand well"), asked_at };
/// assert_eq!(appeared.to_string(), r#"n1 appeared: "up\nand well""#);
/// ```
impl<V: fmt::Debug> fmt::Display for SourceEvent<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &V| debug_line(value, VALUE);
        let name = one_line(self.source(), NAME);
        match self {
            Self::Appeared { value, .. } => write!(f, "{name} appeared: {}", shown(value)),
            Self::Changed { old, new, .. } => write!(f, "{name}: {} -> {}", shown(old), shown(new)),
            Self::Failed { failure, .. } => write!(f, "{name} failed: {failure}"),
            Self::Recovered { failures: 1, .. } => write!(f, "{name} recovered after 1 failure"),
            Self::Recovered { failures, .. } => write!(f, "{name} recovered after {failures} failures"),
            Self::Replaced { last: Some(last), .. } => {
                write!(f, "{name} was replaced, last: {}", shown(last))
            }
            Self::Replaced { last: None, .. } => write!(f, "{name} was replaced, without an answer"),
            Self::Vanished { last: Some(last), .. } => write!(f, "{name} vanished, last: {}", shown(last)),
            Self::Vanished { last: None, .. } => write!(f, "{name} vanished, without an answer"),
        }
    }
}

/// The same as `Display`, for reports and timelines, which show the events of any observer by `Debug`.
impl<V: fmt::Debug> fmt::Debug for SourceEvent<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(all(test, not(watchkeeper_loom)))]
mod tests {
    use std::sync::Arc;

    use tokio::time::Instant;

    use super::*;
    use crate::runtime::Cause;
    use crate::source::ProbeFailure;

    #[test]
    fn each_event_is_one_line() {
        let now = Instant::now();
        let asked_at = now;
        let failure = Arc::new(ProbeFailure::new(now, now, Cause::Error, "connection\nrefused"));
        let (source, one, two) = (|| Arc::from("n1"), Arc::new(1), Arc::new(2));
        let last = || Some(Arc::clone(&two));
        let cases = [
            (SourceEvent::Appeared { source: source(), value: Arc::clone(&one), asked_at }, "n1 appeared: 1"),
            (
                SourceEvent::Changed { source: source(), old: one, new: Arc::clone(&two), asked_at },
                "n1: 1 -> 2",
            ),
            (SourceEvent::Failed { source: source(), failure }, r"n1 failed: connection\nrefused"),
            (
                SourceEvent::Recovered { source: source(), failures: 1, asked_at },
                "n1 recovered after 1 failure",
            ),
            (
                SourceEvent::Recovered { source: source(), failures: 3, asked_at },
                "n1 recovered after 3 failures",
            ),
            (SourceEvent::Replaced { source: source(), last: last(), asked_at }, "n1 was replaced, last: 2"),
            (
                SourceEvent::Replaced { source: source(), last: None, asked_at },
                "n1 was replaced, without an answer",
            ),
            (SourceEvent::Vanished { source: source(), last: last(), asked_at }, "n1 vanished, last: 2"),
            (
                SourceEvent::Vanished { source: source(), last: None, asked_at },
                "n1 vanished, without an answer",
            ),
        ];
        for (event, expected) in cases {
            assert_eq!(event.to_string(), expected);
            assert_eq!(format!("{event:?} {event:#?}"), format!("{expected} {expected}"));
        }
    }
}
