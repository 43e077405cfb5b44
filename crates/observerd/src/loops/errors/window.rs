//! The newest operations, and the clusters of those that failed.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use watchkeeper::report::one_line;

use super::report::MAX_FAILING;
use crate::loops::cluster::Cluster;
use crate::loops::digest::id_of;
use crate::loops::intern::Interner;
use crate::loops::normalise::normalise;
use crate::operation::{CORRECTION, Operation};

/// The most bytes of a cluster's example.
const MAX_EXAMPLE: usize = 500;

/// The most sources of a cluster.
const MAX_SOURCES: usize = 10;

/// The newest operations. Counts are exact: an operation that leaves the window is taken out of its cluster.
pub(super) struct ErrorWindow {
    most: usize,
    /// The endpoint, and the message if the operation failed.
    entries: VecDeque<(Arc<str>, Option<Arc<str>>)>,
    /// How many operations each endpoint has, and how many of them failed.
    endpoints: HashMap<Arc<str>, (u64, u64)>,
    groups: HashMap<(Arc<str>, Arc<str>), Group>,
    failures: u64,
    texts: Interner,
}

/// The failed operations of one endpoint and message, oldest first.
struct Group {
    id: String,
    members: VecDeque<Member>,
    example: String,
}

struct Member {
    sequence: u64,
    timestamp: Timestamp,
    timestamp_text: Box<str>,
    source: Arc<str>,
}

/// What a window has.
pub(super) struct Found {
    pub(super) clusters: Vec<Cluster>,
    /// The share of failures of the endpoints that fail at least half of the time.
    pub(super) failing: HashMap<String, f64>,
    pub(super) operations: u64,
    pub(super) failures: u64,
    pub(super) other: u64,
    pub(super) other_clusters: u64,
}

impl ErrorWindow {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            entries: VecDeque::new(),
            endpoints: HashMap::new(),
            groups: HashMap::new(),
            failures: 0,
            texts: Interner::default(),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= self.most
    }

    /// Takes the next operation, and drops the oldest one if there are too many.
    pub(super) fn push(&mut self, sequence: u64, operation: Operation) {
        let endpoint = self.texts.share(&operation.endpoint);
        let counts = self.endpoints.entry(Arc::clone(&endpoint)).or_default();
        counts.0 += 1;
        let is_failure = is_failure(&operation);
        counts.1 += u64::from(is_failure);
        let message = is_failure.then(|| self.texts.share(&normalise(&operation.error)));
        if let Some(message) = &message {
            self.failures += 1;
            let group = self.groups.entry((Arc::clone(&endpoint), Arc::clone(message)));
            let group = group.or_insert_with(|| Group {
                id: id_of(&[&endpoint, message]),
                members: VecDeque::new(),
                example: String::new(),
            });
            group.example = one_line(&operation.error, MAX_EXAMPLE);
            group.members.push_back(Member {
                sequence,
                timestamp: operation.timestamp,
                timestamp_text: operation.timestamp_text.into(),
                source: self.texts.share(&operation.source),
            });
        }
        self.entries.push_back((endpoint, message));
        while self.entries.len() > self.most {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some((endpoint, message)) = self.entries.pop_front() else { return };
        let has_failed = message.is_some();
        if let Some(message) = message {
            self.failures -= 1;
            let key = (Arc::clone(&endpoint), message);
            if let Some(group) = self.groups.get_mut(&key) {
                if let Some(member) = group.members.pop_front() {
                    self.texts.release(member.source);
                }
                if group.members.is_empty() {
                    self.groups.remove(&key);
                }
            }
            self.texts.release(key.1);
        }
        if let Some((count, failed)) = self.endpoints.get_mut(&endpoint) {
            *count -= 1;
            *failed -= u64::from(has_failed);
            if *count == 0 {
                self.endpoints.remove(&endpoint);
            }
        }
        self.texts.release(endpoint);
    }

    /// The largest clusters, at most `most`, the largest first; of equal ones, the one with the newest failure.
    pub(super) fn found(&self, most: usize) -> Found {
        let mut groups: Vec<_> = self.groups.iter().collect();
        let newest = |group: &Group| group.members.back().map(|member| member.sequence);
        groups.sort_unstable_by_key(|(_, group)| Reverse((group.members.len(), newest(group))));
        let other = groups.split_off(groups.len().min(most));
        Found {
            clusters: groups.iter().filter_map(|(key, group)| self.cluster(key, group)).collect(),
            failing: self.failing(),
            operations: self.entries.len() as u64,
            failures: self.failures,
            other: other.iter().map(|(_, group)| group.members.len() as u64).sum(),
            other_clusters: other.len() as u64,
        }
    }

    /// Texts of its own: a report outlives what leaves the window.
    #[expect(clippy::cast_precision_loss, reason = "a window has at most 100,000 operations")]
    fn failing(&self) -> HashMap<String, f64> {
        let mut failing: Vec<_> =
            self.endpoints.iter().filter(|(_, (count, failed))| failed * 2 >= *count).collect();
        if failing.len() > MAX_FAILING {
            failing.select_nth_unstable_by_key(MAX_FAILING, |(name, (_, failed))| (Reverse(*failed), *name));
            failing.truncate(MAX_FAILING);
        }
        let share = |(count, failed): &(u64, u64)| *failed as f64 / *count as f64;
        failing.into_iter().map(|(name, counts)| (name.to_string(), share(counts))).collect()
    }

    #[expect(clippy::cast_precision_loss, reason = "a window has at most 100,000 operations")]
    fn cluster(&self, (endpoint, message): &(Arc<str>, Arc<str>), group: &Group) -> Option<Cluster> {
        let (first, last) = (group.members.front()?, group.members.back()?);
        let count = group.members.len() as u64;
        let of_endpoint = self.endpoints.get(endpoint).map_or(count, |counts| counts.0);
        let sources: BTreeSet<&str> = group.members.iter().map(|member| &*member.source).collect();
        Some(Cluster {
            id: group.id.clone(),
            endpoint: endpoint.to_string(),
            message: message.to_string(),
            count,
            share: count as f64 / of_endpoint as f64,
            per_minute: per_minute(group),
            first_sequence: first.sequence,
            last_sequence: last.sequence,
            first_timestamp: first.timestamp_text.to_string(),
            last_timestamp: last.timestamp_text.to_string(),
            example: group.example.clone(),
            sources: sources.into_iter().take(MAX_SOURCES).map(str::to_owned).collect(),
        })
    }

    /// How many texts are kept in memory.
    #[cfg(test)]
    pub(super) fn texts(&self) -> usize {
        self.texts.len()
    }
}

/// The failures after the earliest one, by the time from it to the latest one. Order is by sequence, and times may be in any.
#[expect(clippy::cast_precision_loss, reason = "a window has at most 100,000 operations")]
fn per_minute(group: &Group) -> f64 {
    let times = || group.members.iter().map(|member| member.timestamp);
    let (Some(earliest), Some(latest)) = (times().min(), times().max()) else { return 0.0 };
    let seconds = latest.duration_since(earliest).as_secs_f64().max(1.0);
    (group.members.len() - 1) as f64 * 60.0 / seconds
}

/// Whether an operation belongs into a cluster. A correction that has no error is a note about another operation.
fn is_failure(operation: &Operation) -> bool {
    let is_note = operation.source == CORRECTION && operation.error.is_empty();
    !(operation.success || is_note)
}
