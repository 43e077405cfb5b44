//! The query of `GET events`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::filter::Filter;
use crate::operation::rfc3339;
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

impl EventsQuery {
    /// What it wants.
    pub(crate) fn filter(&self) -> Result<Filter, Problem> {
        Ok(Filter {
            source: self.source.clone(),
            endpoint: self.endpoint.clone(),
            is_success: self.outcome.map(|outcome| outcome == OutcomeFilter::Success),
            since: time("since", self.since.as_deref())?,
            until: time("until", self.until.as_deref())?,
        })
    }
}

fn time(name: &str, text: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    let Some(text) = text else { return Ok(None) };
    rfc3339(text).map(Some).ok_or_else(|| {
        super::invalid_query(format!("`{name}` must be a time of RFC 3339, such as 2026-11-30T08:15:00Z"))
    })
}
