//! What the fuzz targets reach. It is no interface, and changes with what is behind it.

use axum::extract::Query;
use http::Uri;
use watchkeeper_journal::{Entry, Journal, JournalReader, ReadFrom};

use crate::operation::Operation;
use crate::server::events::query::EventsQuery;
use crate::server::events::{begin, invalid_query, reader};
use crate::server::problem::Problem;
use crate::server::record;

/// Reads the body of `POST events`.
///
/// # Errors
///
/// What is answered.
pub fn batch(text: &str) -> Result<Vec<(Operation, Entry)>, Problem> {
    record::batch(text.as_bytes())
}

/// Reads where a stream begins.
///
/// # Errors
///
/// What is answered.
pub fn position(uri: &Uri, last_event_id: Option<&str>) -> Result<ReadFrom, Problem> {
    let Query(query) =
        Query::<EventsQuery>::try_from_uri(uri).map_err(|error| invalid_query(error.body_text()))?;
    query.filter()?;
    begin(&query, last_event_id, ReadFrom::End)
}

/// Begins there.
///
/// # Errors
///
/// What is answered.
pub fn reader_from(journal: &Journal, from: ReadFrom) -> Result<JournalReader, Problem> {
    reader(journal, from)
}
