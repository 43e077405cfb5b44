//! Cucumber steps that wait on what is observed.
//!
//! A World implements [`Observed`] to expose its [`Observers`] by name; [`with_steps`] adds the steps to it, and
//! [`after`] ends each scenario.
#![doc = include_str!("../STEPS.md")]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

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
