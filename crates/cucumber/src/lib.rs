#![doc = include_str!("../README.md")]

mod controls;
mod error;
mod hooks;
mod observers;
mod pointer;
mod steps;
mod waits;
mod words;

pub use error::{StepError, Unfinished};
pub use hooks::{after, finish_suite};
pub use observers::{Observed, Observers};
pub use steps::with_steps;
