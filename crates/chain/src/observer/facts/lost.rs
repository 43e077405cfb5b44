//! Room for the headers of a node that has left a lost branch.

use std::sync::Arc;

use super::ChainFacts;
use crate::observer::nodes::NodeFacts;
use crate::{Hash, Header, Transaction};

impl<T: Transaction> ChainFacts<T> {
    /// Records what a node has in the place of the last block of its branch that was linked.
    pub(super) fn placed(&mut self, name: &Arc<str>, block: &Header, head: Hash, there: Option<&Header>) {
        if self.nodes.get_mut(name).is_some_and(|node| node.is_on_branch(block, head, there)) {
            self.begin_again(name);
        }
    }

    /// A node's branch is walked again from its head.
    fn begin_again(&mut self, name: &Arc<str>) {
        self.headers.forget_reported_by(name);
        if let Some(head) = self.nodes.get(name).and_then(NodeFacts::head) {
            self.link(head, name);
        }
    }

    /// Drops the headers of lost branches that all nodes have left, if one node has no more room for its own branch.
    pub(super) fn make_room(&mut self) {
        let Some(anchor) = self.branch.anchor() else { return };
        let is_short = |node: &&NodeFacts| {
            node.head().is_some_and(|head| self.headers.too_long(node.name(), &head).is_some())
        };
        let short: Vec<_> = self.nodes.iter().filter(is_short).map(|node| Arc::clone(node.name())).collect();
        if short.is_empty() {
            return;
        }
        let of_nodes = self.nodes.iter().flat_map(|node| [node.linked(), node.head()]);
        let needed = of_nodes.chain([self.branch.tip(), self.branch.finalised()]).flatten();
        let needed = needed.map(|header| header.hash).collect();
        if self.headers.drop_lost(&anchor, &needed) {
            for name in &short {
                self.begin_again(name);
            }
        }
    }
}
