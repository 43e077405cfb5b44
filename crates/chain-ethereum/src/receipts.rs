//! What is remembered of a node's receipts.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy::primitives::B256;
use tokio::time::Instant;

use super::wire::Receipt;
use watchkeeper_chain::Hash;

/// Receipts by their transactions.
pub(super) type Receipts = HashMap<B256, Receipt>;

/// A node that refuses the receipts of a block as a method that it does not have is asked for them again after this:
/// one backend of its address may have refused, or the node may have been updated.
const REFUSED_FOR: Duration = Duration::from_mins(5);

/// Receipts are kept of so many unfinished blocks,
const BLOCKS: usize = 4;
/// and so many in all.
const RECEIPTS: usize = 20_000;

/// What is remembered; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct ReceiptMemory(Arc<Mutex<Remembered>>);

#[derive(Debug, Default)]
struct Remembered {
    /// When the receipts of a block were refused last.
    refused: Option<Instant>,
    /// The receipts of unfinished blocks that came one by one, the last block that was asked for at the end.
    unfinished: VecDeque<(Hash, Receipts)>,
}

impl ReceiptMemory {
    /// Whether the node returns the receipts of a block, as far as is known.
    pub(super) fn is_by_block(&self) -> bool {
        self.lock().refused.is_none_or(|refused| refused.elapsed() >= REFUSED_FOR)
    }

    /// The node does not have the method.
    pub(super) fn refused_by_block(&self) {
        self.lock().refused = Some(Instant::now());
    }

    /// The receipts of a block that came before a question for it was given up.
    pub(super) fn unfinished(&self, block: &Hash) -> Receipts {
        let remembered = self.lock();
        let found = remembered.unfinished.iter().find(|(hash, _)| hash == block);
        found.map(|(_, receipts)| receipts.clone()).unwrap_or_default()
    }

    /// Keeps more receipts of a block until it is [finished](Self::finished).
    pub(super) fn keep(&self, block: Hash, receipts: impl Iterator<Item = Receipt>) {
        let mut remembered = self.lock();
        let unfinished = &mut remembered.unfinished;
        let place = unfinished.iter().position(|(hash, _)| *hash == block);
        let kept = place.and_then(|place| unfinished.remove(place));
        let mut kept = kept.map(|(_, receipts)| receipts).unwrap_or_default();
        for receipt in receipts {
            if kept.len() < RECEIPTS {
                kept.insert(receipt.transaction(), receipt);
            }
        }
        let mut room = RECEIPTS - kept.len();
        unfinished.push_back((block, kept));
        let before = unfinished.len() - 1;
        let fits = unfinished.iter().take(before).rev().take(BLOCKS - 1).take_while(|(_, receipts)| {
            let left = room.checked_sub(receipts.len());
            room = left.unwrap_or_default();
            left.is_some()
        });
        let fits = fits.count();
        unfinished.drain(..before - fits);
    }

    /// A block has its receipts.
    pub(super) fn finished(&self, block: &Hash) {
        self.lock().unfinished.retain(|(hash, _)| hash != block);
    }

    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn receipts(count: usize) -> impl Iterator<Item = Receipt> {
        (0..count).map(|nth| {
            let json = format!("{{\"transactionHash\":\"0x{nth:064x}\"}}");
            serde_json::from_str(&json).unwrap()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_method_that_was_refused_is_tried_again_after_some_minutes() {
        let memory = ReceiptMemory::default();
        assert!(memory.is_by_block());
        for _ in 0..2 {
            memory.refused_by_block();
            assert!(!memory.clone().is_by_block());
            advance(Duration::from_secs(299)).await;
            assert!(!memory.is_by_block());
            advance(Duration::from_secs(1)).await;
            assert!(memory.is_by_block());
        }
    }

    #[test]
    fn receipts_of_the_last_unfinished_blocks_are_kept_within_bounds() {
        let memory = ReceiptMemory::default();
        let block = |nth: u8| Hash([nth; 32]);
        let kept = |nth: u8| memory.unfinished(&block(nth)).len();
        for nth in 1..=5 {
            memory.keep(block(nth), receipts(3));
            memory.keep(block(nth), receipts(5));
        }
        assert_eq!([1, 2, 3, 4, 5].map(kept), [0, 5, 5, 5, 5]);
        // Block 2 is the last that was asked for.
        memory.keep(block(2), receipts(6));
        memory.keep(block(6), receipts(1));
        assert_eq!([2, 3, 4, 5, 6].map(kept), [6, 0, 5, 5, 1]);
        memory.finished(&block(4));
        assert_eq!([2, 4, 5, 6].map(kept), [6, 0, 5, 1]);
        memory.keep(block(7), receipts(RECEIPTS - 3));
        assert_eq!([2, 5, 6, 7].map(kept), [0, 0, 1, RECEIPTS - 3]);
        memory.keep(block(7), receipts(RECEIPTS + 9));
        assert_eq!([6, 7].map(kept), [0, RECEIPTS]);
    }
}
