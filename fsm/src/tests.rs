//! The machine compared with its specification.
//!
//! [`walk`] finds everything that the machine can do, [`driver`] checks on the way what every driver
//! relies on, [`compare`] compares the result with the table, and [`flips`] checks that the comparison
//! notices every change of the table. [`diagram`] keeps the diagram up to date.

mod compare;
mod diagram;
mod driver;
mod flips;
mod walk;

use crate::Options;

/// Both settings of the one option that changes what the machine does.
const OPTIONS: [Options; 2] = [
    Options { keeps_state_on_timeout: false, first_generation: 1, first_cycle: 0 },
    Options { keeps_state_on_timeout: true, first_generation: 7, first_cycle: 30 },
];
