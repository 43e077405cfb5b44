//! Transactions whose conflicts overlap although one branch includes them all: their own inclusion counts.

use std::sync::Arc;

use watchkeeper_chain::projection::Projection;
use watchkeeper_chain::projection::inclusion::{Inclusions, Status};
use watchkeeper_chain::{Block, ChainEvent, Hash, Header, Transaction};

use super::{Tree, numbered};

/// A transaction with any conflicts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Free {
    pub(super) id: Hash,
    pub(super) conflicts: Vec<Vec<u8>>,
}

pub(super) fn free(id: u64, conflicts: &[u8]) -> Free {
    Free { id: numbered(1_000 + id), conflicts: conflicts.iter().map(|conflict| vec![*conflict]).collect() }
}

impl Transaction for Free {
    fn id(&self) -> Hash {
        self.id
    }

    fn conflicts(&self) -> Vec<Vec<u8>> {
        self.conflicts.clone()
    }
}

fn apply(inclusions: &mut Inclusions<Free>, event: Option<ChainEvent<Free>>) {
    inclusions.apply(&event.expect("the tip moves"));
    inclusions.settle();
}

fn status(inclusions: &Inclusions<Free>, of: &Free) -> Status {
    inclusions.view().status(of.id).expect("it is followed")
}

fn is_included_in(status: Status, header: Header) -> bool {
    matches!(status, Status::Included { block, .. } | Status::Finalised { block } if block == header)
}

/// Nobody signed x and y, and their sender and nonce are equal.
///
/// ```text
/// g - 1(x) - 2(y) - 3 - 4 - ...        two blocks are kept, the last but one is final
/// ```
#[test]
fn a_final_transaction_is_never_replaced_by_an_older_one_with_equal_conflicts() {
    let (x, y) = (free(1, &[7]), free(2, &[7]));
    for both in [false, true] {
        let mut inclusions = Inclusions::new().keep(2);
        inclusions.follower().follow_hash(y.id).unwrap();
        if both {
            inclusions.follower().follow_hash(x.id).unwrap();
        }
        inclusions.settle();
        let (mut tree, mut at) = (Tree::new(), 0);
        for block in [vec![x.clone()], vec![y.clone()]].into_iter().chain((3..12).map(|_| Vec::new())) {
            at = tree.grow(at, block);
            apply(&mut inclusions, tree.lead_to(at));
            if at >= 2 {
                assert!(
                    is_included_in(status(&inclusions, &y), tree.header(2)),
                    "at {at}, before its finality"
                );
                let block = tree.header(if at == 2 { 2 } else { at - 1 });
                apply(&mut inclusions, Some(ChainEvent::Finalised { block }));
                assert_eq!(status(&inclusions, &y), Status::Finalised { block: tree.header(2) }, "at {at}");
            }
            if both {
                assert!(is_included_in(status(&inclusions, &x), tree.header(1)), "at {at}");
            }
        }
    }
}

/// Each way in which two such transactions may stand on a branch, and be followed: both are included wherever the
/// branch includes them, however few blocks are kept.
#[test]
fn of_two_transactions_with_equal_conflicts_on_one_branch_neither_is_replaced() {
    let (x, y) = (free(1, &[7, 8]), free(2, &[9, 7]));
    let (one, two) = (vec![x.clone()], vec![y.clone()]);
    let both = |first: &Free, second: &Free| vec![first.clone(), second.clone()];
    let layouts = [
        vec![one.clone(), two.clone()],
        vec![two, vec![], one],
        vec![both(&x, &y)],
        vec![vec![], both(&y, &x)],
    ];
    let ways: [fn(&Inclusions<Free>, &Free); 2] = [
        |inclusions, transaction| inclusions.follower().follow(transaction).unwrap(),
        |inclusions, transaction| inclusions.follower().follow_hash(transaction.id).unwrap(),
    ];
    for (layout, keep, way, late) in layouts.iter().flat_map(|layout| {
        let keeps = (0..4).flat_map(|keep| ways.map(|way| (keep, way)));
        keeps.flat_map(move |(keep, way)| [false, true].map(|late| (layout, keep, way, late)))
    }) {
        let (mut tree, mut at) = (Tree::new(), 0);
        let mut inclusions = Inclusions::new().keep(if late { 20 } else { keep });
        if !late {
            for transaction in [&x, &y] {
                way(&inclusions, transaction);
            }
            inclusions.settle();
        }
        for block in layout.iter().cloned().chain((0..6).map(|_| Vec::new())) {
            at = tree.grow(at, block);
            apply(&mut inclusions, tree.lead_to(at));
        }
        if late {
            for transaction in [&x, &y] {
                way(&inclusions, transaction);
            }
            inclusions.settle();
        }
        let block_of = |of: &Free| {
            let block: Option<&Arc<Block<Free>>> =
                tree.blocks.iter().find(|block| block.transactions.contains(of));
            block.map(|block| block.header).unwrap()
        };
        for transaction in [&x, &y] {
            let status = status(&inclusions, transaction);
            assert!(
                is_included_in(status, block_of(transaction)),
                "{transaction:?}, {layout:?}, {keep} kept, late: {late}: {status}"
            );
        }
    }
}

/// y is disconnected, excluded by x, included again, and stays when both are below the kept blocks.
///
/// ```text
/// g - 1(x) - 2(y) - 3
///        \
///          4 - 5 - 6(y) - 7 - ... - 12
/// ```
#[test]
fn a_transaction_that_is_included_again_beside_its_rival_is_included() {
    let (x, y) = (free(1, &[7]), free(2, &[7]));
    for keep in 0..4 {
        let mut inclusions = Inclusions::new().keep(keep);
        inclusions.follower().follow(&y).unwrap();
        inclusions.settle();
        let mut tree = Tree::new();
        let one = tree.grow(0, vec![x.clone()]);
        let two = tree.grow(one, vec![y.clone()]);
        let three = tree.grow(two, Vec::new());
        apply(&mut inclusions, tree.lead_to(three));
        assert!(is_included_in(status(&inclusions, &y), tree.header(two)), "{keep} kept");
        let four = tree.grow(one, Vec::new());
        let five = tree.grow(four, Vec::new());
        apply(&mut inclusions, tree.lead_to(five));
        let replaced = Status::Replaced { by: x.id, block: tree.header(one) };
        assert_eq!(status(&inclusions, &y), replaced, "{keep} kept: x is on the branch, and y is not");
        let six = tree.grow(five, vec![y.clone()]);
        let mut at = six;
        for _ in 0..6 {
            apply(&mut inclusions, tree.lead_to(at));
            assert!(is_included_in(status(&inclusions, &y), tree.header(six)), "{keep} kept");
            at = tree.grow(at, Vec::new());
        }
    }
}

#[test]
fn a_transaction_that_conflicts_with_itself_is_included() {
    let own = free(1, &[7, 7]);
    let mut inclusions = Inclusions::new().keep(1);
    inclusions.follower().follow(&own).unwrap();
    inclusions.settle();
    let (mut tree, mut at) = (Tree::new(), 0);
    for block in [vec![own.clone(), own.clone()], vec![], vec![], vec![]] {
        at = tree.grow(at, block);
        apply(&mut inclusions, tree.lead_to(at));
        assert!(is_included_in(status(&inclusions, &own), tree.header(1)));
    }
    inclusions.follower().forget(own.id).unwrap();
    inclusions.settle();
    assert_eq!(inclusions.view().status(own.id), None);
}

/// The tip returns to a branch with a block that was not read before, and is read now.
///
/// ```text
/// g - 1(y) - 2(not read) - 3
///   \
///     4(not read: y) - 5 - 6
/// ```
#[test]
fn a_block_that_was_not_read_may_include_anything_until_it_is_read() {
    let y = free(2, &[7]);
    let mut inclusions = Inclusions::new();
    inclusions.follower().follow(&y).unwrap();
    inclusions.settle();
    let mut tree = Tree::new();
    let grow = |tree: &mut Tree<Free>, parent, read: bool, transactions| {
        let place = tree.grow(parent, transactions);
        if !read {
            tree.blocks[place] = Arc::new(Block::unread(tree.header(place)));
        }
        place
    };
    let one = grow(&mut tree, 0, true, vec![y.clone()]);
    let two = grow(&mut tree, one, false, vec![]);
    let three = grow(&mut tree, two, true, vec![]);
    let four = grow(&mut tree, 0, false, vec![]);
    let five = grow(&mut tree, four, true, vec![]);
    let six = grow(&mut tree, five, true, vec![]);
    let late = free(3, &[9]);
    apply(&mut inclusions, tree.lead_to(three));
    assert!(is_included_in(status(&inclusions, &y), tree.header(one)));
    inclusions.follower().follow(&late).unwrap();
    inclusions.settle();
    assert_eq!(status(&inclusions, &late), Status::Pending { since: 3 });
    apply(&mut inclusions, tree.lead_to(six));
    assert_eq!(status(&inclusions, &y), Status::Pending { since: 2 }, "block 4 may include it");
    apply(&mut inclusions, tree.lead_to(three));
    let read = Block::new(tree.header(four), vec![y.clone()]);
    tree.blocks[four] = Arc::new(read);
    apply(&mut inclusions, tree.lead_to(six));
    assert!(is_included_in(status(&inclusions, &y), tree.header(four)));
    assert_eq!(status(&inclusions, &late), Status::Pending { since: 1 });
    apply(&mut inclusions, tree.lead_to(0));
    assert_eq!(status(&inclusions, &y), Status::ReorgedOut { from: tree.header(four) });
}

/// A node does not give the nonce of x in block 1, and so no conflicts. It gives it in block 2, or never.
///
/// ```text
/// g - 1(x without conflicts)
///   \
///     2(x) - 3
///   \
///     4(y, which excludes x) - 5 - 6
/// ```
#[test]
fn conflicts_that_were_not_known_at_first_are_learned_from_a_later_block() {
    let (bare, x, y) = (free(1, &[]), free(1, &[7]), free(2, &[7]));
    for (by_hash, is_read) in [(true, true), (false, true), (true, false)] {
        let mut inclusions = Inclusions::new();
        if by_hash {
            inclusions.follower().follow_hash(x.id).unwrap();
        } else {
            inclusions.follower().follow(&bare).unwrap();
        }
        inclusions.settle();
        let mut tree = Tree::new();
        let one = tree.grow(0, vec![bare.clone()]);
        let two = tree.grow(0, vec![if is_read { x.clone() } else { bare.clone() }]);
        let three = tree.grow(two, Vec::new());
        let four = tree.grow(0, vec![y.clone()]);
        let five = tree.grow(four, Vec::new());
        let six = tree.grow(five, Vec::new());
        apply(&mut inclusions, tree.lead_to(one));
        assert!(is_included_in(status(&inclusions, &x), tree.header(one)));
        apply(&mut inclusions, tree.lead_to(three));
        assert!(is_included_in(status(&inclusions, &x), tree.header(two)));
        apply(&mut inclusions, tree.lead_to(six));
        let replaced = Status::Replaced { by: y.id, block: tree.header(four) };
        let expected = if is_read { replaced } else { Status::ReorgedOut { from: tree.header(two) } };
        assert_eq!(status(&inclusions, &x), expected);
        // They are known to the app later.
        inclusions.follower().follow(&x).unwrap();
        inclusions.follower().follow(&bare).unwrap();
        inclusions.settle();
        assert_eq!(status(&inclusions, &x), replaced);
    }
}
