//! Headers whose parents are not known yet.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::{Hash, Header, Height};

/// A bounded set of headers without parents.
#[derive(Debug, Default)]
pub(super) struct Pending {
    headers: HashMap<Hash, (Header, Arc<str>)>,
    children: HashMap<Hash, Vec<Hash>>,
    /// Oldest first; some of them were removed from `headers`.
    order: VecDeque<Hash>,
    by_node: HashMap<Arc<str>, usize>,
}

impl Pending {
    pub(super) fn len(&self) -> usize {
        self.headers.len()
    }

    pub(super) fn get(&self, hash: &Hash) -> Option<&Header> {
        self.headers.get(hash).map(|(header, _)| header)
    }

    /// Keeps one more header. Over the limit, the oldest one of the node with the most headers is dropped.
    pub(super) fn insert(&mut self, header: Header, node: &Arc<str>, limit: usize) {
        if self.headers.contains_key(&header.hash) {
            return;
        }
        self.headers.insert(header.hash, (header, Arc::clone(node)));
        self.children.entry(header.parent).or_default().push(header.hash);
        self.order.push_back(header.hash);
        *self.by_node.entry(Arc::clone(node)).or_default() += 1;
        if self.headers.len() > limit {
            let most = self.by_node.iter().max_by_key(|(_, count)| **count).map(|(node, _)| Arc::clone(node));
            let is_from_it = |hash: &&Hash| self.headers.get(*hash).map(|(_, node)| node) == most.as_ref();
            if let Some(oldest) = self.order.iter().find(is_from_it).copied() {
                self.remove(&oldest);
            }
        }
        if self.order.len() > 2 * limit {
            self.order.retain(|hash| self.headers.contains_key(hash));
        }
    }

    pub(super) fn remove(&mut self, hash: &Hash) -> Option<(Header, Arc<str>)> {
        let (header, node) = self.headers.remove(hash)?;
        if let Some(siblings) = self.children.get_mut(&header.parent) {
            siblings.retain(|sibling| sibling != hash);
            if siblings.is_empty() {
                self.children.remove(&header.parent);
            }
        }
        if let Some(count) = self.by_node.get_mut(&node) {
            *count -= 1;
            if *count == 0 {
                self.by_node.remove(&node);
            }
        }
        Some((header, node))
    }

    /// Removes and returns the children of `parent`, which has arrived.
    pub(super) fn take_children(&mut self, parent: &Hash) -> Vec<(Header, Arc<str>)> {
        let children = self.children.get(parent).cloned().unwrap_or_default();
        children.iter().filter_map(|child| self.remove(child)).collect()
    }

    /// Forgets the children of `parent` that `node` reported.
    pub(super) fn forget_children(&mut self, parent: &Hash, node: &str) {
        let children = self.children.get(parent).cloned().unwrap_or_default();
        let is_from_it = |hash: &Hash| self.headers.get(hash).is_some_and(|(_, origin)| **origin == *node);
        let gone: Vec<Hash> = children.into_iter().filter(is_from_it).collect();
        for hash in gone {
            self.remove(&hash);
        }
    }

    /// Forgets all headers that `node` reported.
    pub(super) fn forget_reported_by(&mut self, node: &str) {
        let is_from_it = self.headers.iter().filter(|(_, (_, origin))| **origin == *node);
        let gone: Vec<Hash> = is_from_it.map(|(hash, _)| *hash).collect();
        for hash in gone {
            self.remove(&hash);
        }
    }

    /// The lowest known ancestor of `hash`; its parent is missing.
    pub(super) fn lowest_below(&self, hash: &Hash) -> Option<Header> {
        let mut lowest = *self.get(hash)?;
        // Heights are not checked yet: false headers may form a cycle.
        for _ in 0..self.headers.len() {
            match self.get(&lowest.parent) {
                Some(parent) if parent.height < lowest.height => lowest = *parent,
                _ => break,
            }
        }
        Some(lowest)
    }

    /// The headers that `node` reported and whose parents are not here either, lowest first.
    pub(super) fn gaps_of(&self, node: &str) -> Vec<Header> {
        let own = self.headers.values().filter(|(_, origin)| **origin == *node).map(|(header, _)| *header);
        let mut gaps: Vec<Header> = own.filter(|header| !self.headers.contains_key(&header.parent)).collect();
        gaps.sort_by_key(|header| (header.height, header.hash));
        gaps
    }

    /// Forgets headers at or below `height`: they can never be linked.
    pub(super) fn prune(&mut self, height: Height) {
        let low: Vec<Hash> = self
            .headers
            .values()
            .filter(|(header, _)| header.height <= height)
            .map(|(header, _)| header.hash)
            .collect();
        for hash in &low {
            self.remove(hash);
        }
    }
}
