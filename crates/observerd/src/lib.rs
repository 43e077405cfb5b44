//! The service `observerd` as a library: its program, its tests and its benchmarks use it.

pub mod config;
mod keys;
pub mod loops;
pub mod operation;
pub mod review;
pub mod ring;
pub mod server;
pub mod store;

pub use keys::{Fingerprint, KeyError, MAX_KEY};
