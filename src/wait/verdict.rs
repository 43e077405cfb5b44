//! The verdict of a predicate.

use std::fmt::Display;

use crate::error::DynError;
use crate::text::error_chain::chain;

/// The verdict of a wait's predicate on a snapshot, a source's value or an event.
///
/// A predicate returns a type that converts into a verdict: a `bool`, a `Result<(), reason>`, a `Verdict`, or a
/// `Result` of one of these. An error means "not yet" and is the reason. The report shows the last reason.
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
    /// The condition is met.
    Met,
    /// The condition is not met, for this reason; an empty string is no reason. For
    /// [`always`](crate::ObservationHandle::always) and for an invariant this is a violation.
    NotYet(String),
    /// The condition will never be met: the wait ends now, as
    /// [`UnmetOutcome::GaveUp`](crate::wait::UnmetOutcome::GaveUp).
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
