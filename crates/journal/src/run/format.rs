//! How snapshots and events become JSON.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;
use watchkeeper::{DynError, Observer};

/// Writes an observer's snapshots and events as JSON, and reads them again.
///
/// It is called in the task that records, not in the one that observes. What panics while it is written is recorded as
/// lost.
pub trait RunFormat<O: Observer>: Send + Sync + 'static {
    /// The snapshot as JSON.
    ///
    /// # Errors
    ///
    /// The publication is recorded as lost.
    fn write_snapshot(&self, value: &O::Snapshot, clock: &RunClock) -> Result<Value, DynError>;

    /// The snapshot that [`write_snapshot`](Self::write_snapshot) has written, also in another process.
    ///
    /// # Errors
    ///
    /// The replay ends with [`RunError::Format`](super::RunError::Format).
    fn read_snapshot(&self, value: Value, clock: &RunClock) -> Result<O::Snapshot, DynError>;

    /// The event as JSON.
    ///
    /// # Errors
    ///
    /// As [`write_snapshot`](Self::write_snapshot).
    fn write_event(&self, event: &O::Event, clock: &RunClock) -> Result<Value, DynError>;

    /// The event that [`write_event`](Self::write_event) has written.
    ///
    /// # Errors
    ///
    /// As [`read_snapshot`](Self::read_snapshot).
    fn read_event(&self, event: Value, clock: &RunClock) -> Result<O::Event, DynError>;
}

/// The format of snapshots and events with serde's traits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SerdeFormat;

impl<O> RunFormat<O> for SerdeFormat
where
    O: Observer<Snapshot: Serialize + DeserializeOwned, Event: Serialize + DeserializeOwned>,
{
    fn write_snapshot(&self, value: &O::Snapshot, _: &RunClock) -> Result<Value, DynError> {
        Ok(serde_json::to_value(value)?)
    }

    fn read_snapshot(&self, value: Value, _: &RunClock) -> Result<O::Snapshot, DynError> {
        Ok(serde_json::from_value(value)?)
    }

    fn write_event(&self, event: &O::Event, _: &RunClock) -> Result<Value, DynError> {
        Ok(serde_json::to_value(event)?)
    }

    fn read_event(&self, event: Value, _: &RunClock) -> Result<O::Event, DynError> {
        Ok(serde_json::from_value(event)?)
    }
}

/// Instants as numbers that mean the same in another process: nanoseconds since the start of the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunClock {
    start: Instant,
}

impl RunClock {
    pub(crate) fn new(start: Instant) -> Self {
        Self { start }
    }

    /// Nanoseconds since the start; less than 0 before it.
    #[must_use]
    pub fn nanos(&self, at: Instant) -> i64 {
        let signed = |duration| i64::try_from(nanos(duration)).unwrap_or(i64::MAX);
        match at.checked_duration_since(self.start) {
            Some(after) => signed(after),
            None => -signed(self.start.duration_since(at)),
        }
    }

    /// The instant of that number. In a replay it is on the feed's clock.
    #[must_use]
    pub fn instant(&self, nanos: i64) -> Instant {
        let duration = Duration::from_nanos(nanos.unsigned_abs());
        let moved =
            if nanos < 0 { self.start.checked_sub(duration) } else { self.start.checked_add(duration) };
        moved.unwrap_or(self.start)
    }
}

/// A duration as it is written: whole nanoseconds.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
