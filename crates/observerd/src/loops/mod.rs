//! The loops of the service: each reads what was recorded, or records what it reads.

mod changes;
pub mod cluster;
mod digest;
pub mod errors;
mod first;
mod intern;
pub mod normalise;
pub mod playbooks;
pub mod recent;
