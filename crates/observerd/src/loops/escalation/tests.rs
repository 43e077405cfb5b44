//! Tests of the escalation: its table, random runs of the machine, its file, and runs on the paused clock.

mod files;
mod random;
mod running;
mod stopping;
mod table;
mod webhook;

use crate::loops::cluster::Cluster;

/// A cluster of so many errors.
fn cluster(id: &str, count: u64, last_sequence: u64) -> Cluster {
    Cluster {
        id: id.to_owned(),
        endpoint: "/v1/chat".to_owned(),
        message: "timeout after <num> ms".to_owned(),
        count,
        share: 0.25,
        per_minute: 1.5,
        first_sequence: 1,
        last_sequence,
        first_timestamp: "2026-11-28T10:00:00Z".to_owned(),
        last_timestamp: "2026-11-28T10:05:00Z".to_owned(),
        example: "timeout after 300 ms".to_owned(),
        sources: vec!["mcp".to_owned()],
    }
}
