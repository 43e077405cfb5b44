//! Which operations a reader wants.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::operation::{Operation, rfc3339};
use crate::server::problem::Problem;

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OutcomeFilter {
    /// `success` is true.
    Success,
    /// It is not.
    Failure,
}

/// What is asked for.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsQuery {
    /// Where to begin: `oldest`, `end`, a cursor, or `last:N`, which is the newest N operations. Default: `oldest` for a page, `end` for a
    /// stream.
    #[param(
        example = "oldest",
        pattern = r"^(oldest|end|last:[1-9][0-9]{0,5}|[0-9a-f]{32}\.[0-9]{1,19}\.[0-9]{1,19})$"
    )]
    pub(crate) from: Option<String>,
    /// The most operations of a page. Default: 100.
    #[param(minimum = 1, maximum = 1_000)]
    pub(crate) limit: Option<usize>,
    /// Only operations of this source.
    pub(crate) source: Option<String>,
    /// Only operations of this endpoint.
    pub(crate) endpoint: Option<String>,
    /// Only operations that ended so.
    pub(crate) outcome: Option<OutcomeFilter>,
    /// Only operations whose timestamp is at or after this time of RFC 3339.
    #[param(format = DateTime)]
    pub(crate) since: Option<String>,
    /// Only operations whose timestamp is before this time of RFC 3339.
    #[param(format = DateTime)]
    pub(crate) until: Option<String>,
}

/// The same, read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    source: Option<String>,
    endpoint: Option<String>,
    is_success: Option<bool>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Filter {
    pub(crate) fn of(query: &EventsQuery) -> Result<Self, Problem> {
        Ok(Self {
            source: query.source.clone(),
            endpoint: query.endpoint.clone(),
            is_success: query.outcome.map(|outcome| outcome == OutcomeFilter::Success),
            since: time("since", query.since.as_deref())?,
            until: time("until", query.until.as_deref())?,
        })
    }

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

fn time(name: &str, text: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    let Some(text) = text else { return Ok(None) };
    rfc3339(text).map(Some).ok_or_else(|| {
        super::invalid_query(format!("`{name}` must be a time of RFC 3339, such as 2026-11-30T08:15:00Z"))
    })
}
