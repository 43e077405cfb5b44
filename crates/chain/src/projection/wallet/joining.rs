//! Adding wallets to those that are followed.

use std::collections::HashMap;
use std::sync::Arc;

use super::backfill::{Backfill, BackfillError, Goal, Joining};
use super::ledger::{Fault, Ledger};
use super::ownership::{Draft, Flow, WalletOf};
use super::requests::BackfillAnswer;
use super::view::{FollowedWallet, LedgerEntry, holdings};
use super::wallets::Wallets;
use crate::Hash;
use crate::projection::window::WindowBlock;

impl<L: Ledger> Wallets<L> {
    /// Adds wallets whose state at the root is known; each kept block is folded once for all of them.
    pub(super) fn join(&mut self, joining: Joining<L>) {
        let Some(window) = &mut self.window else { return };
        let Joining { wallets, holdings: joined, flow, blocks } = joining;
        let from = wallets.iter().map(|wallet| wallet.from).min().unwrap_or_default();
        // A kept block without transactions on a lost branch is dropped: if it is connected again, it has them.
        let is_read = |node: &WindowBlock<LedgerEntry<L>>| {
            let matters = node.place.next > from;
            !matters || node.value.block.is_some() || blocks.contains_key(&node.place.hash)
        };
        for node in window.drop_unless(is_read) {
            self.ownership.prune_orphaned(&self.ledger, &node.value.changes);
        }
        for node in window.seen.all() {
            holdings(&self.ledger, &window.seen, node);
        }
        let first = self.ownership.next();
        for (wallet, held) in wallets.into_iter().zip(&joined) {
            self.enter(wallet, held);
        }
        let (ownership, ledger) = (&mut self.ownership, &self.ledger);
        let mut flows: HashMap<Hash, Flow> = HashMap::new();
        let Some(window) = &mut self.window else { return };
        window.update(|node, parent| {
            let entry = &node.value;
            let (mut own, mut changes) = (entry.known(), entry.changes.clone());
            let block = entry.block.as_ref().or_else(|| blocks.get(&node.place.hash)).cloned();
            let mut sum = flow;
            if let (Some(parent), Some(block)) = (parent, &block) {
                for held in parent.value.known().iter().skip(first as usize) {
                    own.push_back_mut(held.clone());
                }
                let mut draft = Draft::new(own);
                let (more, moved) = ownership.fold(ledger, block, first, &mut draft);
                own = draft.finish();
                changes = changes.and(&more);
                sum = flows.get(&parent.place.hash).copied().unwrap_or_default().plus(moved);
            } else {
                for held in &joined {
                    own.push_back_mut(held.clone());
                }
            }
            flows.insert(node.place.hash, sum);
            // The other wallets were folded with what was read then.
            LedgerEntry::new(entry.flow.plus(sum), changes, block).with(own).read_as(entry.detail)
        });
    }

    /// Numbers a wallet that has `held` at the root.
    pub(super) fn enter(&mut self, wallet: Arc<WalletOf<L>>, held: &Result<L::Wallet, Fault>) {
        let known = FollowedWallet { number: self.ownership.next(), wallet: Arc::clone(&wallet) };
        self.names.insert_mut(Arc::clone(&wallet.name), known);
        self.ownership.register(&self.ledger, wallet, held);
    }

    /// Adds the wallets of a finished backfill, unless one of them is followed already: a second number would count its
    /// value twice.
    pub(super) fn take_in(&mut self, mut backfill: Backfill<L>) -> BackfillAnswer<L> {
        let is_followed = |wallet: &Arc<WalletOf<L>>| self.names.contains_key(&wallet.name);
        let goal = self.goal().filter(|_| !backfill.wallets().iter().any(is_followed));
        backfill.aim(goal.ok_or(BackfillError::Superseded)?)?;
        match backfill.join() {
            Ok(joining) => {
                self.join(joining);
                Ok(None)
            }
            Err(unfinished) => Ok(Some(unfinished)),
        }
    }

    /// Follows the requested wallets that need no older block, and publishes which of the others wait.
    pub(super) fn process(&mut self) {
        let Some(goal) = self.goal() else { return };
        let asked = self.requests.wallets();
        self.processed = asked.len();
        let fresh = |wallet: &Arc<WalletOf<L>>| !self.names.contains_key(&wallet.name);
        let needs_blocks = |wallet: &Arc<WalletOf<L>>| wallet.from < goal.read.next;
        let (waiting, now): (Vec<_>, Vec<_>) = asked.into_iter().filter(fresh).partition(needs_blocks);
        if !now.is_empty()
            && let Ok(joining) =
                Backfill::new(self.ledger.clone(), now, Goal { read: goal.root, ..goal }).join()
        {
            self.join(joining);
        }
        self.waiting = waiting.iter().map(|wallet| Arc::clone(&wallet.name)).collect();
        self.requests.publish(goal, waiting);
    }

    /// From which place, and up to which, blocks have to be read for wallets that are added now.
    fn goal(&self) -> Option<Goal> {
        let seen = &self.window.as_ref()?.seen;
        let root = seen.root();
        let unread = seen.branch().filter(|node| node.value.block.is_none());
        Some(Goal { root, read: unread.last().map_or(root, |node| node.place) })
    }
}
