//! How errors print: the text and its causes, for `?` in `main` and for `unwrap` too.
//!
//! `report::error_chain` bounds the first text and gives a cause 1,000 bytes. Here the first text may be the failure of a
//! whole scenario with the logs of its nodes, and a cause the end of a log or what to delete by hand.

use std::error::Error;
use std::fmt;

use watchkeeper::report::one_line;

/// How many causes are followed: an error may be its own cause.
const CAUSES: usize = 16;
/// How many bytes of each are shown.
const CAUSE: usize = 2000;

/// An error and its causes, each named once.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.to_string();
        f.write_str(&shown)?;
        let mut cause = self.0.source();
        for _ in 0..CAUSES {
            let Some(next) = cause else { return Ok(()) };
            let text = one_line(&next.to_string(), CAUSE);
            // Some errors show their causes themselves.
            if !shown.contains(&text) {
                write!(f, ": {text}")?;
                shown.push_str(": ");
                shown.push_str(&text);
            }
            cause = next.source();
        }
        if cause.is_some() { f.write_str(": and more causes") } else { Ok(()) }
    }
}

/// Gives errors a `Debug` that is their text and their causes.
macro_rules! debug_is_the_text {
    ($($error:ty),+) => {$(
        impl std::fmt::Debug for $error {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&crate::errors::Chain(self), f)
            }
        }
    )+};
}
pub(crate) use debug_is_the_text;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Caused(&'static str, #[source] Option<Box<Caused>>);

    fn caused(texts: &[&'static str]) -> Caused {
        let (first, rest) = texts.split_first().unwrap();
        Caused(first, (!rest.is_empty()).then(|| Box::new(caused(rest))))
    }

    #[derive(Debug)]
    struct Circular;

    impl fmt::Display for Circular {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("round")
        }
    }

    impl Error for Circular {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&Circular)
        }
    }

    #[test]
    fn causes_are_named_once_each_and_escaped() {
        let cases: [(&[&str], &str); 4] = [
            (&["a"], "a"),
            (&["a", "b", "c"], "a: b: c"),
            (&["a: b", "b", "c"], "a: b: c"),
            (&["two\nlines", "red\u{1b}[31m\nforged"], "two\nlines: red\\u{1b}[31m\\nforged"),
        ];
        for (texts, expected) in cases {
            assert_eq!(Chain(&caused(texts)).to_string(), expected);
        }
    }

    /// The failure of a scenario ends with the logs of its nodes, a cause with what to delete by hand.
    #[test]
    fn the_end_of_a_long_text_is_printed() {
        let first = format!("{}the logs", "a line\n".repeat(5_000));
        let cause = format!("{}delete it by hand", "a pod that is not ready; ".repeat(60));
        let (first, cause): (&str, &str) = (first.leak(), cause.leak());
        assert_eq!(Chain(&caused(&[first, cause])).to_string(), format!("{first}: {cause}"));
    }

    #[test]
    fn an_error_that_is_its_own_cause_prints() {
        assert_eq!(Chain(&Circular).to_string(), "round: and more causes");
    }

    #[test]
    fn every_public_error_prints_its_sentence_and_its_cause_under_debug() {
        use crate::failover::WriteError;
        use crate::{ClientError, NodeError};

        let gone = || std::io::Error::other("it is gone");
        let client = || ClientError::Unreachable { node: "node 1".to_owned(), source: gone().into() };
        let cases = [
            (
                format!("{:?}", client()),
                "node 1 is unreachable: check that it runs, or ask another node: it is gone",
            ),
            (
                format!("{:?}", WriteError::Refused { key: "k".to_owned(), source: client() }),
                "cannot write k, even after 5 more tries: wait for a leader and repeat it with its serial: node 1 \
                 is unreachable: check that it runs, or ask another node: it is gone",
            ),
            (
                format!("{:?}", NodeError::NoPublicAddr { addr: "0.0.0.0:1".to_owned() }),
                "0.0.0.0:1 is not an address that others can connect to: give --public-addr",
            ),
        ];
        for (printed, expected) in cases {
            assert_eq!(printed, expected);
        }
    }
}
