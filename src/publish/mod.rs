//! Where one driver writes and everyone reads: the status with its log and queues, and the history of batches.
//!
//! `shared` is the board: one lock, under which no app code runs. `queue` has what is published for waits and taps,
//! `log` what happened without the snapshots, `history` the batches of events. All values of the app are dropped
//! without the lock.

pub(crate) mod history;
pub(crate) mod log;
pub(crate) mod queue;
pub(crate) mod shared;
