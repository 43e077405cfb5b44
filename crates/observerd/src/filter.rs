//! Which operations a reader wants.

use jiff::Timestamp;

use crate::operation::Operation;

/// What an operation must be; nothing is everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) source: Option<String>,
    pub(crate) endpoint: Option<String>,
    pub(crate) is_success: Option<bool>,
    /// At or after this time.
    pub(crate) since: Option<Timestamp>,
    /// Before this time.
    pub(crate) until: Option<Timestamp>,
}

impl Filter {
    /// Whether everything is wanted.
    pub(crate) fn is_open(&self) -> bool {
        let Self { source, endpoint, is_success, since, until } = self;
        source.is_none() && endpoint.is_none() && is_success.is_none() && since.is_none() && until.is_none()
    }

    /// Whether it is wanted. A record that is no operation is wanted where everything is.
    pub(crate) fn takes(&self, operation: Option<&Operation>) -> bool {
        let Some(operation) = operation else { return self.is_open() };
        self.source.as_ref().is_none_or(|source| *source == operation.source)
            && self.endpoint.as_ref().is_none_or(|endpoint| *endpoint == operation.endpoint)
            && self.is_success.is_none_or(|is_success| is_success == operation.success)
            && self.since.is_none_or(|since| operation.timestamp >= since)
            && self.until.is_none_or(|until| operation.timestamp < until)
    }
}
