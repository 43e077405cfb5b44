//! The status of transactions when a reorg goes below the kept blocks.

use std::sync::Arc;

use watchkeeper_chain::projection::Projection;
use watchkeeper_chain::projection::inclusion::{Inclusions, Status};
use watchkeeper_chain::{ChainEvent, Hash};

use super::{Payment, Tree, numbered};

fn pay(id: u64, nonce: u64) -> Payment {
    Payment { id: numbered(id), from: Some('a'), nonce, to: Some('b'), value: 1, fee: 0, minted: 0 }
}

fn apply(inclusions: &mut Inclusions<Payment>, event: &ChainEvent<Payment>) {
    inclusions.settle();
    inclusions.apply(event);
    inclusions.settle();
}

fn statuses<const N: usize>(inclusions: &Inclusions<Payment>, of: [&Payment; N]) -> [Status; N] {
    of.map(|payment| inclusions.view().status(payment.id).unwrap())
}

/// A branch whose last two blocks are kept, and another that forks off below them.
///
/// ```text
/// g - 1(p, x) - 2(q) - 3 - 4 - 5(r)
///        \
///          6 - 7 - 8(r) - 9 - 10
/// ```
struct Fork {
    tree: Tree<Payment>,
    inclusions: Inclusions<Payment>,
    /// Of these, y is ruled out by x.
    p: Payment,
    q: Payment,
    r: Payment,
    y: Payment,
    new: usize,
}

impl Fork {
    fn on_old_branch() -> Self {
        let (rival, y) = (pay(104, 7), pay(105, 7));
        let [p, q, r] = [0, 1, 2].map(|nonce| pay(101 + nonce, nonce));
        let mut inclusions = Inclusions::new().keep(2);
        for payment in [&p, &q, &r, &y] {
            inclusions.follower().follow(payment).unwrap();
        }
        let mut tree = Tree::new();
        let blocks = [vec![p.clone(), rival], vec![q.clone()], vec![], vec![], vec![r.clone()]];
        let old = blocks.into_iter().fold(0, |parent, block| tree.grow(parent, block));
        let blocks = [vec![], vec![], vec![r.clone()], vec![], vec![]];
        let new = blocks.into_iter().fold(1, |parent, block| tree.grow(parent, block));
        let event = tree.lead_to(old).unwrap();
        apply(&mut inclusions, &event);
        Self { tree, inclusions, p, q, r, y, new }
    }

    fn lead_to(&mut self, tip: usize) {
        let event = self.tree.lead_to(tip).unwrap();
        apply(&mut self.inclusions, &event);
    }

    fn statuses(&self) -> [Status; 4] {
        statuses(&self.inclusions, [&self.p, &self.q, &self.r, &self.y])
    }
}

#[test]
fn transactions_below_a_deep_reorg_stay_and_those_above_are_out() {
    let mut fork = Fork::on_old_branch();
    let one = fork.tree.header(1);
    let replaced = Status::Replaced { by: numbered(104), block: one };
    let (two, five, eight) = (fork.tree.header(2), fork.tree.header(5), fork.tree.header(8));
    let before = [(one, 5), (two, 4), (five, 1)].map(|(block, depth)| Status::Included { block, depth });
    assert_eq!(fork.statuses(), [before[0], before[1], before[2], replaced]);
    fork.lead_to(fork.new);
    let out = Status::ReorgedOut { from: two };
    let [p, r] = [(one, 6), (eight, 3)].map(|(block, depth)| Status::Included { block, depth });
    assert_eq!(fork.statuses(), [p, out, r, replaced]);
    // Back again, as deep.
    fork.lead_to(5);
    assert_eq!(fork.statuses(), [before[0], before[1], before[2], replaced]);
    apply(&mut fork.inclusions, &ChainEvent::Finalised { block: one });
    fork.lead_to(fork.new);
    assert_eq!(fork.statuses(), [Status::Finalised { block: one }, out, r, replaced]);
}

#[test]
fn transactions_below_a_deep_revert_stay_and_those_above_are_out() {
    let mut fork = Fork::on_old_branch();
    fork.lead_to(1);
    let [one, two, five] = [1, 2, 5].map(|place| fork.tree.header(place));
    let p = Status::Included { block: one, depth: 1 };
    let [q, r] = [two, five].map(|from| Status::ReorgedOut { from });
    assert_eq!(fork.statuses(), [p, q, r, Status::Replaced { by: numbered(104), block: one }]);
}

/// A transaction was followed late, and earlier blocks were not searched for it: its status starts from the fork.
#[test]
fn a_deep_reorg_lowers_the_start_of_a_transaction_that_was_followed_late() {
    let mut fork = Fork::on_old_branch();
    let late = pay(106, 9);
    fork.inclusions.follower().follow(&late).unwrap();
    fork.inclusions.settle();
    assert_eq!(statuses(&fork.inclusions, [&late]), [Status::Pending { since: 4 }]);
    fork.lead_to(fork.new);
    assert_eq!(statuses(&fork.inclusions, [&late]), [Status::Pending { since: 2 }]);
}

/// Events are missed: of blocks that were connected before, only the final ones are known to be on the branch.
#[test]
fn after_events_were_missed_no_transaction_is_reorged_out() {
    let missed = |fork: &mut Fork| {
        let new: Vec<_> = [8, 9, 10].map(|place| Arc::clone(&fork.tree.blocks[place])).into();
        apply(&mut fork.inclusions, &ChainEvent::Committed { new });
    };
    let mut fork = Fork::on_old_branch();
    missed(&mut fork);
    let pending = Status::Pending { since: 4 };
    let r = Status::Included { block: fork.tree.header(8), depth: 3 };
    assert_eq!(fork.statuses(), [pending, pending, r, pending]);

    let mut fork = Fork::on_old_branch();
    let one = fork.tree.header(1);
    apply(&mut fork.inclusions, &ChainEvent::Finalised { block: one });
    missed(&mut fork);
    let replaced = Status::Replaced { by: numbered(104), block: one };
    assert_eq!(fork.statuses(), [Status::Finalised { block: one }, pending, r, replaced]);

    // A revert of another branch than the one that was emitted.
    let mut fork = Fork::on_old_branch();
    let (ancestor, lost) = (fork.tree.header(1), fork.tree.header(3));
    let unknown = watchkeeper_chain::Header { hash: Hash([9; 32]), ..lost };
    apply(&mut fork.inclusions, &ChainEvent::Reverted { old: vec![unknown], ancestor });
    let pending = Status::Pending { since: 2 };
    assert_eq!(fork.statuses(), [pending; 4]);
}
