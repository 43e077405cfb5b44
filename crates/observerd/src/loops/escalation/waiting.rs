//! Clusters that wait until they are posted.

use std::cmp::Reverse;
use std::collections::HashMap;

use crate::loops::cluster::Cluster;

/// At most so many clusters, one for each id: the one with the most errors is the first to leave; the one with the fewest makes room.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    most: usize,
    clusters: HashMap<String, (Cluster, u64)>,
    arrivals: u64,
}

impl Waiting {
    pub(super) fn new(most: usize) -> Self {
        Self { most, clusters: HashMap::new(), arrivals: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.clusters.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.clusters.is_empty()
    }

    /// Adds a cluster, or replaces the counts of the one that waits. Returns whether another was dropped, or this one.
    pub(super) fn put(&mut self, cluster: Cluster) -> bool {
        if let Some((held, _)) = self.clusters.get_mut(&cluster.id) {
            *held = cluster;
            return false;
        }
        let is_full = self.clusters.len() >= self.most;
        if is_full {
            let last = self.clusters.values().min_by_key(|(held, arrival)| (held.count, Reverse(*arrival)));
            match last.map(|(held, _)| (held.count, held.id.clone())) {
                Some((count, id)) if count < cluster.count => self.clusters.remove(&id),
                _ => return true,
            };
        }
        self.arrivals += 1;
        self.clusters.insert(cluster.id.clone(), (cluster, self.arrivals));
        is_full
    }

    /// The one with the most errors; of several, the one that waits longest.
    pub(super) fn take(&mut self) -> Option<Cluster> {
        let first = self.clusters.values().max_by_key(|(held, arrival)| (held.count, Reverse(*arrival)));
        let id = first?.0.id.clone();
        self.clusters.remove(&id).map(|(cluster, _)| cluster)
    }
}
