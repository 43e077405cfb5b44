//! The machine held against its specification.
//!
//! [`walk`] finds everything that the machine can do, [`driver`] checks on the way what every driver
//! relies on, [`compare`] holds the result against the table, and [`flips`] makes sure that the
//! comparison would notice. [`diagram`] keeps the picture true.

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
