//! Which of the transactions in flight count.

use std::collections::{HashMap, HashSet};

use super::ledger::{Ledger, OutPoint, Target};
use crate::{Hash, Transaction};

/// What the transactions that count would change, in their order, but coins are made before any is spent: a transaction
/// may be given before the one whose coin it spends.
pub(super) fn changes<L: Ledger>(ledger: &L, given: &[L::Transaction]) -> Vec<L::Change> {
    let (entries, at, holders) = (Vec::new(), HashMap::new(), HashMap::new());
    let mut queue = Queue { ledger, entries, at, holders, lost: HashSet::new() };
    for transaction in given {
        queue.send(transaction);
    }
    let changes = queue.entries.into_iter().flatten().flat_map(|entry| entry.changes);
    let (mut made, other): (Vec<_>, Vec<_>) = changes.partition(|change| ledger.made(change).is_some());
    made.extend(other);
    made
}

/// The transactions in flight: what a node would keep of them that lets each replace those before.
struct Queue<'a, L: Ledger> {
    ledger: &'a L,
    /// None for one that does not count any more.
    entries: Vec<Option<Entry<L>>>,
    at: HashMap<Hash, usize>,
    /// The transaction that counts of each conflict.
    holders: HashMap<Vec<u8>, Hash>,
    /// The coins of transactions that do not count: what spends one does not count either.
    lost: HashSet<OutPoint>,
}

struct Entry<L: Ledger> {
    conflicts: Vec<Vec<u8>>,
    changes: Vec<L::Change>,
}

impl<L: Ledger> Queue<'_, L> {
    fn send(&mut self, transaction: &L::Transaction) {
        let id = transaction.id();
        if self.at.contains_key(&id) {
            return;
        }
        let conflicts = transaction.conflicts();
        let replaced: Vec<Hash> =
            conflicts.iter().filter_map(|conflict| self.holders.get(conflict)).copied().collect();
        for replaced in replaced {
            self.remove(replaced);
        }
        let changes = self.ledger.changes(transaction);
        let made: Vec<OutPoint> = changes.iter().filter_map(|change| self.ledger.made(change)).collect();
        if self.spends_lost(&changes) {
            self.lost.extend(made);
        } else {
            // It may be sent again after it was replaced.
            for coin in &made {
                self.lost.remove(coin);
            }
            self.holders.extend(conflicts.iter().map(|conflict| (conflict.clone(), id)));
            self.at.insert(id, self.entries.len());
            self.entries.push(Some(Entry { conflicts, changes }));
        }
        self.remove_spenders();
    }

    fn remove(&mut self, id: Hash) {
        let Some(entry) = self.at.remove(&id).and_then(|at| self.entries[at].take()) else { return };
        for conflict in entry.conflicts {
            self.holders.remove(&conflict);
        }
        self.lost.extend(entry.changes.iter().filter_map(|change| self.ledger.made(change)));
    }

    fn spends_lost(&self, changes: &[L::Change]) -> bool {
        changes.iter().any(|change| match self.ledger.target(change) {
            Target::Coin(coin) => self.lost.contains(coin),
            Target::Address(_) => false,
        })
    }

    /// Removes what spends a coin that is not made any more.
    fn remove_spenders(&mut self) {
        let is_spender = |queue: &Self, at: usize| {
            queue.entries[at].as_ref().is_some_and(|entry| queue.spends_lost(&entry.changes))
        };
        while let Some(spender) = self.at.iter().find(|(_, at)| is_spender(self, **at)).map(|(id, _)| *id) {
            self.remove(spender);
        }
    }
}
