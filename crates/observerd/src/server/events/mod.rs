//! Operations that were recorded: as pages, and as a stream.

pub(crate) mod filter;
pub(crate) mod page;
pub(crate) mod stream;

use http::StatusCode;
use watchkeeper_journal::{Cursor, Journal, JournalReader, ReadFrom, ReadFromError};

use super::problem::Problem;
use filter::EventsQuery;

pub(crate) fn invalid_query(detail: impl AsRef<str>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "invalid-query", "Invalid query", detail)
}

/// Where to begin: `Last-Event-ID`, then `from`, then `last`, then the default.
pub(crate) fn begin(
    query: &EventsQuery,
    last_event_id: Option<&str>,
    default: ReadFrom,
) -> Result<ReadFrom, Problem> {
    if query.from.is_some() && query.last.is_some() {
        return Err(invalid_query("`from` and `last` both say where to begin: give one of them"));
    }
    if query.last.is_some_and(|last| !(1..=1_000_000).contains(&last)) {
        return Err(invalid_query("`last` must be 1 to 1000000"));
    }
    let from = last_event_id.filter(|id| !id.is_empty()).or(query.from.as_deref());
    match (from, query.last) {
        (Some("oldest"), _) => Ok(ReadFrom::Oldest),
        (Some("end"), _) => Ok(ReadFrom::End),
        (Some(text), _) => cursor(text).map(ReadFrom::Cursor),
        (None, Some(last)) => Ok(ReadFrom::Last(last)),
        (None, None) => Ok(default),
    }
}

fn cursor(text: &str) -> Result<Cursor, Problem> {
    text.parse().map_err(|_| {
        let detail =
            "no cursor: give `oldest`, `end`, or a cursor of an answer, a page or an event, unchanged";
        Problem::new(StatusCode::BAD_REQUEST, "invalid-cursor", "Invalid cursor", detail)
    })
}

pub(crate) fn reader(journal: &Journal, from: ReadFrom) -> Result<JournalReader, Problem> {
    journal.reader(from).map_err(|error| {
        let detail = match error {
            ReadFromError::Foreign => {
                "the cursor is of another journal, such as one in memory before a restart: begin with `from=oldest`"
            }
            _ => "the cursor is of operations that are not there: they were lost, or never recorded; begin with `from=oldest`",
        };
        Problem::new(StatusCode::GONE, "unknown-cursor", "Unknown cursor", detail)
    })
}
