//! What is posted.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use watchkeeper::report::one_line;

use super::mask::masked;
use crate::loops::cluster::Cluster;

/// The most bytes of a text of the document.
const MOST_TEXT: usize = 2_000;

/// The most sources.
const MOST_SOURCES: usize = 10;

/// The document that is posted to the webhook: a cluster, and why and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EscalatedCluster {
    /// The cluster as it was when it was escalated, without what looks like a secret in its texts.
    #[serde(flatten)]
    pub cluster: Cluster,
    /// The count that it is over.
    pub threshold: u64,
    /// When it was posted first: RFC 3339, UTC. Further attempts have the same.
    pub posted_at: String,
    /// `observerd`.
    pub service: String,
}

/// A document on its way: the same in every attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Letter {
    /// The value of `Idempotency-Key`.
    pub(super) key: String,
    pub(super) document: EscalatedCluster,
}

/// Whether an id fits in a header and a file: the analysis makes no other.
pub(super) fn is_valid_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The cluster with bounded texts without secrets, and with numbers that JSON has.
pub(super) fn bounded(cluster: &Cluster) -> Cluster {
    // Masked before it is truncated: the rest of a secret is not known as one.
    let text = |text: &str| one_line(&masked(&text[..text.floor_char_boundary(2 * MOST_TEXT)]), MOST_TEXT);
    let number = |number: f64| if number.is_finite() { number } else { 0.0 };
    Cluster {
        id: cluster.id.clone(),
        endpoint: text(&cluster.endpoint),
        message: text(&cluster.message),
        share: number(cluster.share),
        per_minute: number(cluster.per_minute),
        first_timestamp: one_line(&cluster.first_timestamp, MOST_TEXT),
        last_timestamp: one_line(&cluster.last_timestamp, MOST_TEXT),
        example: text(&cluster.example),
        sources: cluster.sources.iter().take(MOST_SOURCES).map(|source| text(source)).collect(),
        ..*cluster
    }
}
