//! Whether transactions are on the chain, and how deep.
//!
//! [`Inclusions`] follows transactions by hash. What it keeps are facts: which block includes which of them,
//! or another transaction that conflicts with it. What becomes of a transaction is derived for the tip, so
//! that a new block costs its own transactions however many are followed, and a reorg costs its own blocks.

mod fold;
mod view;
mod waits;

pub use fold::{FollowError, Follower, Inclusions};
pub use view::{InclusionView, Status};
pub use waits::{InclusionWaits, ShowsInclusion};
