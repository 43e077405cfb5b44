//! The parts of the figures.

pub(crate) mod cycles;
pub(crate) mod large;
pub(crate) mod replay;
pub(crate) mod table;
pub(crate) mod writing;
