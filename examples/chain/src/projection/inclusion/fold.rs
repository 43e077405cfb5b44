//! The fold of a chain's events into what became of transactions.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rpds::HashTrieMapSync;

use super::view::{Facts, InclusionView};
use crate::projection::window::{Node, Window};
use crate::projection::{Place, Projection};
use crate::{Block, ChainEvent, Hash, Header, Transaction};

/// How many blocks below the tip are kept to look for transactions that are followed late.
const KEEP: u64 = 128;

/// The transactions that are followed, as a [`Projection`]. See the [module](super).
#[derive(Clone, Debug)]
pub struct Inclusions<T> {
    keep: u64,
    window: Option<Window<Option<Arc<Block<T>>>>>,
    followed: HashTrieMapSync<Hash, Arc<Facts>>,
    /// Who is ruled out by what.
    claims: HashMap<Vec<u8>, Vec<Hash>>,
    /// What of a kept block concerns followed transactions.
    concerned: HashMap<Hash, Vec<Hash>>,
    finalised: Option<Header>,
    desk: Arc<Mutex<Wishes>>,
    /// Of the wishes, as of when they were last looked at.
    version: u64,
}

/// What is to be followed.
#[derive(Debug, Default)]
struct Wishes {
    transactions: HashMap<Hash, Conflicts>,
    /// Counts the changes.
    version: u64,
}

/// What rules a transaction out, if that is known.
type Conflicts = Option<Arc<[Vec<u8>]>>;

/// Follows transactions with [`Inclusions`], from any task.
#[derive(Clone)]
pub struct Follower {
    desk: Weak<Mutex<Wishes>>,
}

/// The transaction is not followed: nobody looks any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the projection of transactions is gone: the runtime has stopped")]
pub struct FollowError;

impl Follower {
    /// Follows a transaction from the next cycle on; the kept blocks are searched for it.
    ///
    /// # Errors
    ///
    /// [`FollowError`].
    pub fn follow<T: Transaction>(&self, transaction: &T) -> Result<(), FollowError> {
        let conflicts = Some(transaction.conflicts().into());
        self.wish(|wishes| {
            wishes.insert(transaction.id(), conflicts);
        })
    }

    /// Follows a transaction of which only the hash is known. What replaces it is not recognised before a block
    /// has included it.
    ///
    /// # Errors
    ///
    /// [`FollowError`].
    pub fn follow_hash(&self, transaction: Hash) -> Result<(), FollowError> {
        self.wish(|wishes| {
            wishes.entry(transaction).or_default();
        })
    }

    /// Follows a transaction no longer, from the next cycle on. Whatever became of it, it is followed until
    /// then.
    ///
    /// # Errors
    ///
    /// [`FollowError`].
    pub fn forget(&self, transaction: Hash) -> Result<(), FollowError> {
        self.wish(|wishes| {
            wishes.remove(&transaction);
        })
    }

    fn wish(&self, change: impl FnOnce(&mut HashMap<Hash, Conflicts>)) -> Result<(), FollowError> {
        let desk = self.desk.upgrade().ok_or(FollowError)?;
        let mut wishes = desk.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut wishes.transactions);
        wishes.version += 1;
        Ok(())
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").finish_non_exhaustive()
    }
}

impl<T: Transaction> Default for Inclusions<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Transaction> Inclusions<T> {
    /// Follows transactions, once its [`follower`](Self::follower) is told some.
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
            desk: Arc::default(),
            version: 0,
        }
    }

    /// Keeps this many blocks below the tip; deeper reorgs cannot be told from new blocks.
    #[must_use]
    pub fn keep(self, blocks: u64) -> Self {
        Self { keep: blocks, ..self }
    }

    /// Where transactions are followed, before and while the chain is observed.
    #[must_use]
    pub fn follower(&self) -> Follower {
        Follower { desk: Arc::downgrade(&self.desk) }
    }

    fn add(&mut self, block: &Arc<Block<T>>) {
        let header = block.header;
        let known = self.window.as_ref().map(|window| {
            (window.seen.get(&header.hash).is_some(), window.seen.get(&header.parent).is_some())
        });
        match known {
            Some((true, _)) => return,
            Some((_, true)) => {}
            _ => self.begin(Place::before(&header)),
        }
        let learned = self.look_at(block);
        if let Some(window) = &mut self.window {
            window.insert(header, Some(Arc::clone(block)));
            window.lead_to(header.hash);
        }
        if learned {
            self.search();
        }
    }

    /// Notes what a block does to followed transactions. True if it was learned what rules one of them out: an
    /// older block may do.
    fn look_at(&mut self, block: &Block<T>) -> bool {
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
                let ruled_out = self.claims.get(&conflict).cloned().unwrap_or_default();
                for other in ruled_out.into_iter().filter(|other| *other != id) {
                    self.note(other, id, block.header);
                }
            }
        }
        learned
    }

    /// Notes that `block` includes `by`, which is the followed transaction itself or rules it out.
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

    /// Learns what rules a followed transaction out, if that was not known.
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

    /// Follows what is wished for now, and nothing else.
    fn grant(&mut self) {
        let desk = Arc::clone(&self.desk);
        let wishes = desk.lock().unwrap_or_else(PoisonError::into_inner);
        if wishes.version == self.version {
            return;
        }
        self.version = wishes.version;
        let unwanted = self.followed.keys().filter(|followed| !wishes.transactions.contains_key(*followed));
        for transaction in unwanted.copied().collect::<Vec<_>>() {
            self.forget(transaction);
        }
        let since = self.window.as_ref().map_or(0, |window| window.seen.root().next);
        let mut news = false;
        for (transaction, conflicts) in &wishes.transactions {
            if !self.followed.contains_key(transaction) {
                let facts = Facts { since, ..Facts::default() };
                self.followed.insert_mut(*transaction, Arc::new(facts));
                news = true;
            }
            if let Some(conflicts) = conflicts {
                news |= self.learn(*transaction, || Arc::clone(conflicts));
            }
        }
        drop(wishes);
        if news {
            self.search();
        }
    }

    /// Looks at the kept blocks again, for what has been followed since.
    fn search(&mut self) {
        let Some(window) = &self.window else { return };
        let blocks: Vec<_> = window.seen.all().filter_map(|node| node.value.clone()).collect();
        let mut learned = true;
        while std::mem::take(&mut learned) {
            for block in &blocks {
                learned |= self.look_at(block);
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

    /// Starts over behind `root`. What is below it is not looked at again.
    fn begin(&mut self, root: Place) {
        self.window = Some(Window::new(root, None, None));
        self.concerned.clear();
        let transactions: Vec<Hash> = self.followed.keys().copied().collect();
        for transaction in transactions {
            let Some(facts) = self.followed.get(&transaction) else { continue };
            let facts = Facts {
                since: root.next,
                conflicts: facts.conflicts.clone(),
                last: facts.last,
                ..Facts::default()
            };
            self.followed.insert_mut(transaction, Arc::new(facts));
        }
        self.grant();
    }

    fn lead_to(&mut self, tip: Place) {
        match &mut self.window {
            Some(window) if window.seen.get(&tip.hash).is_some() => window.lead_to(tip.hash),
            _ => self.begin(tip),
        }
    }

    /// Forgets blocks that are too old, and what was only on lost branches.
    fn prune(&mut self) {
        let Some(window) = &mut self.window else { return };
        for dropped in window.settle(window.seen.below_tip(self.keep)) {
            let Node { place, .. } = *dropped.node;
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
            ChainEvent::Committed { new } | ChainEvent::Reorged { new, .. } => {
                for block in new {
                    self.add(block);
                    self.lead_to(Place::behind(&block.header));
                    self.prune();
                }
            }
            ChainEvent::Reverted { ancestor, .. } => self.lead_to(Place::behind(ancestor)),
            ChainEvent::Finalised { block } => self.finalised = Some(*block),
            _ => {}
        }
    }

    fn settle(&mut self) {
        self.grant();
    }

    fn view(&self) -> InclusionView<T> {
        InclusionView {
            followed: self.followed.clone(),
            kept: self.window.as_ref().map(|window| window.seen.clone()),
            finalised: self.finalised,
        }
    }
}
