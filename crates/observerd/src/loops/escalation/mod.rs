//! Escalation: a cluster of errors over the threshold is posted to a webhook, once.
//!
//! A supervised machine decides, and its worker posts and writes. What is posted is an [`EscalatedCluster`]:
//!
//! ```json
//! {
//!   "id": "9f86d081884c7d65", "endpoint": "/v1/chat", "message": "timeout after <num> ms",
//!   "count": 12, "share": 0.4, "per_minute": 3.5,
//!   "first_sequence": 100, "last_sequence": 180,
//!   "first_timestamp": "2026-11-28T10:00:00Z", "last_timestamp": "2026-11-28T10:05:00Z",
//!   "example": "timeout after 300 ms", "sources": ["mcp"],
//!   "threshold": 10, "posted_at": "2026-11-28T10:05:01Z", "service": "observerd"
//! }
//! ```
//!
//! The header `Idempotency-Key` is the cluster's id and the `last_sequence` that it was escalated at; after giving up, also when that was. A
//! cluster that was given up is posted again after the cooldown while it is over the threshold. A document is written to
//! `escalations.json` before it is posted first, and each attempt sends the same bytes and the same key, also after a restart: it is
//! posted at least once, and a receiver that knows the key can drop a repetition.
//!
//! What looks like a secret in the cluster's texts (`Bearer ..`, `token=..`, long random words) is posted and written as `<masked>`. It is a
//! guess: a program must not report secrets.
//!
//! ```text
//! Idle -> Posting            a cluster is over the threshold, and not cooling down
//! Idle -> Limited            the same, but the posts of the hour are used
//! Posting -> Recording       2xx; or given up: the last attempt has failed, or 3xx, or 4xx but 408 and 429
//! Posting -> BackingOff      it failed: the next attempt follows
//! Posting -> Refused         the webhook's address is refused: the next attempt follows after the longest pause
//! Recording -> Idle          escalations.json is written; Posting or Limited if another cluster waits, BackingOff after giving up
//! BackingOff -> Posting      the pause is over; Limited if the posts of the hour are used; Idle if nothing waits
//! Refused -> Posting         the longest pause is over
//! Limited -> Posting         there is a post again
//! any -> Draining, Stopped   a stop; a post in flight has 5 s
//! ```

mod document;
mod file;
mod handle;
mod ledger;
mod machine;
mod mask;
mod poster;
mod quota;
mod status;
mod waiting;
mod worker;

pub use document::EscalatedCluster;
pub use handle::{Escalation, EscalationError};
pub use status::{EscalationState, EscalationStatus, LastPosted};

#[cfg(test)]
mod tests;
