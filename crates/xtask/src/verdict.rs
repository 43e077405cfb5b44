//! How one step ended.

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    /// There is nothing to check yet, or it cannot be checked here; says why.
    Skipped(String),
    /// It did not hold; says what.
    Failed(String),
    /// It could not be run for want of a tool; says which. Not a success.
    LeftOut(String),
}

impl Verdict {
    /// Passed, or failed by every line of `broken`.
    pub(crate) fn of(broken: &[String]) -> Result<Self, String> {
        if broken.is_empty() { Ok(Self::Passed) } else { Err(broken.join("\n")) }
    }

    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Skipped(_) => "skipped",
            Self::Failed(_) => "FAILED",
            Self::LeftOut(_) => "LEFT OUT",
        }
    }

    /// Why it is not simply passed.
    pub(crate) fn note(&self) -> Option<&str> {
        match self {
            Self::Passed => None,
            Self::Skipped(note) | Self::Failed(note) | Self::LeftOut(note) => Some(note),
        }
    }

    pub(crate) fn is_good(&self) -> bool {
        matches!(self, Self::Passed | Self::Skipped(_))
    }
}
