//! The journal by its public interface, on real files.

mod common;

mod appending;
mod bad_input;
mod faults;
mod faulty;
mod plain;
mod reading;
mod recovering;
mod rotating;
