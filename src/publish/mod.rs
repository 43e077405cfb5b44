//! The driver writes here and readers read: the status with its log and queues, and the history of batches.
//!
//! `shared` is the board: one lock, under which no app code runs. `queue` holds publications for waits and taps,
//! `log` the recent events without snapshots, `history` the batches. App values are dropped without the lock.

pub(crate) mod history;
pub(crate) mod log;
pub(crate) mod queue;
pub(crate) mod shared;
