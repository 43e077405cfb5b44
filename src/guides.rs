//! Guides: whole programs, with the rules they rest on. They are documentation only.

#[doc = include_str!("../docs/consumer.md")]
pub mod consumer {}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
