//! The fold of a chain's events into the status of transactions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rpds::HashTrieMapSync;

use super::follower::{FollowRequests, TransactionFollower};
use super::view::{Exclusion, Facts, InclusionView, Scanned};
use crate::projection::window::Window;
use crate::projection::{BranchPosition, Projection};
use crate::{Block, ChainEvent, Detail, Hash, Header, Height, Transaction};

/// How many blocks below the tip are kept, to search them for transactions that are followed late.
const KEEP: u64 = 128;

/// The transactions that are followed, as a [`Projection`]. See the [module](super).
#[derive(Clone, Debug)]
pub struct Inclusions<T> {
    keep: u64,
    window: Option<Window<Scanned<T>>>,
    followed: HashTrieMapSync<Hash, Arc<Facts>>,
    /// The followed transactions that each conflict excludes.
    claims: HashMap<Vec<u8>, Vec<Hash>>,
    /// The followed transactions that each kept block concerns.
    concerned: HashMap<Hash, Vec<Hash>>,
    finalised: Option<Header>,
    requests: Arc<Mutex<FollowRequests>>,
    /// The version of the requests that were applied last.
    version: u64,
}

/// What is known of the branch below the new root of the kept blocks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Below {
    /// It is the branch that was scanned before.
    Shared,
    /// It may be another branch: events are missing.
    Unknown,
}

impl<T: Transaction> Default for Inclusions<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Transaction> Inclusions<T> {
    /// Follows the transactions that its [`follower`](Self::follower) adds.
    ///
    /// 128 blocks below the tip are kept, to search them for transactions that are followed late.
    #[must_use]
    pub fn new() -> Self {
        Self {
            keep: KEEP,
            window: None,
            followed: HashTrieMapSync::new_sync(),
            claims: HashMap::new(),
            concerned: HashMap::new(),
            finalised: None,
            requests: Arc::default(),
            version: 0,
        }
    }

    /// Keeps this many blocks below the tip, to search them for transactions that are followed late. Up to 1,024 blocks
    /// beside the branch are kept above that; the lowest are dropped first.
    #[must_use]
    pub fn keep(self, blocks: u64) -> Self {
        Self { keep: blocks, ..self }
    }

    /// Adds and removes transactions, before and while the chain is observed.
    #[must_use]
    pub fn follower(&self) -> TransactionFollower {
        TransactionFollower::of(&self.requests)
    }

    /// Adds blocks, each the parent of the next.
    fn extend(&mut self, new: &[Arc<Block<T>>]) {
        for block in new {
            self.add(block);
            self.prune();
        }
    }

    fn add(&mut self, block: &Arc<Block<T>>) {
        let header = block.header;
        self.forget_less_read(block);
        let is_kept =
            |hash| self.window.as_ref().is_some_and(|window: &Window<_>| window.seen.get(hash).is_some());
        let is_back = is_kept(&header.hash);
        if !is_back && !is_kept(&header.parent) {
            self.begin(BranchPosition::before(&header), Below::Unknown);
        }
        let learned = !is_back && self.scan(block);
        if let Some(window) = &mut self.window {
            if !is_back {
                let before = window.seen.get(&header.parent).map_or(0, |parent| parent.value.unread);
                let is_unread = block.detail == Detail::Header;
                let unread = if is_unread { header.height.saturating_add(1) } else { before };
                window.insert(header, Scanned { block: Some(Arc::clone(block)), unread });
            }
            window.lead_to(header.hash);
        }
        if learned {
            self.search();
        }
    }

    /// Drops a block that is off the branch and of which more was read now, with its descendants.
    fn forget_less_read(&mut self, block: &Block<T>) {
        let Some(window) = &mut self.window else { return };
        let hash = block.header.hash;
        let kept = window.seen.get(&hash).and_then(|node| node.value.block.as_ref());
        if kept.is_none_or(|kept| kept.detail >= block.detail) {
            return;
        }
        let root = window.seen.root();
        for node in window.drop_unless(|node| node.place.hash != hash) {
            self.drop_facts(&node.place.hash, false, root);
        }
    }

    /// Records which followed transactions a block includes or excludes. Returns true if conflicts of one were learned:
    /// an older block may then exclude it.
    fn scan(&mut self, block: &Block<T>) -> bool {
        let mut learned = false;
        for (nth, transaction) in block.transactions.iter().enumerate() {
            let id = transaction.id();
            if self.followed.contains_key(&id) {
                learned |= self.learn(id, || transaction.conflicts().into());
                self.note_own(id, block.header);
            }
            if self.claims.is_empty() {
                continue;
            }
            for conflict in transaction.conflicts() {
                let excluded = self.claims.get(&conflict).cloned().unwrap_or_default();
                for other in excluded.into_iter().filter(|other| *other != id) {
                    self.note_other(other, Exclusion { block: block.header, nth, by: id });
                }
            }
        }
        learned
    }

    /// Records that a block includes a followed transaction.
    fn note_own(&mut self, followed: Hash, block: Header) {
        let Some(facts) = self.followed.get(&followed).filter(|facts| !facts.own.contains(&block)) else {
            return;
        };
        let mut facts = Facts::clone(facts);
        facts.own.push(block);
        let height = |block: Header| (block.height, block.hash);
        if facts.last.is_none_or(|last| height(last) < height(block)) {
            (facts.last, facts.shared) = (Some(block), 0);
        }
        self.note(followed, facts, block.hash);
    }

    /// Records that a block includes a transaction that excludes a followed one.
    fn note_other(&mut self, followed: Hash, other: Exclusion) {
        let Some(facts) = self.followed.get(&followed).filter(|facts| !facts.others.contains(&other)) else {
            return;
        };
        let mut facts = Facts::clone(facts);
        facts.others.push(other);
        self.note(followed, facts, other.block.hash);
    }

    fn note(&mut self, followed: Hash, facts: Facts, block: Hash) {
        self.followed.insert_mut(followed, Arc::new(facts));
        self.concerned.entry(block).or_default().push(followed);
    }

    /// Records the conflicts of a followed transaction, if they were unknown. None at all may only mean that they could
    /// not be read: they are learned from the next block that has them.
    fn learn(&mut self, transaction: Hash, conflicts: impl FnOnce() -> Arc<[Vec<u8>]>) -> bool {
        let Some(facts) = self.followed.get(&transaction).filter(|facts| facts.conflicts.is_none()) else {
            return false;
        };
        let conflicts = conflicts();
        if conflicts.is_empty() {
            return false;
        }
        for conflict in conflicts.iter() {
            let claims = self.claims.entry(conflict.clone()).or_default();
            if !claims.contains(&transaction) {
                claims.push(transaction);
            }
        }
        let facts = Facts { conflicts: Some(conflicts), ..Facts::clone(facts) };
        self.followed.insert_mut(transaction, Arc::new(facts));
        true
    }

    /// Follows exactly the transactions that are requested now.
    fn apply_requests(&mut self) {
        let requests = Arc::clone(&self.requests);
        let requested = requests.lock().unwrap_or_else(PoisonError::into_inner);
        if requested.version == self.version {
            return;
        }
        self.version = requested.version;
        let unwanted =
            self.followed.keys().filter(|followed| !requested.transactions.contains_key(*followed));
        for transaction in unwanted.copied().collect::<Vec<_>>() {
            self.forget(transaction);
        }
        let since = self.window.as_ref().map_or(0, |window| window.seen.root().next);
        let mut news = false;
        for (transaction, conflicts) in &requested.transactions {
            if !self.followed.contains_key(transaction) {
                let facts = Facts { since, ..Facts::default() };
                self.followed.insert_mut(*transaction, Arc::new(facts));
                news = true;
            }
            if let Some(conflicts) = conflicts {
                news |= self.learn(*transaction, || Arc::clone(conflicts));
            }
        }
        drop(requested);
        if news {
            self.search();
        }
    }

    /// Scans the kept blocks again, for newly followed transactions.
    fn search(&mut self) {
        let Some(window) = &self.window else { return };
        let blocks: Vec<_> = window.seen.all().filter_map(|node| node.value.block.clone()).collect();
        let mut learned = true;
        while std::mem::take(&mut learned) {
            for block in &blocks {
                learned |= self.scan(block);
            }
        }
    }

    fn forget(&mut self, transaction: Hash) {
        let Some(facts) = self.followed.get(&transaction).cloned() else { return };
        for conflict in facts.conflicts.iter().flat_map(|conflicts| conflicts.iter()) {
            if let Some(claims) = self.claims.get_mut(conflict) {
                claims.retain(|other| *other != transaction);
                if claims.is_empty() {
                    self.claims.remove(conflict);
                }
            }
        }
        for block in facts.own.iter().chain(facts.others.iter().map(|other| &other.block)) {
            if let Some(concerned) = self.concerned.get_mut(&block.hash) {
                concerned.retain(|other| *other != transaction);
            }
        }
        self.followed.remove_mut(&transaction);
    }

    /// Starts again at `root`. Blocks below it are not scanned again: facts from there stay if `below` is the branch
    /// that was scanned before.
    fn begin(&mut self, root: BranchPosition, below: Below) {
        let unread = self.unread_below(root, below);
        let before = self.window.replace(Window::new(root, None, Scanned { block: None, unread }));
        let on_branch = |block: &Header| {
            before.as_ref().is_some_and(|window| window.seen.is_on_branch(BranchPosition::behind(block)))
        };
        let is_known = |block: &Header| match below {
            Below::Shared => block.height < root.next,
            Below::Unknown => self.finalised.is_some_and(|last| block.height <= last.height),
        };
        self.concerned.clear();
        let transactions: Vec<Hash> = self.followed.keys().copied().collect();
        for transaction in transactions {
            let Some(facts) = self.followed.get(&transaction) else { continue };
            let settled_own = facts.own(on_branch).filter(is_known);
            let settled_other = facts.other(on_branch).filter(|other| is_known(&other.block));
            let is_kept =
                |block: &Header| before.as_ref().is_some_and(|old| old.seen.get(&block.hash).is_some());
            // Every kept block descends from `root` if that is below them on their branch.
            let shared = if facts.last.as_ref().is_some_and(is_kept) { root.next } else { facts.shared };
            let (since, last) = match below {
                Below::Shared => (facts.since.min(root.next), facts.last),
                Below::Unknown => (root.next, None),
            };
            let (conflicts, shared) = (facts.conflicts.clone(), shared.min(root.next));
            let facts =
                Facts { since, conflicts, settled_own, settled_other, last, shared, ..Facts::default() };
            self.followed.insert_mut(transaction, Arc::new(facts));
        }
        self.apply_requests();
    }

    /// The height above the highest block below `root` that was not read. Of the branch below the kept blocks only the
    /// highest one is known: if that is above `root`, any block below it may be one.
    fn unread_below(&self, root: BranchPosition, below: Below) -> Height {
        let seen = self.window.as_ref().map(|window| &window.seen).filter(|_| below == Below::Shared);
        let lowest = seen.and_then(|seen| seen.get(&seen.root().hash));
        lowest.map_or(0, |lowest| lowest.value.unread.min(root.next))
    }

    /// Goes back to the ancestor of the disconnected blocks.
    fn go_back(&mut self, old: &[Header], ancestor: &Header) {
        let to = BranchPosition::behind(ancestor);
        match &mut self.window {
            Some(window) if window.seen.get(&to.hash).is_some() => window.lead_to(to.hash),
            Some(window) => {
                let tip = window.seen.tip().hash;
                let is_same = old.first().is_some_and(|highest| highest.hash == tip);
                self.begin(to, if is_same { Below::Shared } else { Below::Unknown });
            }
            None => self.begin(to, Below::Unknown),
        }
    }

    /// Drops blocks that are too old, and facts from lost branches.
    fn prune(&mut self) {
        let Some(window) = &mut self.window else { return };
        let root = window.seen.root();
        for dropped in window.settle(window.seen.below_tip(self.keep)) {
            self.drop_facts(&dropped.node.place.hash, dropped.settled, root);
        }
    }

    /// Drops what is known of a block above `root` that is not kept any more.
    fn drop_facts(&mut self, block: &Hash, settled: bool, root: BranchPosition) {
        for transaction in self.concerned.remove(block).unwrap_or_default() {
            let Some(facts) = self.followed.get(&transaction) else { continue };
            let mut facts = Facts::clone(facts);
            facts.drop_block(block, settled, root);
            self.followed.insert_mut(transaction, Arc::new(facts));
        }
    }
}

impl<T: Transaction> Projection<T> for Inclusions<T> {
    type View = InclusionView<T>;

    fn apply(&mut self, event: &ChainEvent<T>) {
        match event {
            ChainEvent::Committed { new } => self.extend(new),
            ChainEvent::Reorged { old, new, ancestor } => {
                self.go_back(old, ancestor);
                self.extend(new);
            }
            ChainEvent::Reverted { old, ancestor } => self.go_back(old, ancestor),
            ChainEvent::Finalised { block } => self.finalised = Some(*block),
            _ => {}
        }
    }

    fn settle(&mut self) {
        self.apply_requests();
    }

    fn view(&self) -> InclusionView<T> {
        InclusionView {
            followed: self.followed.clone(),
            kept: self.window.as_ref().map(|window| window.seen.clone()),
            finalised: self.finalised,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    /// The same transaction in every block.
    #[derive(Clone, Debug, PartialEq)]
    struct Same;

    impl Transaction for Same {
        fn id(&self) -> Hash {
            Hash([9; 32])
        }

        fn conflicts(&self) -> Vec<Vec<u8>> {
            Vec::new()
        }
    }

    #[test]
    fn reorgs_in_place_do_not_grow_without_bound() {
        let mut inclusions = Inclusions::new();
        inclusions.follower().follow(&Same).unwrap();
        for number in 0..2_000_u32 {
            let mut hash = [1; 32];
            hash[..4].copy_from_slice(&number.to_be_bytes());
            let header = Header { hash: Hash(hash), parent: Hash([0; 32]), height: 1, work: 1, time: 0 };
            let new = vec![Arc::new(Block::new(header, vec![Same]))];
            inclusions.apply(&ChainEvent::Committed { new });
            inclusions.settle();
            let status = inclusions.view().status(Same.id());
            assert_eq!(status, Some(Status::Included { block: header, depth: 1 }));
        }
        // Beside the branch, which is a root and one block.
        let kept = inclusions.window.as_ref().map(|window| window.seen.all().count());
        assert_eq!((kept, inclusions.concerned.len()), (Some(1_024 + 2), 1_024 + 1));
    }
}
