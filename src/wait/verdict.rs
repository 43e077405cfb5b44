//! What a predicate says.

use std::fmt::Display;

use crate::error::DynError;
use crate::text::error_chain::chain;

/// What the predicate of a wait says of a snapshot, of a source's value or of an event.
///
/// Predicates return whatever turns into a verdict: a `bool`, a `Result<(), reason>` whose error is a reason to
/// go on waiting, or a `Verdict` itself; or a `Result` of one of these, whose error is a reason as well. The last
/// reason stands in the report.
///
/// # Examples
///
/// ```
/// use watchkeeper::wait::Verdict;
///
/// fn three_votes(votes: u64) -> Result<(), String> {
///     if votes >= 3 { Ok(()) } else { Err(format!("{votes} votes of 3")) }
/// }
///
/// assert_eq!(Verdict::from(true), Verdict::Met);
/// assert_eq!(Verdict::from(three_votes(2)), Verdict::NotYet("2 votes of 3".to_owned()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is as it was to be.
    Met,
    /// It is not, for this reason; an empty one is none. To [`always`](crate::ObservationHandle::always) and to
    /// an invariant this is a violation.
    NotYet(String),
    /// It will never be: the wait ends now, as [`UnmetOutcome::GaveUp`](crate::wait::UnmetOutcome::GaveUp).
    GiveUp(String),
}

impl From<bool> for Verdict {
    fn from(met: bool) -> Self {
        if met { Self::Met } else { Self::NotYet(String::new()) }
    }
}

/// An error means "not yet": the error and its causes are the reason.
impl<T: Into<Self>, E: Into<DynError>> From<Result<T, E>> for Verdict {
    fn from(said: Result<T, E>) -> Self {
        match said {
            Ok(said) => said.into(),
            Err(error) => Self::NotYet(chain(&*error.into())),
        }
    }
}

impl<E: Display> From<Result<(), E>> for Verdict {
    fn from(met: Result<(), E>) -> Self {
        match met {
            Ok(()) => Self::Met,
            Err(reason) => Self::NotYet(reason.to_string()),
        }
    }
}
