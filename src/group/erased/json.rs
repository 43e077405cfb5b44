//! Batches of erased handles as JSON.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use futures_core::Stream;
use serde_json::{Value, json};
use tokio::time::Instant;
use watchkeeper_fsm::StopReason;

use crate::cursor::Cursor;
use crate::error::CursorError;
use crate::panics::catch;
use crate::publish::history::ObservationBatch;
use crate::report::debug_as_text;
use crate::subscription::{RecvError, Subscription};
use crate::text::{MESSAGE, one_line};

/// Byte limit of one event, written without spaces.
const EVENT: usize = 64 * 1_024;

/// Byte limit of the events of one batch, written without spaces.
const BATCH: usize = 1_024 * 1_024;

/// Bytes added for each event.
const AROUND: usize = 16;

/// Converts one event to JSON.
pub(super) type EventJson<E> = Arc<dyn Fn(&E) -> serde_json::Result<Value> + Send + Sync>;

/// The batches of an [`AnyHandle`](super::AnyHandle) from a position on, in order, with their events as JSON.
///
/// It is a [`Subscription`] without the event type, with the same order, [`RecvError`]s and [`Stream`]. Each
/// subscription converts events in the reading task, when it returns their batch.
///
/// # Limits
///
/// An event of more than 64 KiB, written without spaces, is [`JsonEvent::TooLarge`]. The events of a batch have at
/// most 1 MiB together; [`JsonBatch::events_not_shown`] counts those beyond. An event whose conversion fails or
/// panics is [`JsonEvent::Failed`] and does not affect the others.
///
/// # Examples
///
/// ```
/// # use watchkeeper::group::{AnyHandle, JsonSubscriptionError};
/// # use watchkeeper::subscription::RecvError;
/// async fn print_all(handle: &AnyHandle) -> Result<(), JsonSubscriptionError> {
///     let mut batches = handle.subscribe_json()?;
///     loop {
///         match batches.recv().await {
///             Ok(batch) => println!("{}", batch.to_json()),
///             Err(RecvError::Closed(reason)) => return Ok(println!("the end: {reason}")),
///             Err(other) => println!("{}", other.to_json()),
///         }
///     }
/// }
/// # fn main() {}
/// ```
pub struct JsonSubscription {
    inner: Box<dyn ErasedBatches>,
    closed: Option<StopReason>,
}

/// Why a [`JsonSubscription`] could not be made.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonSubscriptionError {
    /// The handle cannot convert events to JSON.
    #[error(
        "this handle cannot show events as JSON: make it by AnyHandle::with_json_events, or add its runtime to the group by add_with_json_events"
    )]
    NoEventJson,
    /// The subscription cannot start at the cursor.
    #[error("no JSON from this cursor on")]
    Cursor(#[from] CursorError),
}

debug_as_text!(JsonSubscriptionError);

/// One batch with its events as JSON.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct JsonBatch {
    /// The generation of the observer's state that found the events.
    pub generation: u64,
    /// The batch's number: see [`ObservationBatch::seq`].
    pub seq: u64,
    /// The cycle that found the events.
    pub cycle: u64,
    /// The position after this batch, for [`subscribe_json_from`](super::AnyHandle::subscribe_json_from).
    pub cursor: Cursor,
    /// When the batch was published, on tokio's clock.
    pub observed_at: Instant,
    /// The wall time of publication, for display.
    pub system_time: SystemTime,
    /// How many sources there were.
    pub source_count: usize,
    /// The events in order, up to the byte limit.
    pub events: Vec<JsonEvent>,
    /// How many events are beyond the byte limit.
    pub events_not_shown: usize,
}

/// One event as JSON, or the reason why there is none.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum JsonEvent {
    /// The app's value.
    Value(Value),
    /// It has more than 64 KiB.
    TooLarge,
    /// The conversion failed: the message of the error or panic, one line of at most 1 KiB.
    Failed(String),
}

impl JsonBatch {
    /// The batch as one JSON object, of at most 1.2 MiB when printed without spaces.
    ///
    /// An event without a `value` has an `error` instead: `too_large`, or `failed` with a `message`. The system time
    /// is UTC, in RFC 3339 with milliseconds.
    ///
    /// ```json
    /// {
    ///   "type": "batch", "generation": 1, "seq": 17, "cycle": 41,
    ///   "cursor": "0f8e1a2b3c4d5e6f708192a3b4c5d6e7.1.18", "system_time": "2026-11-29T10:15:30.250Z",
    ///   "source_count": 3, "events": [{"value": {"leader": "n2"}}, {"error": "too_large"}], "events_not_shown": 0
    /// }
    /// ```
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "type": "batch",
            "generation": self.generation,
            "seq": self.seq,
            "cycle": self.cycle,
            "cursor": self.cursor.to_string(),
            "system_time": rfc3339(self.system_time),
            "source_count": self.source_count,
            "events": self.events.iter().map(JsonEvent::to_json).collect::<Vec<_>>(),
            "events_not_shown": self.events_not_shown,
        })
    }
}

impl JsonEvent {
    /// As an entry of [`JsonBatch::to_json`].
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::Value(value) => json!({ "value": value }),
            Self::TooLarge => json!({ "error": "too_large" }),
            Self::Failed(message) => json!({ "error": "failed", "message": message }),
        }
    }
}

impl RecvError {
    /// The error as a JSON object, to be printed between those of [`JsonBatch::to_json`].
    ///
    /// ```json
    /// {"type": "lagged", "missed": 12, "resume": "0f8e1a2b3c4d5e6f708192a3b4c5d6e7.1.30"}
    /// {"type": "rebuilt", "generation": 2}
    /// {"type": "closed", "reason": "stop was requested"}
    /// ```
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::Lagged { missed, resume } => {
                json!({ "type": "lagged", "missed": missed, "resume": resume.to_string() })
            }
            Self::Rebuilt { generation } => json!({ "type": "rebuilt", "generation": generation }),
            Self::Closed(reason) => json!({ "type": "closed", "reason": reason.to_string() }),
        }
    }
}

type Item = Result<JsonBatch, RecvError>;

impl JsonSubscription {
    pub(super) fn new<E: Send + Sync + 'static>(batches: Subscription<E>, json: EventJson<E>) -> Self {
        Self { inner: Box::new(TypedSubscription { batches, json }), closed: None }
    }

    /// The next batch.
    ///
    /// # Errors
    ///
    /// Like [`Subscription::recv`]: [`Lagged`](RecvError::Lagged) and [`Rebuilt`](RecvError::Rebuilt) are reported
    /// once. [`Closed`](RecvError::Closed) is the end, and each later call reports it again.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: a dropped call has taken nothing.
    pub async fn recv(&mut self) -> Result<JsonBatch, RecvError> {
        poll_fn(|context| self.poll(Some(context))).await
    }

    /// The next batch, if there is one already; `None` if there is nothing new.
    ///
    /// # Errors
    ///
    /// Like [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Option<Result<JsonBatch, RecvError>> {
        match self.poll(None) {
            Poll::Ready(item) => Some(item),
            Poll::Pending => None,
        }
    }

    /// The position after the last returned item.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.inner.cursor()
    }

    fn poll(&mut self, context: Option<&mut Context<'_>>) -> Poll<Item> {
        if let Some(reason) = self.closed {
            return Poll::Ready(Err(RecvError::Closed(reason)));
        }
        let item = std::task::ready!(self.inner.poll(context));
        if let Err(RecvError::Closed(reason)) = item {
            self.closed = Some(reason);
        }
        Poll::Ready(item)
    }
}

impl Stream for JsonSubscription {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Item>> {
        if self.closed.is_some() { Poll::Ready(None) } else { self.poll(Some(context)).map(Some) }
    }
}

impl fmt::Debug for JsonSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonSubscription").field("cursor", &self.cursor()).finish_non_exhaustive()
    }
}

trait ErasedBatches: Send + Sync {
    /// Not called again after the end.
    fn poll(&mut self, context: Option<&mut Context<'_>>) -> Poll<Item>;
    fn cursor(&self) -> Cursor;
}

struct TypedSubscription<E> {
    batches: Subscription<E>,
    json: EventJson<E>,
}

impl<E: Send + Sync + 'static> ErasedBatches for TypedSubscription<E> {
    fn poll(&mut self, context: Option<&mut Context<'_>>) -> Poll<Item> {
        let item = match context {
            Some(context) => std::task::ready!(Pin::new(&mut self.batches).poll_next(context)),
            None => match self.batches.try_recv() {
                None => return Poll::Pending,
                item => item,
            },
        };
        Poll::Ready(match item {
            Some(Ok(batch)) => Ok(shown(&batch, self.batches.cursor(), &self.json)),
            Some(Err(other)) => Err(other),
            None => unreachable!("the end is remembered by its reader"),
        })
    }

    fn cursor(&self) -> Cursor {
        self.batches.cursor()
    }
}

fn shown<E>(batch: &ObservationBatch<E>, cursor: Cursor, json: &EventJson<E>) -> JsonBatch {
    let mut events = Vec::new();
    let mut room = BATCH;
    for event in &batch.events {
        let (event, bytes) = show(event, json);
        let Some(rest) = room.checked_sub(bytes + AROUND) else { break };
        room = rest;
        events.push(event);
    }
    JsonBatch {
        generation: batch.generation,
        seq: batch.seq,
        cycle: batch.cycle,
        cursor,
        observed_at: batch.observed_at,
        system_time: batch.system_time,
        source_count: batch.source_count,
        events_not_shown: batch.events.len() - events.len(),
        events,
    }
}

/// The event as JSON, and its size in bytes.
fn show<E>(event: &E, json: &EventJson<E>) -> (JsonEvent, usize) {
    let failed = |message: &str| {
        let message = one_line(message, MESSAGE);
        let bytes = message.len();
        (JsonEvent::Failed(message), bytes)
    };
    // The error's text is app code too.
    let value = catch(|| json(event).map_err(|error| error.to_string()));
    match value {
        Ok(Ok(value)) => match written(&value) {
            Some(bytes) => (JsonEvent::Value(value), bytes),
            None => (JsonEvent::TooLarge, 0),
        },
        Ok(Err(error)) => failed(&error),
        Err(panic) => failed(&format!("panicked: {panic}")),
    }
}

/// The size of a value in bytes; `None` if it exceeds the limit of an event.
fn written(value: &Value) -> Option<usize> {
    struct Room(usize);
    impl io::Write for Room {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut room = Room(EVENT);
    serde_json::to_writer(&mut room, value).ok().map(|()| EVENT - room.0)
}

/// UTC with milliseconds: `2026-11-29T10:15:30.250Z`.
fn rfc3339(time: SystemTime) -> String {
    const DAY: i64 = 24 * 3_600_000;
    let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2);
    let millis = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => millis(since),
        Err(before) => -millis(before.duration()),
    };
    let (day, of_day) = (millis.div_euclid(DAY), millis.rem_euclid(DAY));
    let (year, month, day) = date(day);
    let (hour, minute, second) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", of_day % 1_000)
}

/// Year, month and day, from days since 1970.
fn date(days: i64) -> (i64, i64, i64) {
    /// Days of 400 years, after which the calendar repeats.
    const ERA: i64 = 146_097;
    /// Days from 1 March of year 0 to 1970. A leap day is then the last day of its year.
    const UNTIL_1970: i64 = 719_468;
    let (era, of_era) = ((days + UNTIL_1970).div_euclid(ERA), (days + UNTIL_1970).rem_euclid(ERA));
    let leap_days = |of_era: i64| of_era / 1_460 - of_era / 36_524 + of_era / (ERA - 1);
    let year = (of_era - leap_days(of_era)) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    // Five months from March on have 153 days.
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, day)
}

#[cfg(all(test, not(watchkeeper_loom)))]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_calendar_has_them() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_795_947_330_250, "2026-11-29T10:15:30.250Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (-2_203_891_200_000, "1900-03-01T00:00:00.000Z"),
        ];
        for (millis, expected) in cases {
            let offset = Duration::from_millis(i64::unsigned_abs(millis));
            let epoch = SystemTime::UNIX_EPOCH;
            let time = if millis < 0 { epoch - offset } else { epoch + offset };
            assert_eq!(rfc3339(time), expected);
        }
    }
}
