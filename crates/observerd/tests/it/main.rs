//! The service by its public interface.

#![allow(clippy::unwrap_used, reason = "tests")]

mod tail;
