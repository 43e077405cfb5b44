//! Which of the transactions in flight count.

use std::collections::{HashMap, HashSet};

use super::ledger::{Ledger, OutPoint, Target};
use crate::{Hash, Transaction};

/// What the transactions that count would change, in their order, but coins are made before any is spent: a transaction
/// may be given before the one whose coin it spends.
pub(super) fn changes<L: Ledger>(ledger: &L, given: &[L::Transaction]) -> Vec<L::Change> {
    let mut queue = Queue { ledger, entries: Vec::new(), at: HashMap::new(), holders: HashMap::new() };
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
        let mut lost: HashSet<OutPoint> = HashSet::new();
        for replaced in replaced {
            self.remove(replaced, &mut lost);
        }
        self.remove_spenders(&mut lost);
        self.holders.extend(conflicts.iter().map(|conflict| (conflict.clone(), id)));
        self.at.insert(id, self.entries.len());
        self.entries.push(Some(Entry { conflicts, changes: self.ledger.changes(transaction) }));
    }

    fn remove(&mut self, id: Hash, lost: &mut HashSet<OutPoint>) {
        let Some(entry) = self.at.remove(&id).and_then(|at| self.entries[at].take()) else { return };
        for conflict in entry.conflicts {
            self.holders.remove(&conflict);
        }
        lost.extend(entry.changes.iter().filter_map(|change| self.ledger.made(change)));
    }

    /// Removes what spends a coin that is not made any more.
    fn remove_spenders(&mut self, lost: &mut HashSet<OutPoint>) {
        while !lost.is_empty() {
            let spends = |change: &L::Change| match self.ledger.target(change) {
                Target::Coin(coin) => lost.contains(coin),
                Target::Address(_) => false,
            };
            let is_spender =
                |at: &usize| self.entries[*at].as_ref().is_some_and(|entry| entry.changes.iter().any(spends));
            let spenders: Vec<Hash> =
                self.at.iter().filter(|(_, at)| is_spender(at)).map(|(id, _)| *id).collect();
            lost.clear();
            for spender in spenders {
                self.remove(spender, lost);
            }
        }
    }
}
