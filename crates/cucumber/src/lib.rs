#![doc = include_str!("../README.md")]

mod basis;
mod control;
mod controls;
mod error;
mod hooks;
mod listing;
mod number;
mod observers;
mod pointer;
mod shown;
mod snapshots;
mod steps;
mod time;
mod value;
mod waits;
mod words;

pub use control::ScenarioControl;
pub use cucumber;
pub use error::{StepError, Unfinished};
pub use hooks::{after, finish_run, finish_suite};
pub use listing::list_tests;
pub use observers::{Observed, Observers};
pub use steps::with_steps;
pub use time::parse_duration;
