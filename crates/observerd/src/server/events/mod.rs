//! Operations that were recorded: as pages, and as a stream.

pub(crate) mod page;
pub(crate) mod query;
pub(crate) mod stream;

use http::StatusCode;
use watchkeeper_journal::{Cursor, Journal, JournalReader, ReadFrom, ReadFromError};

use super::problem::Problem;
use query::EventsQuery;

pub(crate) fn invalid_query(detail: impl AsRef<str>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "invalid-query", "Invalid query", detail)
}

/// Where to begin: `Last-Event-ID`, then `from`, then the default.
pub(crate) fn begin(
    query: &EventsQuery,
    last_event_id: Option<&str>,
    default: ReadFrom,
) -> Result<ReadFrom, Problem> {
    let from = last_event_id.filter(|id| !id.is_empty()).or(query.from.as_deref());
    from.map_or(Ok(default), |text| read(text).ok_or_else(invalid_cursor))
}

fn read(text: &str) -> Option<ReadFrom> {
    match (text, text.strip_prefix("last:")) {
        ("oldest", _) => Some(ReadFrom::Oldest),
        ("end", _) => Some(ReadFrom::End),
        (_, Some(count)) => {
            let is_number = (1..=6).contains(&count.len()) && count.bytes().all(|byte| byte.is_ascii_digit());
            count.parse().ok().filter(|count| is_number && *count > 0).map(ReadFrom::Last)
        }
        (text, None) => text.parse::<Cursor>().ok().map(ReadFrom::Cursor),
    }
}

fn invalid_cursor() -> Problem {
    let detail = "no position: give `oldest`, `end`, `last:100`, or a cursor of an answer, a page or an event, unchanged";
    Problem::new(StatusCode::BAD_REQUEST, "invalid-cursor", "Invalid cursor", detail)
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
