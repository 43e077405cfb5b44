//! `POST event` and `POST events`.

use std::fmt;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::{Deserializer as _, Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use utoipa::ToSchema;
use watchkeeper_journal::{AppendError, Entry, EntryError};

use super::app::App;
use super::bodies::{content_length, is_plain};
use super::metrics::OperationLabels;
use super::problem::Problem;
use crate::keys::{Key, KeyError};
use crate::operation::{Operation, OperationError};
use crate::recorded::Recorded;
use crate::store::RecordError;

/// The most bytes of an operation. With its tail it is a line of at most 1 MiB, which the reader of the replaced system takes.
pub(crate) const MAX_EVENT: usize = 1024 * 1024 - 4 * 1024;

/// The most bytes of a batch.
pub(crate) const MAX_EVENTS: usize = 4 * 1024 * 1024;

/// The most operations of a batch.
const MAX_BATCH: usize = 100_000;

/// What the journal counts for the tail of a record with a key.
const TAIL: usize = 512;

/// What a request takes in memory besides its body, until it is recorded.
const REQUEST: usize = 2 * 1024;

/// What an operation of a batch takes in memory besides its text.
const OPERATION: usize = 512;

/// From this size on a batch is parsed beside the executor.
const LARGE: usize = 64 * 1024;

/// The header with the key of a request that may be sent again.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The answer to operations that were recorded.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecordedAnswer {
    /// The sequence of the operation; of a batch, of its first one. `null` if a full or broken disk could not take it with `buffered`: it
    /// is in memory alone.
    sequence: Option<u64>,
    /// How many operations were recorded.
    count: u64,
    /// The position after them, for `from` and `Last-Event-ID`.
    cursor: Option<String>,
    /// What is promised: `memory`, `buffered`, `group` or `always`.
    durability: String,
    /// Whether this is the answer to an earlier request with the same idempotency key, and nothing was recorded now.
    repeated: bool,
}

impl From<Recorded> for RecordedAnswer {
    fn from(recorded: Recorded) -> Self {
        Self {
            sequence: recorded.sequence,
            count: recorded.count,
            cursor: recorded.cursor.map(|cursor| cursor.to_string()),
            durability: recorded.durability.to_string(),
            repeated: recorded.is_repeated,
        }
    }
}

/// An operation as it is sent.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventBody {
    /// What was called. Not empty, nor of white space alone.
    #[schema(min_length = 1, max_length = 1_024, pattern = r"\S")]
    pub endpoint: String,
    /// When it happened. Default: the time of receipt. An offset becomes UTC.
    #[schema(format = DateTime, nullable)]
    pub timestamp: Option<String>,
    /// Who reports it. Known are `mcp`, `scenario`, `langfuse` and `overseer_correction`; others are allowed. Default: `mcp`.
    #[schema(max_length = 256, nullable)]
    pub source: Option<String>,
    /// Whether it succeeded. Default: false.
    #[schema(nullable)]
    pub success: Option<bool>,
    /// How long it took, in milliseconds.
    #[schema(minimum = 0, nullable)]
    pub duration_ms: Option<f64>,
    /// What went in, in short.
    #[schema(nullable)]
    pub input_summary: Option<String>,
    /// What came out, in short.
    #[schema(nullable)]
    pub output_summary: Option<String>,
    /// The error's message.
    #[schema(nullable)]
    pub error: Option<String>,
    /// Who did it.
    #[schema(max_length = 256, nullable)]
    pub staffer_id: Option<String>,
    /// What kind of event it is.
    #[schema(max_length = 256, nullable)]
    pub event_kind: Option<String>,
    /// The role of who did it.
    #[schema(max_length = 256, nullable)]
    pub role: Option<String>,
}

/// A batch of operations.
#[derive(Debug, Serialize, ToSchema)]
#[schema(min_items = 1, max_items = 100_000)]
pub(crate) struct EventsBody(Vec<EventBody>);

/// Records one operation
///
/// It is validated, persisted, then applied to the statistics. Fields that are not listed are kept as they came, but names that begin
/// with `_wk_` are refused. A request that is sent again without `Idempotency-Key` is recorded again.
#[utoipa::path(
    post, path = "/event", tag = "operations", request_body = EventBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 200 visible characters of ASCII", min_length = 1, max_length = 200, pattern = "^[!-~]+$")),
    responses((status = 200, body = RecordedAnswer, description = "It is recorded as `durability` says")),
)]
pub(crate) async fn event(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<RecordedAnswer>, Problem> {
    let (body, mut permit) = read(&app, &headers, body, MAX_EVENT).await?;
    let key = key(&headers, &body)?;
    let (operation, entry) = Operation::read(text(&body)?, now()).map_err(|error| invalid(&error, None))?;
    drop(body);
    app.bodies.take_more(&mut permit, operation.error.len())?;
    let labels = vec![app.metrics.labels(&operation)];
    answer(&app, &labels, app.store.record(operation, entry, key, Some(permit))).await
}

/// Records operations, all or none
///
/// The body is a JSON array, or one operation a line. Each is checked as by `POST event`.
#[utoipa::path(
    post, path = "/events", tag = "operations", request_body(content(
        (EventsBody = "application/json"), (String = "application/x-ndjson"),
    )),
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 200 visible characters of ASCII", min_length = 1, max_length = 200, pattern = "^[!-~]+$")),
    responses((status = 200, body = RecordedAnswer, description = "They are recorded as `durability` says")),
)]
pub(crate) async fn events(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<RecordedAnswer>, Problem> {
    let (body, mut permit) = read(&app, &headers, body, MAX_EVENTS).await?;
    let key = key(&headers, &body)?;
    let operations = if body.len() < LARGE {
        batch(&body)?
    } else {
        // Others are answered meanwhile. It goes on if the client goes away, and keeps its memory so long.
        let slot = Arc::clone(&app.parsing).acquire_owned().await;
        let parsed = tokio::task::spawn_blocking(move || {
            let operations = batch(&body);
            drop((slot, body));
            (operations, permit)
        });
        let (operations, returned) = match parsed.await {
            Ok(parsed) => parsed,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        permit = returned;
        operations?
    };
    app.bodies.take_more(&mut permit, operations.len() * OPERATION)?;
    let labels: Vec<_> = operations.iter().map(|(operation, _)| app.metrics.labels(operation)).collect();
    answer(&app, &labels, app.store.record_batch(operations, key, Some(permit))).await
}

/// The time of receipt, in milliseconds.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

/// The body, and the memory of it and of the request.
async fn read(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    most: usize,
) -> Result<(Bytes, OwnedSemaphorePermit), Problem> {
    is_plain(headers)?;
    let (body, mut permit) = app.bodies.read(body, content_length(headers), most).await?;
    app.bodies.take_more(&mut permit, REQUEST)?;
    Ok((body, permit))
}

pub(crate) fn text(body: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(body).map_err(|error| {
        let detail = format!("the body is no UTF-8 from byte {} on: send JSON as UTF-8", error.valid_up_to());
        Problem::new(StatusCode::BAD_REQUEST, "invalid-json", "Invalid JSON", detail)
    })
}

fn key(headers: &HeaderMap, body: &[u8]) -> Result<Option<Key>, Problem> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    match (keys.next(), keys.next()) {
        (None, _) => Ok(None),
        (Some(key), None) => Key::new(key.to_str().unwrap_or_default(), body).map(Some).map_err(key_problem),
        (Some(_), Some(_)) => Err(key_problem(KeyError::Invalid)),
    }
}

/// The operations of an array, or of lines.
pub(crate) fn batch(body: &[u8]) -> Result<Vec<(Operation, Entry)>, Problem> {
    let text = text(body)?;
    let mut batch = Batch { now: now(), operations: Vec::new(), bytes: 0 };
    if text.trim_start().starts_with('[') {
        let mut problem = None;
        let mut json = serde_json::Deserializer::from_str(text);
        let each = Items(|text: &str| batch.add(text).map_err(|refused| problem = Some(refused)).is_ok());
        let read = json.deserialize_seq(each).and_then(|()| json.end());
        if let Some(problem) = problem {
            return Err(problem);
        }
        read.map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let detail = format!("no JSON at line {line}, column {column}: send an array of operations");
            Problem::new(StatusCode::BAD_REQUEST, "invalid-json", "Invalid JSON", detail)
        })?;
    } else {
        for line in text.split('\n').map(str::trim).filter(|line| !line.is_empty()) {
            batch.add(line)?;
        }
    }
    if batch.operations.is_empty() {
        let detail = "the batch is empty: send at least one operation";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "empty-batch", "Empty batch", detail));
    }
    Ok(batch.operations)
}

/// As many operations as fit into a batch of the journal.
struct Batch {
    now: Timestamp,
    operations: Vec<(Operation, Entry)>,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, text: &str) -> Result<(), Problem> {
        let index = self.operations.len();
        if text.len() > MAX_EVENT {
            return Err(invalid(&EntryError::TooLong { bytes: text.len() }.into(), Some(index)));
        }
        let operation = Operation::read(text, self.now).map_err(|error| invalid(&error, Some(index)))?;
        self.bytes += operation.1.body().len() + TAIL;
        if self.bytes > MAX_EVENTS || index == MAX_BATCH {
            let detail = format!(
                "a batch has at most {MAX_BATCH} operations of {MAX_EVENTS} bytes, with {TAIL} more for each: {index} fit; \
                 nothing of it was recorded, so split it"
            );
            return Err(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body-too-large",
                "Batch too large",
                detail,
            ));
        }
        self.operations.push(operation);
        Ok(())
    }
}

/// The items of an array, one by one, until one is refused.
struct Items<F>(F);

impl<'de, F: FnMut(&'de str) -> bool> Visitor<'de> for Items<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element::<&'de RawValue>()? {
            if !(self.0)(item.get()) {
                return Err(A::Error::custom("an item was refused"));
            }
        }
        Ok(())
    }
}

fn invalid(error: &OperationError, index: Option<usize>) -> Problem {
    let detail = match index {
        Some(index) => format!("operation {index}: {error}; nothing of the batch was recorded"),
        None => error.to_string(),
    };
    let base = index.map(|index| format!("/{index}")).unwrap_or_default();
    let problem = match error {
        OperationError::NotJson { .. } => {
            Problem::new(StatusCode::BAD_REQUEST, "invalid-json", "Invalid JSON", detail)
        }
        OperationError::Entry(EntryError::TooLong { .. }) => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "Operation too large", detail)
        }
        _ => Problem::new(StatusCode::BAD_REQUEST, "invalid-operation", "Invalid operation", detail),
    };
    match error.name() {
        Some(name) => problem.at(format!("{base}/{name}")),
        None => problem,
    }
}

async fn answer(
    app: &App,
    labels: &[OperationLabels],
    recording: impl Future<Output = Result<Recorded, RecordError>>,
) -> Result<Json<RecordedAnswer>, Problem> {
    let count = labels.len();
    let Ok(recorded) = timeout(app.limits.append, recording).await else {
        app.metrics.refused("unknown", count);
        let detail = "the disk did not answer in time: what was sent may be recorded or not; send it again with its idempotency key";
        let problem =
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "storage-slow", "Storage is slow", detail);
        return Err(problem.retry_after(5));
    };
    match recorded {
        Ok(recorded) => {
            app.metrics.recorded(labels, recorded.is_repeated);
            Ok(Json(recorded.into()))
        }
        Err(RecordError::Key(error)) => {
            app.metrics.refused("key", count);
            Err(key_problem(error))
        }
        Err(RecordError::Append(error)) => {
            let (reason, problem) = append_problem(&error, app.stop.is_cancelled());
            app.metrics.refused(reason, count);
            Err(problem)
        }
        Err(error @ RecordError::Unknown) => {
            app.metrics.refused("unknown", count);
            Err(Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "The service failed",
                error.to_string(),
            ))
        }
    }
}

fn key_problem(error: KeyError) -> Problem {
    let problem = |status, slug| Problem::new(status, slug, "Idempotency key", error.to_string());
    match error {
        KeyError::Invalid => problem(StatusCode::BAD_REQUEST, "invalid-key"),
        KeyError::Reused => problem(StatusCode::UNPROCESSABLE_ENTITY, "key-reused"),
        KeyError::InProgress => problem(StatusCode::CONFLICT, "key-in-progress").retry_after(1),
    }
}

fn append_problem(error: &AppendError, is_stopping: bool) -> (&'static str, Problem) {
    let detail = error.to_string();
    match error {
        AppendError::Full { .. } => (
            "full",
            Problem::new(StatusCode::INSUFFICIENT_STORAGE, "storage-full", "Storage is full", detail),
        ),
        AppendError::BatchTooLarge { .. } => (
            "too_large",
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "Batch too large", detail),
        ),
        AppendError::Closed if is_stopping => {
            let detail = "the service is stopping: send it again to the one that comes after";
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "Stopping", detail);
            ("closed", problem.retry_after(1))
        }
        AppendError::Sync { .. } => {
            let problem = Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "storage-unconfirmed",
                "Storage did not confirm",
                detail,
            );
            ("sync", problem.retry_after(5))
        }
        _ => {
            let problem =
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "storage-failed", "Storage has failed", detail);
            ("write", problem.retry_after(5))
        }
    }
}
