//! The fold of a chain's events into the status of transactions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rpds::HashTrieMapSync;

use super::follower::{FollowRequests, TransactionFollower};
use super::view::{Facts, InclusionView};
use crate::projection::window::{Window, WindowBlock};
use crate::projection::{BranchPosition, Projection};
use crate::{Block, ChainEvent, Hash, Header, Transaction};

/// How many blocks below the tip are kept, to search them for transactions that are followed late.
const KEEP: u64 = 128;

/// The transactions that are followed, as a [`Projection`]. See the [module](super).
#[derive(Clone, Debug)]
pub struct Inclusions<T> {
    keep: u64,
    window: Option<Window<Option<Arc<Block<T>>>>>,
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
#[derive(Clone, Copy)]
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
        let is_kept =
            |hash| self.window.as_ref().is_some_and(|window: &Window<_>| window.seen.get(hash).is_some());
        let is_back = is_kept(&header.hash);
        if !is_back && !is_kept(&header.parent) {
            self.begin(BranchPosition::before(&header), Below::Unknown);
        }
        let learned = !is_back && self.scan(block);
        if let Some(window) = &mut self.window {
            if !is_back {
                window.insert(header, Some(Arc::clone(block)));
            }
            window.lead_to(header.hash);
        }
        if learned {
            self.search();
        }
    }

    /// Records which followed transactions a block includes or excludes. Returns true if conflicts of one were learned:
    /// an older block may then exclude it.
    fn scan(&mut self, block: &Block<T>) -> bool {
        let mut learned = false;
        for transaction in &block.transactions {
            let id = transaction.id();
            if self.followed.contains_key(&id) {
                learned |= self.learn(id, || transaction.conflicts().into());
                self.note(id, id, block.header);
            }
            if self.claims.is_empty() {
                continue;
            }
            for conflict in transaction.conflicts() {
                let excluded = self.claims.get(&conflict).cloned().unwrap_or_default();
                for other in excluded.into_iter().filter(|other| *other != id) {
                    self.note(other, id, block.header);
                }
            }
        }
        learned
    }

    /// Records that `block` includes `by`, which is the followed transaction or excludes it.
    fn note(&mut self, followed: Hash, by: Hash, block: Header) {
        let Some(facts) = self.followed.get(&followed) else { return };
        if facts.seen.contains(&(by, block)) {
            return;
        }
        let mut facts = Facts::clone(facts);
        facts.seen.push((by, block));
        let height = |block: Header| (block.height, block.hash);
        if by == followed && facts.last.is_none_or(|last| height(last) < height(block)) {
            facts.last = Some(block);
        }
        self.followed.insert_mut(followed, Arc::new(facts));
        self.concerned.entry(block.hash).or_default().push(followed);
    }

    /// Records the conflicts of a followed transaction, if they were unknown.
    fn learn(&mut self, transaction: Hash, conflicts: impl FnOnce() -> Arc<[Vec<u8>]>) -> bool {
        let Some(facts) = self.followed.get(&transaction).filter(|facts| facts.conflicts.is_none()) else {
            return false;
        };
        let conflicts = conflicts();
        for conflict in conflicts.iter() {
            self.claims.entry(conflict.clone()).or_default().push(transaction);
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
        let blocks: Vec<_> = window.seen.all().filter_map(|node| node.value.clone()).collect();
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
        for (_, block) in &facts.seen {
            if let Some(concerned) = self.concerned.get_mut(&block.hash) {
                concerned.retain(|other| *other != transaction);
            }
        }
        self.followed.remove_mut(&transaction);
    }

    /// Starts again at `root`. Blocks below it are not scanned again: facts from there stay if `below` is the branch
    /// that was scanned before.
    fn begin(&mut self, root: BranchPosition, below: Below) {
        let before = self.window.replace(Window::new(root, None, None));
        let on_branch = |block: &Header| {
            before.as_ref().is_some_and(|window| window.seen.is_on_branch(BranchPosition::behind(block)))
        };
        let is_final = |block: &Header| self.finalised.is_some_and(|last| block.height <= last.height);
        self.concerned.clear();
        let transactions: Vec<Hash> = self.followed.keys().copied().collect();
        for transaction in transactions {
            let Some(facts) = self.followed.get(&transaction) else { continue };
            let kept = facts.seen.iter().find(|(_, block)| on_branch(block)).copied();
            let known = facts.settled.or(kept);
            let (since, settled, last) = match below {
                Below::Shared => {
                    let settled = known.filter(|(_, block)| block.height < root.next);
                    (facts.since.min(root.next), settled, facts.last)
                }
                Below::Unknown => (root.next, known.filter(|(_, block)| is_final(block)), None),
            };
            let facts = Facts { since, conflicts: facts.conflicts.clone(), seen: Vec::new(), settled, last };
            self.followed.insert_mut(transaction, Arc::new(facts));
        }
        self.apply_requests();
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
        for dropped in window.settle(window.seen.below_tip(self.keep)) {
            let WindowBlock { place, .. } = *dropped.node;
            for transaction in self.concerned.remove(&place.hash).unwrap_or_default() {
                let Some(facts) = self.followed.get(&transaction) else { continue };
                let mut facts = Facts::clone(facts);
                let fact = facts.seen.iter().position(|(_, block)| block.hash == place.hash);
                let fact = fact.map(|at| facts.seen.swap_remove(at));
                if dropped.settled {
                    facts.settled = facts.settled.or(fact);
                }
                self.followed.insert_mut(transaction, Arc::new(facts));
            }
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
