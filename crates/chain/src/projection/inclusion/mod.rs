//! Whether transactions are on the chain, and how deep.
//!
//! [`Inclusions`] follows transactions by hash. It keeps facts: which block includes which of them, or another
//! transaction that conflicts with it. The status of a transaction is derived for the tip: a new block costs its own
//! transactions, however many are followed, and a reorg costs its own blocks.
//!
//! A transaction's own inclusion outranks whatever else the branch includes: a transaction that a block of the branch
//! includes is never `Replaced`, even if another one on the branch conflicts with it.
//!
//! A block that was not read ([`Detail::Header`](crate::Detail::Header)) may include anything. A transaction that no
//! other block includes is then `Pending` from the height above it on, and not `ReorgedOut`.
//!
//! A reorg from below the kept blocks is followed too: transactions at or below its ancestor stay included, those above
//! are reorged out unless a new block includes them. Only if events are missing, so that the branch below the new
//! blocks is unknown, a transaction is pending again until a connected block includes it; a final one stays final.

mod fold;
mod follower;
mod view;
mod waits;

pub use fold::Inclusions;
pub use follower::{NotFollowed, TransactionFollower};
pub use view::{InclusionView, Status};
pub use waits::{InclusionWaits, ShowsInclusion};
