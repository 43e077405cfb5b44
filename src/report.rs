//! Text that a person reads: bounded in bytes, and escaped.

pub use crate::text::error_chain::error_chain;
pub use crate::text::render::{debug, debug_line};
pub use crate::text::{names, one_line};
