//! Dropping headers: those below a new root, and those of single branches.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Graph, PruneError};
use crate::Hash;

impl Graph {
    /// Makes `boundary` the root: it and its descendants stay, all others are dropped. Returns how many were dropped.
    ///
    /// It visits every header, so call it now and then, not for every block. Earlier clones keep what they had.
    ///
    /// # Errors
    ///
    /// `boundary` is not in the graph.
    pub fn prune(&mut self, boundary: &Hash) -> Result<usize, PruneError> {
        let root = self.inner.arena.find(boundary).ok_or(PruneError { boundary: *boundary })?;
        if root == self.inner.root {
            return Ok(0);
        }
        let new_root = self.header(root);
        let first = root as usize;
        // Parents come first, so one pass finds all descendants. Those before the new root are none.
        let arena = &self.inner.arena;
        let mut stays = vec![false; arena.ids().len() - first];
        let mut kept = 0;
        let mut dropped = Vec::new();
        for place in arena.ids() {
            let Some((id, hash, links)) = arena.at(place) else { continue };
            let parent = (links.parent as usize).checked_sub(first);
            if id == root || place > first && parent.is_some_and(|parent| stays[parent]) {
                stays[place - first] = true;
                kept += 1;
            } else {
                dropped.push(hash);
            }
        }
        let stays = |place: usize| place.checked_sub(first).is_some_and(|place| stays[place]);
        self.keep_trunk(root, |id| stays(id as usize));
        let inner = Arc::make_mut(&mut self.inner);
        for hash in &dropped {
            inner.arena.forget(hash);
        }
        inner.arena.keep(stays);
        let base = inner.base;
        inner.trunk.keep(|place| place as u64 + base >= new_root.height);
        inner.leaves.retain(|leaf| stays(*leaf as usize));
        (inner.root, inner.root_parent, inner.root_work) = (root, new_root.parent, new_root.work);
        inner.len = kept;
        Ok(dropped.len())
    }

    /// Drops those of `unneeded` that have no other descendants; the root stays. Earlier clones keep what they had.
    ///
    /// It visits every header.
    pub(crate) fn remove(&mut self, unneeded: &HashSet<Hash>) {
        let (arena, root) = (&self.inner.arena, self.inner.root);
        let first = root as usize;
        let mut has_child = vec![false; arena.ids().len() - first];
        let (mut leaves, mut dropped) = (Vec::new(), HashSet::new());
        // Children come after their parents.
        for place in arena.ids().skip(first).rev() {
            let Some((id, hash, links)) = arena.at(place) else { continue };
            let is_parent = has_child[place - first];
            if !is_parent && id != root && unneeded.contains(&hash) {
                dropped.insert(hash);
                continue;
            }
            if !is_parent {
                leaves.push(id);
            }
            if id != root {
                has_child[links.parent as usize - first] = true;
            }
        }
        if dropped.is_empty() {
            return;
        }
        leaves.reverse();
        let stays = |place: usize| arena.at(place).is_some_and(|(_, hash, _)| !dropped.contains(&hash));
        let stay: Vec<bool> = arena.ids().map(stays).collect();
        Arc::make_mut(&mut self.inner).leaves = leaves;
        self.keep_trunk(root, |id| stay[id as usize]);
        let inner = Arc::make_mut(&mut self.inner);
        for hash in &dropped {
            inner.arena.forget(hash);
        }
        inner.arena.keep(|place| stay[place]);
        inner.len -= dropped.len();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::{Header, Height, OnBranch};

    /// Against the list of the headers that are left, with their parents.
    #[test]
    fn what_is_removed_is_unknown_until_it_is_inserted_again() {
        let mut random = fastrand::Rng::with_seed(5);
        let named = |nth: u32| {
            let mut hash = Hash([7; 32]);
            hash.0[..4].copy_from_slice(&nth.to_le_bytes());
            hash
        };
        let root = Header { hash: named(0), parent: Hash([1; 32]), height: 3, work: 1, time: 0 };
        let (mut graph, mut left, mut removed) = (Graph::new(root), vec![root], Vec::<Header>::new());
        let mut times = 0;
        for nth in 1..4_000 {
            let parent = left[left.len() - 1 - random.usize(0..left.len().min(6))];
            let work = random.u128(1..4);
            let header =
                Header { hash: named(nth), parent: parent.hash, height: parent.height + 1, work, time: 0 };
            graph.insert(header).unwrap();
            left.push(header);
            if nth % 100 > 0 {
                continue;
            }
            // One that was removed is inserted again, if its parent is there; now and then the root is moved too.
            removed.retain(|header| match graph.insert(*header) {
                Ok(_) => {
                    left.push(*header);
                    false
                }
                Err(_) => true,
            });
            if nth % 1000 == 0 {
                graph.prune(&left[left.len() - 200].hash).unwrap();
                left.retain(|header| graph.contains(&header.hash));
            }
            let low = graph.root().height;
            let unneeded: HashSet<Hash> =
                left.iter().filter(|_| random.u8(0..4) > 0).map(|header| header.hash).collect();
            graph.remove(&unneeded);
            let by_hash: HashMap<Hash, Header> = left.iter().map(|header| (header.hash, *header)).collect();
            let needed = left.iter().filter(|header| !unneeded.contains(&header.hash));
            let needed: HashSet<Hash> = needed.flat_map(|header| branch(&by_hash, header, low)).collect();
            let stays = |header: &Header| header.height == low || needed.contains(&header.hash);
            let (kept, gone): (Vec<Header>, Vec<Header>) = left.iter().partition(|header| stays(header));
            times += usize::from(!gone.is_empty());
            left = kept;
            removed.extend(&gone);
            for header in &gone {
                assert_eq!(graph.is_on_branch(&root.hash, &header.hash), OnBranch::Unknown);
                assert!(!graph.contains(&header.hash));
            }
            assert_eq!(graph.len(), left.len());
            let tips: Vec<Header> = graph.tips().collect();
            let parents: HashSet<Hash> = left.iter().map(|header| header.parent).collect();
            let leaves = left.iter().filter(|header| !parents.contains(&header.hash));
            assert_eq!(tips.len(), leaves.count());
            for tip in &tips {
                let down: Vec<Hash> = graph.down(&tip.hash, 0).map(|header| header.hash).collect();
                assert_eq!(down, branch(&by_hash, tip, low));
                let middle = low + (tip.height - low) / 2;
                let there = graph.ancestor_at(&tip.hash, middle).unwrap();
                assert!(there.height == middle && down.contains(&there.hash));
            }
        }
        assert!(times > 20, "{times}");
    }

    /// A block and its ancestors down to a height.
    fn branch(headers: &HashMap<Hash, Header>, tip: &Header, low: Height) -> Vec<Hash> {
        let above =
            |header: &Header| headers.get(&header.parent).filter(|parent| parent.height >= low).copied();
        std::iter::successors(Some(*tip), above).map(|header| header.hash).collect()
    }
}
