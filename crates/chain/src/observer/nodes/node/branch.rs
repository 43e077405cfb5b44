//! The last block of a node's branch that is in the graph.

use super::NodeFacts;
use crate::{Graph, Hash, Header, OnBranch};

impl NodeFacts {
    /// A header that it returned is in the graph. One that is not above the last one of its branch, and not heavier,
    /// may be of a branch that it has left, unless that one was on a branch without `anchor`, the last final block.
    pub(in crate::observer) fn is_linked_at(
        &mut self,
        header: Header,
        graph: &Graph,
        anchor: Option<&Header>,
    ) {
        let returns =
            |linked: &Header, anchor| graph.leaves(linked, anchor) && !graph.leaves(&header, anchor);
        let goes_on = self.linked.is_none_or(|linked| {
            graph.is_on_branch(&linked.hash, &header.hash) == OnBranch::Yes
                || graph.total_work(&header.hash) > graph.total_work(&linked.hash)
                || anchor.is_some_and(|anchor| returns(&linked, anchor))
        });
        if self.is_honest() && goes_on {
            self.linked = Some(header);
        }
    }

    /// Whether it has to be asked if the last linked block is still on its branch: not since it has this head.
    pub(in crate::observer) fn owes_branch(&self, head: &Hash) -> bool {
        self.branch_asked.as_ref() != Some(head)
    }

    /// When its head was `head`, it had the block `there` in the place of `block`. Whether it has left the branch of its
    /// last linked block. One that has no block there has not answered: its head is higher.
    pub(in crate::observer) fn is_on_branch(
        &mut self,
        block: &Header,
        head: Hash,
        there: Option<&Header>,
    ) -> bool {
        self.branch_asked = Some(head);
        let has_left = there.is_some_and(|there| there != block) && self.linked.as_ref() == Some(block);
        if has_left {
            self.linked = None;
        }
        has_left
    }

    /// Finds the last block of its branch that is in the graph; none if its branch leaves the graph.
    pub(in crate::observer::nodes) fn link(&mut self, graph: &Graph, is_gone: bool) {
        let mut linked = [self.head(), self.linked].into_iter().flatten();
        self.linked = linked.find(|block| graph.contains(&block.hash)).filter(|_| !is_gone);
    }
}
