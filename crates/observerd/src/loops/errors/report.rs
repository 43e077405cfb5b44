//! What the analysis of errors publishes.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::loops::cluster::Cluster;
use crate::loops::{first, recent::Progress};

/// The clusters of the window.
///
/// As JSON it has the first ten clusters alone, because run journals have it in each cycle, and says in `not_recorded` how many more
/// there were.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ErrorReport {
    /// The largest ones, the largest first; of equal ones, the one with the newest failure.
    #[serde(with = "first")]
    pub clusters: Arc<Clusters>,
    /// How many of them are not in the JSON: those after the first ten.
    #[serde(default)]
    pub not_recorded: u64,
    /// How many operations the window has.
    pub operations: u64,
    /// How many of them failed.
    pub failures: u64,
    /// How many failures are in clusters that are not listed, because there are too many.
    pub other: u64,
    /// How many clusters these are.
    pub other_clusters: u64,
    /// How far the journal is analysed.
    #[serde(flatten)]
    pub progress: Progress,
}

/// The clusters that are listed, and the endpoints that fail.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Clusters {
    list: Vec<Cluster>,
    failing: HashMap<String, f64>,
}

/// The most endpoints of [`Clusters::failing`].
pub const MAX_FAILING: usize = 10_000;

impl Clusters {
    /// A list, and the share of failures of each endpoint that fails at least half of the time.
    #[must_use]
    pub fn new(list: Vec<Cluster>, failing: HashMap<String, f64>) -> Self {
        Self { list, failing }
    }

    /// The share of an endpoint's operations of the window that failed, whether their clusters are listed or not: 0.5 to 1. `None`
    /// if it is less, or if more than [`MAX_FAILING`] endpoints with more failures fail so often. Run journals do not have it.
    #[must_use]
    pub fn failing(&self, endpoint: &str) -> Option<f64> {
        self.failing.get(endpoint).copied()
    }

    /// How much memory it needs, in bytes, about.
    pub(super) fn weight(&self) -> usize {
        const CLUSTER: usize = 1_000;
        const ENDPOINT: usize = 100;
        self.list.len().saturating_mul(CLUSTER).saturating_add(self.failing.len().saturating_mul(ENDPOINT))
    }
}

impl Deref for Clusters {
    type Target = [Cluster];

    fn deref(&self) -> &[Cluster] {
        &self.list
    }
}

impl From<Vec<Cluster>> for Clusters {
    fn from(list: Vec<Cluster>) -> Self {
        Self::new(list, HashMap::new())
    }
}

impl ErrorReport {
    /// The answer of `GET clusters`, with at most `limit` clusters.
    #[must_use]
    pub fn page(&self, limit: usize) -> ClusterPage {
        let Progress { next, gaps, missing, skipped, is_behind } = self.progress;
        let clusters: Vec<Cluster> = self.clusters.iter().take(limit).cloned().collect();
        let left_out = &self.clusters[clusters.len()..];
        ClusterPage {
            operations: self.operations,
            failures: self.failures,
            other: self.other + left_out.iter().map(|cluster| cluster.count).sum::<u64>(),
            other_clusters: self.other_clusters + left_out.len() as u64,
            analysed_up_to: next,
            gaps,
            missing,
            skipped,
            is_behind,
            clusters,
        }
    }
}

/// The clusters of errors of the window.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ClusterPage {
    /// The largest ones, the largest first; of equal ones, the one with the newest failure.
    pub clusters: Vec<Cluster>,
    /// How many operations the window has.
    pub operations: u64,
    /// How many of them failed.
    pub failures: u64,
    /// How many failures are in clusters that are not listed.
    pub other: u64,
    /// How many clusters these are.
    pub other_clusters: u64,
    /// The sequence of the next operation to be analysed: all before it are.
    pub analysed_up_to: u64,
    /// How many gaps the journal had.
    pub gaps: u64,
    /// How many records they are.
    pub missing: u64,
    /// How many records were no operations.
    pub skipped: u64,
    /// Whether there are operations that are not analysed yet.
    pub is_behind: bool,
}

/// A change of the list of clusters. The events of one generation, applied in order, are the ids of the list; after more than 100
/// appearances in one cycle the rest follows in the next ones. A restart and a rebuild begin a generation with an empty list: what is
/// there appears again, and what has gone meanwhile does not vanish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ClusterEvent {
    /// A cluster is new in the list.
    Appeared {
        /// Its id.
        id: String,
        /// Its endpoint.
        endpoint: String,
        /// Its message.
        message: String,
        /// How many operations are in it.
        count: u64,
    },
    /// Its count has doubled since its last event, or since it was at most half of that.
    Grew {
        /// Its id.
        id: String,
        /// How many operations are in it.
        count: u64,
    },
    /// It is not in the list any more.
    Vanished {
        /// Its id.
        id: String,
    },
}
