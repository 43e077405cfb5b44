//! The heaviest branch by height: a short cut for questions about old blocks. No answer depends on it.

use std::cmp::Reverse;
use std::sync::Arc;

use super::Graph;
use super::arena::Id;
use crate::Height;

impl Graph {
    /// The block of the trunk at a height above the base that is not below the root.
    pub(super) fn trunk_at(&self, height: Height) -> Option<Id> {
        self.inner.trunk.get(usize::try_from(height).ok()?).copied()
    }

    pub(super) fn is_on_trunk(&self, id: Id, height: Height) -> bool {
        self.trunk_at(height) == Some(id)
    }

    /// The ancestor at `goal`, at once if the block, which is at `height`, is on the trunk.
    pub(super) fn by_trunk(&self, id: Id, height: Height, goal: Height) -> Option<Id> {
        if self.is_on_trunk(id, height) { self.trunk_at(goal) } else { None }
    }

    /// Extends the trunk by a new block, or replaces it if another branch is the heaviest now.
    pub(super) fn grow_trunk(&mut self, new: Id) {
        let Some(top) = self.trunk_top() else { return };
        if top == self.links(new).parent {
            Arc::make_mut(&mut self.inner).trunk.push(new);
        } else if self.node(top).total < self.node(new).total {
            self.lay_trunk(new);
        }
    }

    /// Replaces the trunk if pruning will drop it: called before the blocks that do not stay are dropped.
    pub(super) fn keep_trunk(&mut self, new_root: Id, stays: impl Fn(Id) -> bool) {
        if self.trunk_top().is_some_and(&stays) {
            return;
        }
        let leaves = self.inner.leaves.iter().copied().filter(|leaf| stays(*leaf));
        let heaviest = leaves.max_by_key(|leaf| (self.node(*leaf).total, Reverse(*leaf)));
        self.lay_trunk(heaviest.unwrap_or(new_root));
    }

    fn trunk_top(&self) -> Option<Id> {
        let top = self.inner.trunk.len().checked_sub(1)?;
        self.inner.trunk.get(top).copied()
    }

    fn lay_trunk(&mut self, top: Id) {
        let mut branch = Vec::new();
        let mut next = top;
        while !self.is_on_trunk(next, self.node(next).height - self.inner.base) {
            branch.push(next);
            next = self.links(next).parent;
        }
        let below = self.node(next).height - self.inner.base;
        let inner = Arc::make_mut(&mut self.inner);
        inner.trunk.truncate(usize::try_from(below + 1).unwrap_or(usize::MAX));
        for id in branch.into_iter().rev() {
            inner.trunk.push(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Hash, Header};

    #[test]
    fn the_trunk_is_the_heaviest_branch_through_forks_and_pruning() {
        let mut random = fastrand::Rng::with_seed(11);
        let mut headers =
            vec![Header { hash: Hash([0; 32]), parent: Hash([1; 32]), height: 3, work: 1, time: 0 }];
        let mut graph = Graph::new(headers[0]);
        for nth in 1..3_000_u32 {
            let parent = headers[headers.len() - 1 - random.usize(0..headers.len().min(4))];
            let mut hash = Hash([7; 32]);
            hash.0[..4].copy_from_slice(&nth.to_le_bytes());
            let work = random.u128(1..4);
            let header = Header { hash, parent: parent.hash, height: parent.height + 1, work, time: 0 };
            graph.insert(header).unwrap();
            headers.push(header);
            if nth % 500 == 0 {
                // Not always on the trunk.
                let boundary = headers[headers.len() - 10];
                graph.prune(&boundary.hash).unwrap();
                headers.retain(|header| graph.contains(&header.hash));
            }
            let weight = |tip: &Header| graph.total_work(&tip.hash);
            let top = graph.node(graph.trunk_top().unwrap()).hash;
            assert_eq!(graph.total_work(&top), graph.tips().map(|tip| weight(&tip)).max().unwrap());
            for header in graph.down(&top, 0) {
                assert_eq!(
                    graph.trunk_at(header.height - graph.inner.base),
                    graph.inner.arena.find(&header.hash)
                );
            }
        }
    }
}
