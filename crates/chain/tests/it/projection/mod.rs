//! Projections, folded from events that are made by hand.

mod backfill;
mod checkpoint;
mod conflicts;
mod conflicts_model;
mod feed;
mod in_flight;
mod inclusion;
mod observed;
mod property;
mod recount;
mod refused;
mod together;
mod unknown;
mod wallets;

use std::sync::Arc;

use watchkeeper_chain::projection::wallet::{AccountTransaction, Amount, OutPoint, UtxoTransaction};
use watchkeeper_chain::{Block, ChainEvent, Hash, Header, Transaction};

/// A hash that is only a number.
pub(crate) fn numbered(number: u64) -> Hash {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Hash(bytes)
}

/// An owner of value: one letter.
pub(crate) type Address = char;

/// A transaction of a chain of coins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Coins {
    pub(crate) id: Hash,
    pub(crate) inputs: Vec<OutPoint>,
    pub(crate) outputs: Vec<(Option<Address>, Amount)>,
}

impl Transaction for Coins {
    fn id(&self) -> Hash {
        self.id
    }

    fn conflicts(&self) -> Vec<Vec<u8>> {
        let name = |coin: &OutPoint| [&coin.transaction.0[..], &coin.output.to_be_bytes()].concat();
        self.inputs.iter().map(name).collect()
    }
}

impl UtxoTransaction for Coins {
    type Address = Address;

    fn inputs(&self) -> Vec<OutPoint> {
        self.inputs.clone()
    }

    fn outputs(&self) -> Vec<(Option<Address>, Amount)> {
        self.outputs.clone()
    }

    fn is_reward(&self) -> bool {
        self.inputs.is_empty()
    }
}

/// A transaction of a chain of accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Payment {
    pub(crate) id: Hash,
    pub(crate) from: Option<Address>,
    pub(crate) nonce: u64,
    pub(crate) to: Option<Address>,
    pub(crate) value: Amount,
    pub(crate) fee: Amount,
    pub(crate) minted: Amount,
}

impl Transaction for Payment {
    fn id(&self) -> Hash {
        self.id
    }

    fn conflicts(&self) -> Vec<Vec<u8>> {
        self.from.map(|from| format!("{from}{}", self.nonce).into_bytes()).into_iter().collect()
    }
}

impl AccountTransaction for Payment {
    type Address = Address;

    fn from(&self) -> Option<Address> {
        self.from
    }

    fn nonce(&self) -> u64 {
        self.nonce
    }

    fn to(&self) -> Option<Address> {
        self.to
    }

    fn value(&self) -> Amount {
        self.value
    }

    fn fee(&self) -> Amount {
        self.fee
    }

    fn minted(&self) -> Amount {
        self.minted
    }
}

/// A tree of blocks that makes the event an observer would emit when the tip moves.
#[derive(Clone, Debug)]
pub(crate) struct Tree<T> {
    pub(crate) blocks: Vec<Arc<Block<T>>>,
    /// An index into `blocks`.
    pub(crate) tip: usize,
}

impl<T: Transaction> Tree<T> {
    /// A tree of the first block only, which is the observer's root.
    pub(crate) fn new() -> Self {
        let header = Header { hash: numbered(1), parent: numbered(0), height: 0, work: 1, time: 0 };
        Self { blocks: vec![Arc::new(Block::new(header, Vec::new()))], tip: 0 }
    }

    /// Adds a block and returns its index.
    pub(crate) fn grow(&mut self, parent: usize, transactions: Vec<T>) -> usize {
        let parent = self.blocks[parent].header;
        let hash = numbered(self.blocks.len() as u64 + 1);
        let header = Header { hash, parent: parent.hash, height: parent.height + 1, work: 1, time: 0 };
        self.blocks.push(Arc::new(Block::new(header, transactions)));
        self.blocks.len() - 1
    }

    pub(crate) fn place(&self, hash: Hash) -> usize {
        self.blocks.iter().position(|block| block.header.hash == hash).unwrap()
    }

    pub(crate) fn header(&self, place: usize) -> Header {
        self.blocks[place].header
    }

    /// The branch to a block, root first.
    pub(crate) fn path(&self, place: usize) -> Vec<usize> {
        let parent = |place: &usize| (*place > 0).then(|| self.place(self.blocks[*place].header.parent));
        let mut path: Vec<usize> = std::iter::successors(Some(place), parent).collect();
        path.reverse();
        path
    }

    /// Moves the tip and returns the event; `None` if the tip does not move.
    pub(crate) fn lead_to(&mut self, tip: usize) -> Option<ChainEvent<T>> {
        let (before, after) = (self.path(self.tip), self.path(tip));
        self.tip = tip;
        let shared = before.iter().zip(&after).take_while(|(before, after)| before == after).count();
        let ancestor = self.header(before[shared - 1]);
        let old: Vec<Header> = before[shared..].iter().rev().map(|place| self.header(*place)).collect();
        let new: Vec<_> = after[shared..].iter().map(|place| Arc::clone(&self.blocks[*place])).collect();
        match (old.is_empty(), new.is_empty()) {
            (true, true) => None,
            (true, false) => Some(ChainEvent::Committed { new }),
            (false, true) => Some(ChainEvent::Reverted { old, ancestor }),
            (false, false) => Some(ChainEvent::Reorged { old, new, ancestor }),
        }
    }
}
