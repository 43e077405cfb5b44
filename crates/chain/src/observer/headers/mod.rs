//! The headers of all branches: those that are linked to the root, and those that wait for their parents.

mod origins;
mod pending;

use std::collections::HashSet;
use std::sync::Arc;

use crate::adapter::ChainError;
use crate::{Graph, Hash, Header, InsertError, Inserted, OnBranch};

use super::{ChainConfig, Start};
use origins::HeaderOrigins;
use pending::Pending;

/// Owns the graph, the headers without parents, and which node each header came from.
#[derive(Debug)]
pub(super) struct Headers {
    graph: Option<Graph>,
    /// The root is configured, or a block above it was emitted: it cannot be replaced any more.
    root_is_fixed: bool,
    pending: Pending,
    origins: HeaderOrigins,
    pending_limit: usize,
    limit_by_node: usize,
}

/// Where a head is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the graph.
    Linked,
    /// Some of its ancestors are missing.
    Waiting,
    /// Lower than the root: its branch is unknown.
    Below,
    /// On a branch that forks from the graph below the root.
    Off,
}

/// What cannot be true of a header, and of those that waited for it.
#[derive(Debug, Default)]
pub(super) struct Contradictions {
    /// Of the header itself.
    pub(super) own: Option<ChainError>,
    /// Of the headers that waited for it, by the nodes that reported them.
    pub(super) waiting: Vec<(Arc<str>, ChainError)>,
}

impl Headers {
    /// No headers, unless the observation begins at known ones.
    pub(super) fn new(config: &ChainConfig) -> Self {
        let mut headers = Self {
            graph: None,
            root_is_fixed: false,
            pending: Pending::default(),
            origins: HeaderOrigins::default(),
            pending_limit: config.pending_limit,
            limit_by_node: config.headers_off_branch,
        };
        if let Start::Known(known) = &config.start
            && let [root, rest @ ..] = known.as_slice()
        {
            let mut graph = Graph::new(*root);
            // `validate` checks that they are a chain: each is inserted.
            for header in rest {
                let _ = graph.insert(*header);
            }
            (headers.graph, headers.root_is_fixed) = (Some(graph), true);
        }
        headers
    }

    /// The linked headers; `None` until it is known where the chain begins.
    pub(super) fn graph(&self) -> Option<&Graph> {
        self.graph.as_ref()
    }

    /// Begins at this header, unless it has begun.
    pub(super) fn begin_at(&mut self, root: Header) -> bool {
        let is_first = self.graph.is_none();
        self.graph.get_or_insert_with(|| Graph::new(root));
        is_first
    }

    /// Whether the root may still prove to be false.
    pub(super) fn root_is_doubtful(&self) -> bool {
        self.graph.is_some() && !self.root_is_fixed
    }

    /// A block above the root was emitted.
    pub(super) fn fix_root(&mut self) {
        self.root_is_fixed = true;
    }

    /// Drops a false root, and all that was linked to it.
    pub(super) fn drop_root(&mut self) {
        (self.graph, self.pending, self.origins) = (None, Pending::default(), HeaderOrigins::default());
    }

    /// Links a header and all that waited for it, or keeps it until its parent is there. `has_block` is whether the
    /// contents of a block are there.
    pub(super) fn link(
        &mut self,
        header: Header,
        origin: &Arc<str>,
        has_block: impl Fn(&Hash) -> bool,
    ) -> Contradictions {
        let mut found = Contradictions::default();
        let Some(graph) = &mut self.graph else { return found };
        let mut queue = vec![(header, Arc::clone(origin))];
        while let Some((next, origin)) = queue.pop() {
            if self.origins.count(&origin) >= self.limit_by_node && !graph.contains(&next.hash) {
                // It is reported again when there is room: with the head above it, or by another node.
                continue;
            }
            match graph.insert(next) {
                Ok(Inserted::New) => {
                    if !has_block(&next.hash) {
                        self.origins.insert(next.hash, origin);
                    }
                    self.pending.remove(&next.hash);
                    queue.extend(self.pending.take_children(&next.hash));
                }
                Ok(Inserted::Known) | Err(InsertError::BelowRoot { .. }) => {}
                Err(InsertError::MissingParent { .. }) => {
                    self.pending.insert(next, &origin, self.pending_limit);
                }
                Err(error) if next == header => found.own = Some(untrue(&origin, &error)),
                Err(error) => found.waiting.push((Arc::clone(&origin), untrue(&origin, &error))),
            }
        }
        found
    }

    /// Whether a head or its parent is known.
    pub(super) fn is_attached(&self, head: &Header) -> bool {
        let known = |hash: &Hash| {
            self.pending.get(hash).is_some() || self.graph.as_ref().is_some_and(|graph| graph.contains(hash))
        };
        known(&head.hash) || known(&head.parent)
    }

    pub(super) fn place(&self, head: &Header) -> Place {
        let Some(graph) = &self.graph else { return Place::Waiting };
        let root = graph.root();
        if graph.contains(&head.hash) {
            Place::Linked
        } else if head.height < root.height {
            Place::Below
        } else if head.height == root.height {
            Place::Off
        } else {
            let lowest = self.pending.lowest_below(&head.hash).unwrap_or(*head);
            if lowest.height <= root.height + 1 { Place::Off } else { Place::Waiting }
        }
    }

    /// Whether a head is lower than the root: its branch is unknown.
    pub(super) fn is_below(&self, head: &Header) -> bool {
        self.graph.as_ref().is_some_and(|graph| head.height < graph.root().height)
    }

    /// Whether a node whose head was `from` and is `to` went back on its branch.
    pub(super) fn is_rewind(&self, from: &Header, to: &Header) -> bool {
        let Some(graph) = &self.graph else { return false };
        if self.is_below(to) {
            to.height < from.height
        } else {
            to != from && graph.is_on_branch(&to.hash, &from.hash) == OnBranch::Yes
        }
    }

    /// The gaps that are open for a node: the lowest headers of what it reported, and of what is known below `head`.
    pub(super) fn gaps_of(&self, node: &str, head: &Hash) -> Vec<Header> {
        let mut gaps = self.pending.gaps_of(node);
        gaps.extend(self.pending.lowest_below(head));
        gaps
    }

    /// How many headers wait for their parents.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The node that reported a header first, until the block is there.
    pub(super) fn origin(&self, hash: &Hash) -> Option<&Arc<str>> {
        self.origins.get(hash)
    }

    /// Whether one more header that a node reports is kept.
    pub(super) fn has_room_for(&self, node: &str) -> bool {
        self.origins.count(node) < self.limit_by_node
    }

    /// Why the branch of a node, which has this head, is not walked further: too many headers of it are kept.
    pub(super) fn too_long(&self, node: &Arc<str>, head: &Header) -> Option<ChainError> {
        let is_too_long = !self.has_room_for(node) && self.place(head) == Place::Waiting;
        let (endpoint, limit) = (node.to_string(), self.limit_by_node);
        is_too_long.then_some(ChainError::TooManyHeaders { endpoint, limit })
    }

    /// Drops the headers without blocks on branches without `anchor` that none of the blocks `needed` is above. Whether
    /// there were any.
    pub(super) fn drop_lost(&mut self, anchor: &Header, needed: &HashSet<Hash>) -> bool {
        let Some(graph) = &mut self.graph else { return false };
        let is_unneeded = |hash: &Hash| self.origins.get(hash).is_some() && !needed.contains(hash);
        let lost = graph.tips().filter(|tip| is_unneeded(&tip.hash) && graph.leaves(tip, anchor));
        let mut unneeded = HashSet::new();
        for tip in lost {
            let fork = graph.common_ancestor(&tip.hash, &anchor.hash).map_or(tip.height, |fork| fork.height);
            let mut down = graph.down(&tip.hash, fork).map(|header| header.hash);
            while down.next().is_some_and(|hash| is_unneeded(&hash) && unneeded.insert(hash)) {}
        }
        if !unneeded.is_empty() {
            graph.remove(&unneeded);
            self.origins.retain(|hash| graph.contains(hash));
        }
        !unneeded.is_empty()
    }

    /// The contents of a block are there.
    pub(super) fn block_arrived(&mut self, hash: &Hash) {
        self.origins.remove(hash);
    }

    /// Forgets the waiting headers that a node reported.
    pub(super) fn forget_reported_by(&mut self, node: &str) {
        self.pending.forget_reported_by(node);
    }

    /// Forgets the waiting children of `parent` that a node reported.
    pub(super) fn forget_children(&mut self, parent: &Hash, node: &str) {
        self.pending.forget_children(parent, node);
    }

    /// Drops all that is not `root` or above it.
    pub(super) fn prune(&mut self, root: &Header) {
        let Some(graph) = &mut self.graph else { return };
        if graph.prune(&root.hash).is_ok() {
            self.pending.prune(root.height);
            self.origins.retain(|hash| graph.contains(hash));
        }
    }
}

fn untrue(node: &Arc<str>, error: &InsertError) -> ChainError {
    ChainError::Untrue { endpoint: node.to_string(), method: "header", reason: error.to_string() }
}
