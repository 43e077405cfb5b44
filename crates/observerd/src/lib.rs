//! The service `observerd` as a library: its program, its tests and its benchmarks use it.

pub mod cli;
pub mod config;
#[doc(hidden)]
pub mod fuzzed;
mod keys;
mod live;
pub mod loops;
pub mod operation;
pub mod ring;
pub mod server;
pub mod service;
pub mod store;

pub use keys::{Fingerprint, KeyError, MAX_KEY};
