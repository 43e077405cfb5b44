//! `GET clusters`, `GET playbooks`, `POST review`.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use watchkeeper::{ObservationHandle, Observer};

use super::answers;
use super::app::App;
use super::bodies::{content_length, is_plain};
use super::problem::Problem;
use super::query::Query;
use super::record::{MAX_EVENT, text};
use crate::loops::errors::ClusterPage;
use crate::loops::playbooks::PlaybookPage;
use crate::review::{Review, ReviewContext, ReviewError, ReviewRequest, add_history, review};

/// How many are wanted.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListParams {
    /// The most that are listed. Default: 100.
    limit: Option<usize>,
}

impl ListParams {
    fn limit(self) -> Result<usize, Problem> {
        let limit = self.limit.unwrap_or(100);
        if (1..=1_000).contains(&limit) {
            return Ok(limit);
        }
        Err(super::events::invalid_query("`limit` must be 1 to 1000"))
    }
}

/// Clusters of errors, with their age.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ClustersAnswer {
    /// Whether the analysis has read the journal recently.
    fresh: bool,
    /// How long ago that was, in seconds.
    age_seconds: f64,
    #[serde(flatten)]
    page: ClusterPage,
}

/// Playbooks, with their age.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlaybooksAnswer {
    /// Whether the consolidation has read the journal recently.
    fresh: bool,
    /// How long ago that was, in seconds.
    age_seconds: f64,
    #[serde(flatten)]
    page: PlaybookPage,
}

/// Clusters of errors of the newest operations
///
/// Failed operations of one endpoint whose messages are the same but for numbers, ids and other variable parts.
#[utoipa::path(get, path = "/clusters", tag = "analysis", params(("limit" = Option<u32>, Query, minimum = 1, maximum = 1_000, description = "The most that are listed. Default: 100")), responses((status = 200, body = ClustersAnswer)))]
pub(crate) async fn clusters(
    State(app): State<Arc<App>>,
    Query(query): Query<ListParams>,
) -> Result<Response, Problem> {
    let limit = query.limit()?;
    let (report, fresh, age_seconds) = latest(app.loops.errors())?;
    answers::of(&app, &ClustersAnswer { fresh, age_seconds, page: report.page(limit) })
}

/// Sequences of endpoints that succeed repeatedly
///
/// Two or three consecutive operations of one thread of work, a `staffer_id` or else a source.
#[utoipa::path(get, path = "/playbooks", tag = "analysis", params(("limit" = Option<u32>, Query, minimum = 1, maximum = 1_000, description = "The most that are listed. Default: 100")), responses((status = 200, body = PlaybooksAnswer)))]
pub(crate) async fn playbooks(
    State(app): State<Arc<App>>,
    Query(query): Query<ListParams>,
) -> Result<Response, Problem> {
    let limit = query.limit()?;
    let (report, fresh, age_seconds) = latest(app.loops.playbooks())?;
    answers::of(&app, &PlaybooksAnswer { fresh, age_seconds, page: report.page(limit) })
}

/// Reviews an operation by documented rules
///
/// Nothing is recorded, and no model is called. The README lists the rules.
#[utoipa::path(post, path = "/review", tag = "analysis", request_body = ReviewRequest, responses((status = 200, body = Review)))]
pub(crate) async fn review_operation(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Review>, Problem> {
    is_plain(&headers)?;
    let (body, _permit) = app.bodies.read(body, content_length(&headers), MAX_EVENT).await?;
    // For a history that the service has.
    let _memory = app.answers.reserve(2 * MAX_EVENT)?;
    let mut request = ReviewRequest::read(text(&body)?).map_err(|error| invalid(&error))?;
    add_history(&mut request, app.store.journal()).await.map_err(|error| {
        tracing::error!(%error, "a review has no history");
        let detail = "the journal cannot be read: see the service's log, or send a history";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "storage-unreadable", "Storage is unreadable", detail)
    })?;
    let snapshot = |app: &App| ReviewContext {
        clusters: app
            .loops
            .errors()
            .latest_snapshot()
            .map(|known| Arc::clone(&known.value.clusters))
            .unwrap_or_default(),
        playbooks: app
            .loops
            .playbooks()
            .latest_snapshot()
            .map(|known| Arc::clone(&known.value.playbooks))
            .unwrap_or_default(),
    };
    review(&request, &snapshot(&app), Timestamp::now()).map(Json).map_err(|error| invalid(&error))
}

fn invalid(error: &ReviewError) -> Problem {
    let (kind, title) = match error {
        ReviewError::NotJson { .. } => ("invalid-json", "Invalid JSON"),
        _ => ("invalid-review", "Invalid request for a review"),
    };
    let problem = Problem::new(StatusCode::BAD_REQUEST, kind, title, error.to_string());
    match error.pointer() {
        Some(pointer) => problem.at(pointer),
        None => problem,
    }
}

/// The newest snapshot of a loop, whether it is fresh, and its age in seconds.
fn latest<O: Observer<Snapshot: Clone>>(
    handle: &ObservationHandle<O>,
) -> Result<(O::Snapshot, bool, f64), Problem> {
    let freshness = handle.freshness();
    let (Some(snapshot), Some(age)) = (handle.latest_snapshot(), freshness.age()) else {
        let detail =
            "the operations are not analysed yet: ask again in a second; health has the loop's last error";
        let problem =
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-analysed", "Not analysed yet", detail);
        return Err(problem.retry_after(1));
    };
    Ok((snapshot.value.clone(), freshness.is_fresh(), age.as_secs_f64()))
}
