//! The fields of nodes' answers that are read, and how they are checked.
//!
//! Only what links a header into the graph, and the hash of a transaction, is required. What only wallets need, and a
//! chain leaves out or writes otherwise, is unknown.

mod header;
mod odd;
mod system;
mod transaction;

use std::collections::{HashMap, HashSet};

use alloy::primitives::{B256, U256};
use serde::Deserialize;
use serde_json::value::RawValue;

use self::header::WireHeader;
use self::odd::Odd;
pub(super) use self::transaction::{Listed, Receipt};
use super::EthereumTransaction;
use watchkeeper_chain::{Block, Detail, Hash, Header, Height};

/// What a question asks for, and its answer must match.
#[derive(Clone, Copy, Debug)]
pub(super) enum RequestId {
    Any,
    Hash(Hash),
    Height(Height),
}

/// Why an answer is not believed.
#[derive(Debug)]
pub(super) enum WireError {
    /// It cannot be read.
    Malformed(String),
    /// It lacks what its hash is made of. The text has nothing of the node's.
    Unhashed(String),
    /// It contradicts the question, or itself.
    Untrue(String),
}

impl From<serde_json::Error> for WireError {
    fn from(error: serde_json::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// A block without results.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) header: Header,
    pub(super) transactions: Vec<Listed>,
}

#[derive(Deserialize)]
struct WireBody {
    transactions: Option<Vec<Listed>>,
}

/// Where receipts come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReceiptSource {
    /// All of one block were asked for, by its hash.
    Block,
    /// One by one: a node may return that of another branch's block. So each must name its block, or at least the height.
    Transaction,
}

/// A number in any form; `None` for null.
pub(super) fn number(json: &RawValue) -> Result<Option<U256>, WireError> {
    let odd: Odd<'_> = serde_json::from_str(json.get())?;
    match odd.number() {
        None if !odd.is_missing() => Err(WireError::Malformed("it is not a number".to_owned())),
        number => Ok(number),
    }
}

/// A header that matches the question; `None` for null.
pub(super) fn header(
    json: &RawValue,
    asked: RequestId,
    recomputes_hashes: bool,
) -> Result<Option<Header>, WireError> {
    let wire: Option<WireHeader<'_>> = serde_json::from_str(json.get())?;
    wire.map(|wire| wire.read(asked, recomputes_hashes)).transpose()
}

/// A block that matches the question, with its transactions as they are listed; `None` for null.
pub(super) fn body(
    json: &RawValue,
    asked: RequestId,
    recomputes_hashes: bool,
) -> Result<Option<Body>, WireError> {
    let Some(wire): Option<WireHeader<'_>> = serde_json::from_str(json.get())? else { return Ok(None) };
    let header = wire.read(asked, recomputes_hashes)?;
    let body: WireBody = serde_json::from_str(json.get())?;
    let transactions = body.transactions.unwrap_or_default();
    // The roots of the header are not recomputed, but the root of no transactions is known. It leaves out what some
    // chains list beside their transactions, which nobody signed.
    let is_contradiction = match wire.is_empty() {
        Some(true) => transactions.iter().any(Listed::is_signed),
        Some(false) => transactions.is_empty(),
        None => false,
    };
    if recomputes_hashes && is_contradiction {
        let says = if transactions.is_empty() { "some" } else { "none" };
        let (hash, count) = (header.hash, transactions.len());
        let reason = format!("block {hash} has {count} transactions, and its header says {says}");
        return Err(WireError::Untrue(reason));
    }
    Ok(Some(Body { header, transactions }))
}

/// Receipts as a node lists them; `None` for null. Those that are null, or name no transaction, are left out.
pub(super) fn receipts(json: &RawValue) -> Result<Option<Vec<Receipt>>, WireError> {
    let Some(list): Option<Vec<&RawValue>> = serde_json::from_str(json.get())? else { return Ok(None) };
    Ok(Some(list.into_iter().filter_map(receipt).collect()))
}

/// One receipt; `None` for null.
pub(super) fn receipt(json: &RawValue) -> Option<Receipt> {
    serde_json::from_str(json.get()).ok().flatten()
}

/// A transaction that was asked for by its hash; `None` if the answer is another one, or none.
pub(super) fn listed(json: &RawValue, asked: &Listed) -> Option<Listed> {
    let listed: Option<Listed> = serde_json::from_str(json.get()).ok()?;
    listed.filter(|listed| listed.hash == asked.hash)
}

impl Body {
    /// Without results.
    pub(super) fn listed(self) -> Block<EthereumTransaction> {
        let transactions = self.transactions.iter().map(|listed| listed.with(None)).collect();
        Block { header: self.header, transactions, detail: Detail::Transactions }
    }

    /// Adds the receipts that are of this block and of one of its transactions. Receipts come in any order, and some
    /// chains have receipts without a transaction.
    pub(super) fn add(
        &self,
        found: &mut HashMap<B256, Receipt>,
        receipts: Vec<Receipt>,
        source: ReceiptSource,
    ) -> Result<(), WireError> {
        let here = self.header.hash;
        let listed: HashSet<_> = self.transactions.iter().map(|listed| listed.hash).collect();
        for receipt in receipts.into_iter().filter(|receipt| listed.contains(&receipt.transaction)) {
            let other = receipt.block.filter(|block| block.0 != here.0);
            let is_of_height = receipt.height == Some(self.header.height);
            match (source, other) {
                (ReceiptSource::Block, Some(other)) => {
                    let (hash, other) = (Hash(receipt.transaction.0), Hash(other.0));
                    let reason =
                        format!("the receipt of transaction {hash} in block {here} is of block {other}");
                    return Err(WireError::Untrue(reason));
                }
                (ReceiptSource::Transaction, Some(_)) => {}
                (ReceiptSource::Transaction, None) if receipt.block.is_none() && !is_of_height => {}
                (_, None) => {
                    found.entry(receipt.transaction).or_insert(receipt);
                }
            }
        }
        Ok(())
    }

    /// The transactions that have no receipt.
    pub(super) fn without_receipt(&self, found: &HashMap<B256, Receipt>) -> Vec<B256> {
        self.transactions.iter().map(|listed| listed.hash).filter(|hash| !found.contains_key(hash)).collect()
    }

    /// The transactions that have no receipt, though such a transaction has one on every chain.
    pub(super) fn without_result(&self, found: &HashMap<B256, Receipt>) -> Vec<B256> {
        let lacks = |listed: &&Listed| listed.has_receipt() && !found.contains_key(&listed.hash);
        self.transactions.iter().filter(lacks).map(|listed| listed.hash).collect()
    }

    /// Whether no result is missing.
    pub(super) fn has_results(&self, found: &HashMap<B256, Receipt>) -> bool {
        self.transactions.iter().all(|listed| !listed.has_receipt() || found.contains_key(&listed.hash))
    }

    /// With the results that were found. If some are missing, or it is unknown whose transaction one is, this is a block
    /// of less detail.
    pub(super) fn with(self, found: &HashMap<B256, Receipt>) -> Block<EthereumTransaction> {
        let is_whole = self.has_results(found) && self.transactions.iter().all(Listed::has_sender);
        let detail = if is_whole { Detail::Results } else { Detail::Transactions };
        let transactions = self.transactions.iter().map(|listed| listed.with(found.get(&listed.hash)));
        Block { header: self.header, transactions: transactions.collect(), detail }
    }
}
