//! The input of a feed, and its errors.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use watchkeeper_fsm::{Cause, Stage, StopReason};

use crate::cursor::{Cursor, LAST_RESUMED};
use crate::observer::Observer;
use crate::report::debug_as_text;
use crate::tap::Record;

/// The start of a [`Feed`](super::Feed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedStart {
    /// The first time on the feed's clock.
    pub at: Instant,
    /// The same moment as wall-clock time, for display.
    pub system_time: SystemTime,
    /// The position of the run at that moment, which makes cursors of the run valid here; `None` for a new run.
    pub cursor: Option<Cursor>,
    /// The number of the next cycle.
    pub cycle: u64,
    /// The number of events so far.
    pub event_count: u64,
}

impl FeedStart {
    /// The present moment, on tokio's clock and the wall clock, for a new run.
    #[must_use]
    pub fn now() -> Self {
        Self { at: Instant::now(), system_time: SystemTime::now(), cursor: None, cycle: 0, event_count: 0 }
    }
}

/// The start right before this record, which may then be published first.
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

/// A successful cycle, for [`Feed::success`](super::Feed::success).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedSuccess<S, E> {
    /// The number of the cycle: higher than the number of each earlier cycle.
    pub cycle: u64,
    /// The generation of the state: the previous one, or a higher one after a rebuild.
    pub generation: u64,
    /// The begin of the cycle.
    pub began: Instant,
    /// Whether the snapshot is of a poll, or of the `init` that begins each generation:
    /// [`ObservationSnapshot::is_polled`](crate::ObservationSnapshot::is_polled).
    pub is_polled: bool,
    /// The snapshot.
    pub value: S,
    /// The events of the cycle; without events there is no batch.
    pub events: Vec<E>,
}

/// A failed cycle, for [`Feed::failure`](super::Feed::failure).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedFailure {
    /// The number of the cycle: higher than the number of each earlier cycle.
    pub cycle: u64,
    /// The begin of the cycle.
    pub began: Instant,
    /// The work that failed.
    pub stage: Stage,
    /// How it failed.
    pub cause: Cause,
    /// The error with its causes; at most 1 KiB is kept.
    pub message: String,
    /// Whether the state was lost: the next cycle then builds a new state.
    pub rebuild: bool,
}

/// The missing part of a run, for [`Feed::lost`](super::Feed::lost).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedLoss {
    /// The number of missing publications: waits count them as missed.
    pub publications: u64,
    /// The number of missing batches among them: subscriptions return it as missed.
    pub batches: u64,
    /// The number of events in those batches.
    pub events: u64,
}

/// Why something was not published. Nothing has changed then.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// The end was already published.
    #[error("the feed has ended ({0}), and nothing comes after that: begin another feed")]
    Ended(StopReason),
    /// The moment is before the last publication.
    #[error("this is {by:?} before what was published last: publish in the order of time")]
    TimeWentBack {
        /// The time by which the moment is too early.
        by: Duration,
    },
    /// The moment has not come yet on the clock of a live feed.
    #[error("this is {by:?} from now on the feed's clock, which is tokio's: publish with Instant::now()")]
    NotYet {
        /// The time until then.
        by: Duration,
    },
    /// A cycle ended before it began.
    #[error("the cycle began {by:?} after its end: give the moment at which it began")]
    BeforeItsCycle {
        /// The time from the end to the begin.
        by: Duration,
    },
    /// The cycle is not later than the earlier cycles, or has already ended.
    #[error("cycle {cycle} comes after cycle {newest}: cycles count up, and each ends once")]
    CycleWentBack {
        /// The refused cycle.
        cycle: u64,
        /// The newest published cycle.
        newest: u64,
    },
    /// The generation is lower than the present one.
    #[error("generation {generation} comes after generation {newest}: generations count up")]
    GenerationWentBack {
        /// The refused generation.
        generation: u64,
        /// The present generation.
        newest: u64,
    },
    /// A number leaves no room to count on.
    #[error("{field} would be {value}: it may be at most {max}", max = LAST_RESUMED)]
    TooLarge {
        /// The field: `cycle`, `generation`, `publications`, `seq` or `event_count`.
        field: &'static str,
        /// The refused number.
        value: u64,
    },
    /// Records are missing in between, and waits must count them as missed.
    #[error(
        "record {found} comes where {expected} is due: publish each record once; what a tap has lost is passed over by \
         Feed::lost_before"
    )]
    RecordsMissing {
        /// The number of the expected record.
        expected: u64,
        /// The number of the given record.
        found: u64,
    },
    /// The record is of another run, or of another position in this run.
    #[error(
        "this record does not go on from where the feed is: begin the feed with FeedStart::from(&record)"
    )]
    Foreign,
    /// The record differs from the one that its tap returned.
    #[error("the record's {field} was changed: publish records as their tap has given them")]
    Altered {
        /// The changed field.
        field: &'static str,
    },
    /// More batches were lost than publications or events, or events without a batch. Each batch belongs to one
    /// publication and has at least one event.
    #[error(
        "{} publications, {} batches and {} events cannot have been lost together: each batch is one of the publications \
         and has at least one event; no batch has none",
        .0.publications, .0.batches, .0.events
    )]
    InvalidLoss(FeedLoss),
    /// The moment is so late that windows and ages cannot be represented.
    #[error("this moment is within a year of the last one that there can be: give the times of the run")]
    TooLate,
}

debug_as_text!(FeedError);
