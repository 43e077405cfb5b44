//! The fields of nodes' answers that are read, and how they are checked.

use alloy::primitives::{Address, B256, U64, U256, b256};
use alloy::rpc::types;
use serde::Deserialize;

use super::EthereumTransaction;
use crate::{Block, Hash, Header, Height, Work};

/// The `transactionsRoot` of a block without transactions.
const ROOT_OF_NONE: B256 = b256!("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421");

/// What a question asks for, and its answer must match.
#[derive(Clone, Copy, Debug)]
pub(super) enum RequestId {
    Any,
    Hash(Hash),
    Height(Height),
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct WireBlock {
    #[serde(flatten)]
    header: types::Header,
    transactions: Vec<WireTransaction>,
}

/// A transaction of any type: chains have some that alloy does not know.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireTransaction {
    hash: B256,
    from: Address,
    to: Option<Address>,
    value: U256,
    nonce: U64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireReceipt {
    block_hash: B256,
    transaction_hash: B256,
    transaction_index: U64,
    /// `None` before the Byzantium fork, when only the balance showed a failure.
    status: Option<U64>,
    gas_used: U256,
    effective_gas_price: U256,
    blob_gas_used: Option<U256>,
    blob_gas_price: Option<U256>,
    contract_address: Option<Address>,
}

/// A header that matches the question; else the contradiction as text.
pub(super) fn header(
    header: &types::Header,
    asked: RequestId,
    recomputes_hashes: bool,
) -> Result<Header, String> {
    let read = Header {
        hash: Hash(header.hash.0),
        parent: Hash(header.inner.parent_hash.0),
        height: header.inner.number,
        work: Work::try_from(header.inner.difficulty).unwrap_or(Work::MAX).max(1),
        time: header.inner.timestamp,
    };
    let (hash, height) = (read.hash, read.height);
    match asked {
        RequestId::Hash(asked) if asked != hash => return Err(format!("block {hash} was given for {asked}")),
        RequestId::Height(asked) if asked != height => {
            return Err(format!("height {height} was given for {asked}"));
        }
        _ => {}
    }
    if height == Height::MAX {
        return Err(format!("block {hash} is at height {height}, above which there is none"));
    }
    if recomputes_hashes {
        let computed = Hash(header.inner.hash_slow().0);
        if computed != hash {
            return Err(format!("the header of block {hash} at height {height} has the hash {computed}"));
        }
    }
    Ok(read)
}

/// A block with its transactions and their receipts.
pub(super) fn block(
    block: &WireBlock,
    receipts: &[WireReceipt],
    asked: RequestId,
    recomputes_hashes: bool,
) -> Result<Block<EthereumTransaction>, String> {
    let header = header(&block.header, asked, recomputes_hashes)?;
    if block.transactions.len() != receipts.len() {
        let (transactions, receipts) = (block.transactions.len(), receipts.len());
        return Err(format!("block {} has {transactions} transactions and {receipts} receipts", header.hash));
    }
    // The roots of the header are not recomputed, but the root of no transactions is known.
    let is_empty = block.header.inner.transactions_root == ROOT_OF_NONE;
    if recomputes_hashes && is_empty != block.transactions.is_empty() {
        let says = if is_empty { "none" } else { "some" };
        let count = block.transactions.len();
        return Err(format!("block {} has {count} transactions, and its header says {says}", header.hash));
    }
    let transactions = (0..).zip(&block.transactions).zip(receipts);
    let transactions = transactions.map(|((place, it), receipt)| it.with(receipt, header.hash, place));
    Ok(Block::new(header, transactions.collect::<Result<_, _>>()?))
}

impl WireTransaction {
    fn with(&self, receipt: &WireReceipt, block: Hash, place: u64) -> Result<EthereumTransaction, String> {
        let hash = Hash(self.hash.0);
        if receipt.transaction_hash != self.hash {
            let other = Hash(receipt.transaction_hash.0);
            return Err(format!("the receipt at the place of transaction {hash} is of {other}"));
        }
        let other = Hash(receipt.block_hash.0);
        if other != block {
            return Err(format!("the receipt of transaction {hash} in block {block} is of block {other}"));
        }
        if receipt.transaction_index != U64::from(place) {
            let other = receipt.transaction_index;
            return Err(format!("the receipt of transaction {hash} at place {place} is of place {other}"));
        }
        let price = |used: U256, price: U256| used.saturating_mul(price);
        let blobs =
            price(receipt.blob_gas_used.unwrap_or_default(), receipt.blob_gas_price.unwrap_or_default());
        let succeeded = receipt.status.is_none_or(|status| !status.is_zero());
        Ok(EthereumTransaction {
            hash,
            from: self.from,
            to: self.to.or(receipt.contract_address.filter(|_| succeeded)),
            value: Some(self.value),
            nonce: Some(self.nonce.to()),
            signed: true,
            minted: U256::ZERO,
            fee: Some(price(receipt.gas_used, receipt.effective_gas_price).saturating_add(blobs)),
            succeeded: Some(succeeded),
        })
    }
}
