//! The commands of the program.

pub mod check;
pub mod import;
pub mod outcome;
pub mod replay;
mod stop;
mod text;
