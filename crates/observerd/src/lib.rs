//! The service `observerd` as a library: its program, its tests and its benchmarks use it.

pub mod cli;
pub mod config;
mod filter;
#[doc(hidden)]
pub mod fuzzed;
mod keys;
mod live;
pub mod loops;
pub mod operation;
pub mod outgoing;
mod recorded;
pub mod review;
pub mod ring;
pub mod server;
pub mod service;
pub mod store;

pub use keys::{Fingerprint, Key, KeyError, MAX_KEY};
pub use recorded::Recorded;
