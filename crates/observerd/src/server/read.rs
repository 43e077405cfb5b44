//! `GET stats`, `GET events`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode, header};
use watchkeeper_journal::ReadFrom;

use super::answers;
use super::app::App;
use super::events::page::{EventsPage, MEMORY, page};
use super::events::query::EventsQuery;
use super::events::stream::EventStream;
use super::events::{begin, invalid_query, reader};
use super::problem::Problem;
use super::query::Query;
use crate::ring::Stats;

/// Statistics over the newest 2,000 operations
#[utoipa::path(get, path = "/stats", tag = "operations", responses((status = 200, body = Stats)))]
pub(crate) async fn stats(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    answers::of(&app, &app.store.stats())
}

/// Recorded operations, as a page or as a stream
///
/// A page has the operations from a position on, oldest first, and says where the next one begins. With `Accept: text/event-stream` the answer
/// is a stream that goes on: events `operation` and `gap`, whose data is as in a page, and whose id is the position after it; after
/// 15 s without an event there is a comment. `Last-Event-ID` continues it without a loss, and goes before `from`.
#[utoipa::path(
    get, path = "/events", tag = "operations",
    params(EventsQuery, (
        "Last-Event-ID" = Option<String>, Header, description = "The id of the last event of a stream",
        pattern = r"^(|oldest|end|[0-9a-f]{32}\.[0-9]{1,19}\.[0-9]{1,19})$",
    )),
    responses((status = 200, description = "A page, or a stream", content(
        (EventsPage = "application/json"), (String = "text/event-stream"),
    )), (status = 410, description = "Unknown cursor", content_type = "application/problem+json", body = Problem)),
)]
pub(crate) async fn events(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Query(query): Query<EventsQuery>,
) -> Result<Response, Problem> {
    let filter = query.filter()?;
    let limit = query.limit.unwrap_or(100);
    if !(1..=1_000).contains(&limit) {
        return Err(invalid_query("`limit` must be 1 to 1000"));
    }
    let is_stream = headers.get_all(header::ACCEPT).iter().any(|accept| {
        accept.to_str().is_ok_and(|accept| accept.to_ascii_lowercase().contains("text/event-stream"))
    });
    let journal = app.store.journal();
    let last_event_id = match headers.get("last-event-id") {
        None => None,
        Some(id) => Some(id.to_str().map_err(|_| invalid_query("`Last-Event-ID` is no text"))?),
    };
    if !is_stream {
        let reader = reader(journal, begin(&query, last_event_id, ReadFrom::Oldest)?)?;
        let memory = app.answers.reserve(MEMORY)?;
        let page = page(journal, reader, &filter, limit).await;
        return page.map(|page| answers::json(page, memory)).map_err(|error| {
            tracing::error!(%error, "a page cannot be read");
            let detail = "the journal cannot be read: see the service's log";
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "storage-unreadable",
                "Storage is unreadable",
                detail,
            )
        });
    }
    let reader = reader(journal, begin(&query, last_event_id, ReadFrom::End)?)?;
    let slot = app.streams.take()?;
    let stop = app.stop.clone();
    Ok(EventStream::new(journal, &app.live, reader, filter, stop, slot).into_response())
}
