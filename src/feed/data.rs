//! What a feed is given, and what it refuses.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use watchkeeper_fsm::{Cause, Stage, StopReason};

use crate::cursor::{Cursor, LAST_RESUMED};
use crate::observer::Observer;
use crate::report::debug_as_text;
use crate::tap::Record;

/// Where a [`Feed`](super::Feed) begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedStart {
    /// What its clock shows at first.
    pub at: Instant,
    /// The same moment on the wall, for display.
    pub system_time: SystemTime,
    /// The position of the run at that moment, so that its cursors are valid here; `None` for a run of its own.
    pub cursor: Option<Cursor>,
    /// The first cycle to come.
    pub cycle: u64,
    /// How many events there were before.
    pub event_count: u64,
}

impl FeedStart {
    /// This moment, of tokio's clock and of the wall's, for a run of its own.
    #[must_use]
    pub fn now() -> Self {
        Self { at: Instant::now(), system_time: SystemTime::now(), cursor: None, cycle: 0, event_count: 0 }
    }
}

/// Right before this record, which may then be the first that is published.
impl<O: Observer> From<&Record<O>> for FeedStart {
    fn from(record: &Record<O>) -> Self {
        let batch = record.batch.as_ref();
        let seq = batch.map_or(record.cursor.seq, |batch| batch.seq);
        let events = batch.map_or(0, |batch| batch.events.len() as u64);
        Self {
            at: record.at,
            system_time: record.system_time,
            cursor: Some(Cursor { seq, ..record.cursor }),
            cycle: record.status.cycle,
            event_count: record.event_count.saturating_sub(events),
        }
    }
}

/// A cycle that has succeeded, for [`Feed::success`](super::Feed::success).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedSuccess<S, E> {
    /// Its number: after that of each cycle before.
    pub cycle: u64,
    /// The generation of the state: that of the cycle before, or a later one after a rebuild.
    pub generation: u64,
    /// When the cycle began.
    pub began: Instant,
    /// Whether it is of a poll, or of the `init` that begins each generation:
    /// [`ObservationSnapshot::is_polled`](crate::ObservationSnapshot::is_polled).
    pub is_polled: bool,
    /// The snapshot.
    pub value: S,
    /// What changed; without events there is no batch.
    pub events: Vec<E>,
}

/// A cycle that has failed, for [`Feed::failure`](super::Feed::failure).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedFailure {
    /// Its number: after that of each cycle before.
    pub cycle: u64,
    /// When the cycle began.
    pub began: Instant,
    /// What was being done.
    pub stage: Stage,
    /// How it failed.
    pub cause: Cause,
    /// The error with its causes; at most 1 KiB of it is kept.
    pub message: String,
    /// The state was lost: the next cycle builds one.
    pub rebuild: bool,
}

/// What of a run is missing, for [`Feed::lost`](super::Feed::lost).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedLoss {
    /// How many publications: what waits count as missed.
    pub publications: u64,
    /// How many batches of events were among them: what subscriptions return as missed.
    pub batches: u64,
    /// How many events were in those.
    pub events: u64,
}

/// Why something was not published. Nothing has changed then.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// The end was published.
    #[error("the feed has ended ({0}), and nothing comes after that: begin another feed")]
    Ended(StopReason),
    /// It was before what was published last.
    #[error("this is {by:?} before what was published last: publish in the order of time")]
    TimeWentBack {
        /// How much before.
        by: Duration,
    },
    /// A cycle ended before it began.
    #[error("the cycle began {by:?} after its end: give the moment at which it began")]
    BeforeItsCycle {
        /// How much later it began.
        by: Duration,
    },
    /// The cycle is not after those before it: each ends once.
    #[error("cycle {cycle} comes after cycle {newest}: cycles count up, and each ends once")]
    CycleWentBack {
        /// The cycle.
        cycle: u64,
        /// The newest before.
        newest: u64,
    },
    /// The generation is before the present one.
    #[error("generation {generation} comes after generation {newest}: generations count up")]
    GenerationWentBack {
        /// The generation.
        generation: u64,
        /// The present one.
        newest: u64,
    },
    /// A number leaves no room for what is to come.
    #[error("{field} would be {value}: it may be at most {max}", max = LAST_RESUMED)]
    TooLarge {
        /// Which: `cycle`, `generation`, `publications`, `seq` or `event_count`.
        field: &'static str,
        /// What it would be.
        value: u64,
    },
    /// Records are missing in between: a wait has to know that there were some.
    #[error(
        "record {found} comes where {expected} is due: publish each record once; what a tap has lost is passed over by \
         Feed::lost_before"
    )]
    RecordsMissing {
        /// The number of the record that is due.
        expected: u64,
        /// That of the record.
        found: u64,
    },
    /// The record is of another run, or of another position in it.
    #[error(
        "this record does not go on from where the feed is: begin the feed with FeedStart::from(&record)"
    )]
    Foreign,
    /// The record is not as its tap has given it.
    #[error("the record's {field} was changed: publish records as their tap has given them")]
    Altered {
        /// Which field.
        field: &'static str,
    },
    /// More batches were lost than publications, or more batches than events: each batch is of a publication and has an
    /// event.
    #[error(
        "{} publications, {} batches and {} events cannot have been lost together: each batch is one of the publications \
         and has at least one event; no batch has none",
        .0.publications, .0.batches, .0.events
    )]
    InvalidLoss(FeedLoss),
    /// The moment is so late that there is no time left for windows and ages.
    #[error("this moment is within a year of the last one that there can be: give the times of the run")]
    TooLate,
}

debug_as_text!(FeedError);
