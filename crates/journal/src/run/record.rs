//! The records of a run, as they are in the journal.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use watchkeeper::ObservationFailureStage as Stage;
use watchkeeper::report::one_line;
use watchkeeper::runtime::{Cause, State, StopReason};
use watchkeeper::subscription::{Cursor, Resume};

use super::RunError;
use crate::record::Record;

/// 100 years in nanoseconds.
const LONGEST_RUN: u64 = 100 * 366 * 24 * 3_600 * 1_000_000_000;
/// What a runtime resumes from at most.
const LARGEST: u64 = u64::MAX / 2;

/// One record.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RunRecord {
    pub(super) kind: Kind,
    pub(super) at: i64,
    pub(super) time: Time,
    pub(super) number: u64,
    pub(super) cursor: Text<Cursor>,
    pub(super) cycle: u64,
    pub(super) event_count: u64,
    pub(super) state: RunState,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) paused: bool,
    /// Also if the set of another cycle is the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sources: Option<Arc<[Arc<str>]>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) success: Option<Success>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) failure: Option<Failure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) run: Option<Settings>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) lost: Option<Lost>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn is_false(value: &bool) -> bool {
    !value
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Start,
    Success,
    Failure,
    Sources,
    Transition,
    Stop,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Success {
    pub(super) cycle: u64,
    pub(super) generation: u64,
    pub(super) took_ns: u64,
    pub(super) is_polled: bool,
    /// If the success was published before the record: when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<i64>,
    pub(super) value: Value,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) events: Vec<Value>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Failure {
    pub(super) cycle: u64,
    pub(super) took_ns: u64,
    pub(super) stage: RunStage,
    pub(super) cause: RunCause,
    pub(super) message: String,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) rebuild: bool,
}

/// What a feed needs to know of the observation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Settings {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    pub(super) interval_ns: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stale_after_ns: Option<u64>,
    pub(super) history_limit: usize,
}

/// What is missing before a record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Lost {
    pub(super) publications: u64,
    pub(super) batches: u64,
    pub(super) events: u64,
    pub(super) why: String,
}

/// [`State`] as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RunState {
    Starting,
    Refreshing,
    Polling,
    Idle,
    Failed { stage: RunStage, consecutive: u64, rebuild: bool },
    Stopped { reason: RunStopReason },
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RunStage {
    SourceRefresh,
    Init,
    Poll,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RunCause {
    Error,
    TimedOut,
    Panicked,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RunStopReason {
    Requested,
    Dropped,
    StartFailed,
    Shutdown,
    Died,
}

macro_rules! same_names {
    ($own:ident, $other:ident, $($name:ident),+; $rest:ident) => {
        impl From<$other> for $own {
            fn from(other: $other) -> Self {
                #[allow(unreachable_patterns, reason = "not all of them can get further variants")]
                match other {
                    $($other::$name => Self::$name,)+
                    _ => Self::$rest,
                }
            }
        }

        impl From<$own> for $other {
            fn from(own: $own) -> Self {
                match own {
                    $($own::$name => Self::$name,)+
                }
            }
        }
    };
}

same_names!(RunStage, Stage, SourceRefresh, Init, Poll; Poll);
same_names!(RunCause, Cause, Error, TimedOut, Panicked; Error);
same_names!(RunStopReason, StopReason, Requested, Dropped, StartFailed, Shutdown, Died; Died);

impl From<State> for RunState {
    fn from(state: State) -> Self {
        match state {
            State::Starting => Self::Starting,
            State::Refreshing => Self::Refreshing,
            State::Polling => Self::Polling,
            State::Idle => Self::Idle,
            State::Failed { stage, consecutive, rebuild } => {
                Self::Failed { stage: stage.into(), consecutive, rebuild }
            }
            State::Stopped { reason } => Self::Stopped { reason: reason.into() },
        }
    }
}

impl From<RunState> for State {
    fn from(state: RunState) -> Self {
        match state {
            RunState::Starting => Self::Starting,
            RunState::Refreshing => Self::Refreshing,
            RunState::Polling => Self::Polling,
            RunState::Idle => Self::Idle,
            RunState::Failed { stage, consecutive, rebuild } => {
                Self::Failed { stage: stage.into(), consecutive, rebuild }
            }
            RunState::Stopped { reason } => Self::Stopped { reason: reason.into() },
        }
    }
}

/// A value as the text of its `Display`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Text<T>(pub(super) T);

impl<T: std::fmt::Display> Serialize for Text<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T: std::str::FromStr<Err: std::fmt::Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

/// A wall time, RFC 3339 with nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Time(pub(super) SystemTime);

impl Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The format has four digits for the year, from 1970 on.
        let latest = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
        let time = self.0.clamp(SystemTime::UNIX_EPOCH, latest);
        serializer.collect_str(&humantime::format_rfc3339_nanos(time))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_rfc3339(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

impl RunRecord {
    pub(super) fn read(record: &Record) -> Result<Self, RunError> {
        let number = record.number();
        let wrong = |problem: &str| RunError::Record { number, problem: one_line(problem, 200) };
        let read: Self = record.parse().map_err(|error| wrong(&error.to_string()))?;
        match read.impossible() {
            Some(problem) => Err(wrong(problem)),
            None => Ok(read),
        }
    }

    /// What no recording writes, and nobody could count on from.
    fn impossible(&self) -> Option<&'static str> {
        let success = self.success.as_ref();
        let events = success.map_or(0, |success| success.events.len() as u64);
        let times = [Some(self.at), success.and_then(|success| success.at)];
        let is_far = |at: i64| at.unsigned_abs() > LONGEST_RUN;
        let cursor = self.cursor.0;
        let counts = [self.number, self.cycle, self.event_count, cursor.seq(), cursor.generation()];
        let checks = [
            (times.into_iter().flatten().any(is_far), "a time is over 100 years from the start"),
            (counts.into_iter().any(|count| count > LARGEST), "a number is over half of the largest one"),
            (events > 0 && cursor.seq() == 0, "it has events, and its cursor is before the first batch"),
            (events > self.event_count, "it has more events than there were"),
        ];
        checks.into_iter().find_map(|(is_wrong, problem)| is_wrong.then_some(problem))
    }

    /// The position before its batch.
    pub(super) fn before(&self) -> Cursor {
        let cursor = self.cursor.0;
        let has_batch = self.success.as_ref().is_some_and(|success| !success.events.is_empty());
        cursor.at(cursor.seq() - u64::from(has_batch))
    }

    /// Why the run has ended, if this is its end.
    pub(super) fn stop(&self) -> Option<StopReason> {
        match self.state {
            RunState::Stopped { reason } => Some(reason.into()),
            _ => None,
        }
    }

    pub(super) fn resume(&self) -> Resume {
        Resume { cursor: self.cursor.0, cycle: self.cycle, event_count: self.event_count }
    }
}
