//! Dropping headers below a new root.

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
            let Some((id, node, links)) =
                u32::try_from(place).ok().and_then(|id| Some((id, arena.get(id)?, arena.links(id)?)))
            else {
                continue;
            };
            let parent = (links.parent as usize).checked_sub(first);
            if id == root || place > first && parent.is_some_and(|parent| stays[parent]) {
                stays[place - first] = true;
                kept += 1;
            } else if arena.find(&node.hash) == Some(id) {
                dropped.push(node.hash);
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
}
