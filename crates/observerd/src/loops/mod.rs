//! The loops of the service: each reads what was recorded, or records what it reads.

mod changes;
pub mod cluster;
mod digest;
pub mod errors;
pub mod escalation;
mod first;
pub mod health;
mod intern;
pub mod normalise;
pub mod playbooks;
pub mod recent;
mod running;
pub mod tail;

pub use running::{Loops, LoopsError};
