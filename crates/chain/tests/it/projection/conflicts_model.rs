//! Random branches of transactions whose conflicts overlap, of which some blocks are not read. The status of each
//! followed transaction equals a recount of the branch, in which its own inclusion counts first.

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::Index;
use watchkeeper_chain::projection::Projection;
use watchkeeper_chain::projection::inclusion::{Inclusions, Status};
use watchkeeper_chain::{Block, ChainEvent, Detail, Hash, Header, Height};

use super::Tree;
use super::conflicts::{Free, free};
use super::property::cases;

/// Any of them may be on a branch with any other, but none twice.
fn pool() -> Vec<Free> {
    let conflicts: [&[u8]; 8] = [&[1], &[1], &[1, 2], &[2, 3], &[3, 3], &[], &[4, 1], &[2]];
    (0..).zip(conflicts).map(|(id, conflicts)| free(id, conflicts)).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Grow { parent: Index, transactions: Vec<usize>, read: bool },
    Extend { transactions: Vec<usize>, read: bool },
    Lead(Index),
    Finalise(u64),
    Follow { which: usize, by_hash: bool },
    Forget(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let transactions = || prop::collection::vec(0..8_usize, 0..4);
    let read = || prop::bool::weighted(0.9);
    prop_oneof![
        3 => (any::<Index>(), transactions(), read())
            .prop_map(|(parent, transactions, read)| Step::Grow { parent, transactions, read }),
        6 => (transactions(), read()).prop_map(|(transactions, read)| Step::Extend { transactions, read }),
        3 => any::<Index>().prop_map(Step::Lead),
        1 => (0..4_u64).prop_map(Step::Finalise),
        3 => (0..8_usize, any::<bool>()).prop_map(|(which, by_hash)| Step::Follow { which, by_hash }),
        1 => (0..8_usize).prop_map(Step::Forget),
    ]
}

/// What the model knows of a followed transaction.
#[derive(Clone, Debug)]
struct Known {
    /// The lowest height that was searched.
    since: Height,
    /// The same for transactions that exclude it.
    rivals: Height,
    /// Whether its conflicts are known for certain, and whether it was for certain in a block.
    learned: bool,
    seen: bool,
    finalised: Option<Header>,
}

struct Model {
    tree: Tree<Free>,
    /// What the blocks of the tree really include, read or not.
    truth: Vec<Vec<Free>>,
    inclusions: Inclusions<Free>,
    keep: u64,
    root: Option<Height>,
    /// Whether the block right below the root is kept: it is, unless the observation or a deep reorg began there.
    root_is_kept: bool,
    finalised: usize,
    followed: HashMap<usize, Known>,
}

impl Model {
    fn grow(&mut self, parent: usize, transactions: &[usize], read: bool) -> usize {
        let branch = self.tree.path(parent);
        let mut block: Vec<Free> = Vec::new();
        for transaction in transactions.iter().map(|which| pool().swap_remove(*which)) {
            let is_there = branch.iter().any(|place| self.truth[*place].contains(&transaction));
            if !is_there && !block.contains(&transaction) {
                block.push(transaction);
            }
        }
        let place = self.tree.grow(parent, if read { block.clone() } else { Vec::new() });
        if !read {
            self.tree.blocks[place] = Arc::new(Block::unread(self.tree.header(place)));
        }
        self.truth.push(block);
        place
    }

    fn lead(&mut self, to: usize) {
        if !self.tree.path(to).contains(&self.finalised) {
            return;
        }
        let Some(event) = self.tree.lead_to(to) else { return };
        let (ancestor, new) = match &event {
            ChainEvent::Committed { new } => (None, &new[..]),
            ChainEvent::Reorged { new, ancestor, .. } => (Some(ancestor), &new[..]),
            ChainEvent::Reverted { ancestor, .. } => (Some(ancestor), &[][..]),
            _ => unreachable!(),
        };
        let first = new.first().map(|block| block.header.height);
        let mut root = self.root.or(first).unwrap_or_default();
        if let Some(ancestor) = ancestor.filter(|ancestor| ancestor.height + 1 < root) {
            root = ancestor.height + 1;
            self.root_is_kept = false;
            for known in self.followed.values_mut() {
                (known.since, known.rivals) = (known.since.min(root), known.rivals.min(root));
            }
        }
        for block in new {
            let lowest = root - Height::from(self.root_is_kept);
            let next = (block.header.height + 1).saturating_sub(self.keep);
            self.root_is_kept |= next > root;
            root = root.max(next);
            for (which, known) in &mut self.followed {
                let is_there = block.transactions.contains(&pool()[*which]);
                if is_there && !known.learned {
                    known.rivals = lowest;
                }
                (known.learned, known.seen) = (known.learned || is_there, known.seen || is_there);
            }
        }
        if self.root.is_none() {
            self.followed.values_mut().for_each(|known| known.since = known.since.max(first.unwrap_or(0)));
        }
        self.root = Some(root);
        self.inclusions.apply(&event);
        self.inclusions.settle();
    }

    fn play(&mut self, step: &Step) {
        match step {
            Step::Grow { parent, transactions, read } => {
                let parent = parent.index(self.tree.blocks.len());
                self.grow(parent, transactions, *read);
            }
            Step::Extend { transactions, read } => {
                let to = self.grow(self.tree.tip, transactions, *read);
                self.lead(to);
            }
            Step::Lead(to) => self.lead(to.index(self.tree.blocks.len())),
            Step::Finalise(below) => {
                let path = self.tree.path(self.tree.tip);
                let place = path[path.len().saturating_sub(1 + usize::try_from(*below).unwrap())];
                if self.root.is_some()
                    && self.tree.header(place).height > self.tree.header(self.finalised).height
                {
                    self.finalised = place;
                    self.inclusions.apply(&ChainEvent::Finalised { block: self.tree.header(place) });
                }
            }
            Step::Follow { which, by_hash } => self.follow(*which, *by_hash),
            Step::Forget(which) => {
                self.followed.remove(which);
                self.inclusions.follower().forget(pool()[*which].id).unwrap();
                self.inclusions.settle();
            }
        }
    }

    fn follow(&mut self, which: usize, by_hash: bool) {
        let transaction = pool().swap_remove(which);
        let follower = self.inclusions.follower();
        if by_hash {
            follower.follow_hash(transaction.id).unwrap();
        } else {
            follower.follow(&transaction).unwrap();
        }
        self.inclusions.settle();
        let since = self.root.unwrap_or_default() - Height::from(self.root_is_kept);
        let path = self.tree.path(self.tree.tip);
        let is_there = path[1..].iter().any(|place| {
            self.tree.header(*place).height >= since
                && self.tree.blocks[*place].transactions.contains(&transaction)
        });
        let known = Known { since, rivals: since, learned: false, seen: is_there, finalised: None };
        let known = self.followed.entry(which).or_insert(known);
        if !known.learned && (!by_hash || is_there) {
            (known.learned, known.rivals) = (true, since);
        }
    }

    fn check(&mut self) {
        let view = self.inclusions.view();
        let branch = self.tree.path(self.tree.tip);
        let tip = self.tree.header(self.tree.tip).height;
        let final_height = self.tree.header(self.finalised).height;
        for (which, known) in &mut self.followed {
            let transaction = &pool()[*which];
            let status = view.status(transaction.id).unwrap();
            let searched =
                || branch[1..].iter().filter(|place| self.tree.header(**place).height >= known.since);
            let read = |place: &usize| &self.tree.blocks[*place].transactions;
            let own = searched().find(|place| read(place).contains(transaction));
            let rival_from = |from: Height| {
                let mut searched = searched().filter(|place| self.tree.header(**place).height >= from);
                searched.find_map(|place| {
                    let excludes = |other: &&Free| {
                        *other != transaction
                            && other.conflicts.iter().any(|key| transaction.conflicts.contains(key))
                    };
                    Some((read(place).iter().find(excludes)?.id, self.tree.header(*place)))
                })
            };
            let replaced =
                |rival: Option<(Hash, Header)>| rival.map(|(by, block)| Status::Replaced { by, block });
            // A block of another branch may have shown its conflicts before.
            let rival = replaced(rival_from(known.rivals));
            let mut earlier = (known.since..=known.rivals).map(|from| replaced(rival_from(from)));
            let hidden = searched()
                .filter(|place| {
                    self.truth[**place].contains(transaction) && !read(place).contains(transaction)
                })
                .map(|place| self.tree.header(*place).height);
            if let Some(place) = own {
                let block = self.tree.header(*place);
                let depth = tip - block.height + 1;
                let is_final = block.height <= final_height;
                let included = Status::Included { block, depth };
                assert_eq!(status, if is_final { Status::Finalised { block } } else { included });
                known.finalised = known.finalised.or(is_final.then_some(block));
            } else if matches!(status, Status::Replaced { .. }) {
                assert!(earlier.any(|earlier| earlier == Some(status)) || rival == Some(status), "{status}");
            } else {
                assert!(rival.is_none() || !known.learned, "{transaction:?} is {status}");
                match status {
                    Status::Pending { since } => {
                        assert!(hidden.clone().all(|height| height < since), "since {since}");
                        // Where all blocks are read, one that was disconnected is not forgotten.
                        let is_unread = |block: &Arc<Block<Free>>| block.detail == Detail::Header;
                        assert!(!known.seen || self.tree.blocks.iter().any(is_unread));
                    }
                    Status::ReorgedOut { .. } => {
                        assert_eq!(hidden.clone().count(), 0, "a block that was not read includes it");
                    }
                    other => panic!("{transaction:?} is on no read block: {other}"),
                }
            }
            assert!(known.finalised.is_none_or(|block| status == Status::Finalised { block }), "{status}");
        }
    }
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn own_inclusion_on_the_branch_wins(
        keep in 0..5_u64,
        all_read in any::<bool>(),
        mut steps in prop::collection::vec(step(), 5..60),
    ) {
        for step in &mut steps {
            if let Step::Grow { read, .. } | Step::Extend { read, .. } = step {
                *read |= all_read;
            }
        }
        let tree = Tree::new();
        let mut model = Model {
            truth: vec![Vec::new()],
            inclusions: Inclusions::new().keep(keep),
            keep,
            root: None,
            root_is_kept: false,
            finalised: 0,
            followed: HashMap::new(),
            tree,
        };
        for step in &steps {
            model.play(step);
            model.check();
        }
    }
}
