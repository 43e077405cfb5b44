//! The records of a run, as the journal documents them. Fields that a newer version adds are ignored.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use watchkeeper::subscription::Cursor;

/// One record.
#[derive(Debug, Deserialize)]
pub(super) struct Publication {
    pub(super) kind: String,
    pub(super) time: String,
    pub(super) cursor: String,
    pub(super) cycle: u64,
    pub(super) state: RunState,
    #[serde(default)]
    pub(super) paused: bool,
    #[serde(default)]
    pub(super) sources: Option<Vec<String>>,
    #[serde(default)]
    pub(super) success: Option<Success>,
    #[serde(default)]
    pub(super) failure: Option<Failure>,
    #[serde(default)]
    pub(super) run: Option<Settings>,
    #[serde(default)]
    pub(super) lost: Option<Lost>,
    /// Its number in the journal that it was exported from.
    #[serde(default)]
    pub(super) record: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Success {
    pub(super) cycle: u64,
    pub(super) generation: u64,
    pub(super) took_ns: u64,
    pub(super) is_polled: bool,
    pub(super) value: Value,
    #[serde(default)]
    pub(super) events: Vec<Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Failure {
    pub(super) cycle: u64,
    pub(super) took_ns: u64,
    pub(super) stage: String,
    pub(super) cause: String,
    pub(super) message: String,
    #[serde(default)]
    pub(super) rebuild: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Settings {
    #[serde(default)]
    pub(super) name: Option<String>,
    pub(super) interval_ns: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Lost {
    pub(super) publications: u64,
    pub(super) batches: u64,
    pub(super) events: u64,
    pub(super) why: String,
}

/// The machine's state.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RunState {
    Failed {
        stage: String,
        consecutive: u64,
        #[serde(default)]
        rebuild: bool,
    },
    Stopped {
        reason: String,
    },
    #[serde(untagged)]
    Other(String),
}

impl Publication {
    /// The cycle that it is of.
    pub(super) fn of_cycle(&self) -> u64 {
        let success = self.success.as_ref().map(|success| success.cycle);
        success.or(self.failure.as_ref().map(|failure| failure.cycle)).unwrap_or(self.cycle)
    }

    /// The instance of its runtime: another one is another run.
    pub(super) fn instance(&self) -> Option<u128> {
        self.cursor.parse::<Cursor>().ok().map(|cursor| cursor.instance())
    }

    pub(super) fn is_stop(&self) -> bool {
        matches!(self.state, RunState::Stopped { .. })
    }
}

impl std::fmt::Display for RunState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed { stage, consecutive, rebuild } => {
                let then = if *rebuild { ", to be rebuilt" } else { "" };
                write!(f, "failed ({}, {consecutive} consecutive{then})", words(stage))
            }
            Self::Stopped { reason } => write!(f, "stopped ({})", words(reason)),
            Self::Other(name) => f.write_str(&words(name)),
        }
    }
}

/// `source_refresh` as words.
pub(super) fn words(name: &str) -> String {
    name.replace('_', " ")
}

/// A duration in words, to the microsecond.
pub(super) fn duration(nanos: u64) -> String {
    format!("{:?}", Duration::from_micros(nanos / 1_000))
}
