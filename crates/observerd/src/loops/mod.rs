//! The loops of the service: each reads what was recorded, or records what it reads.

pub mod cluster;
pub mod tail;
