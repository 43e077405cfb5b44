//! Whether transactions are on the chain, and how deep.
//!
//! [`Inclusions`] follows transactions by hash. What it keeps are facts: which block includes which of them,
//! or another transaction that conflicts with it. What becomes of a transaction is derived for the tip, so
//! that a new block costs its own transactions however many are followed, and a reorg costs its own blocks.
//!
//! A reorg that leaves below the kept blocks is followed too: what was included at or below its ancestor stays
//! so, what was above is out, unless a new block includes it. Only where events were missed, so that it is not
//! known what the new blocks are on top of, is a transaction pending again until a block that is told includes
//! it; what is final stays.

mod fold;
mod follower;
mod view;
mod waits;

pub use fold::Inclusions;
pub use follower::{NotFollowed, TransactionFollower};
pub use view::{InclusionView, Status};
pub use waits::{InclusionWaits, ShowsInclusion};
