//! Headers, and how their hashes are checked.

use alloy::primitives::{B64, B256, Bloom, b256};
use alloy::rpc::types;
use serde::Deserialize;

use super::odd::Odd;
use super::{RequestId, WireError};
use watchkeeper_chain::{Hash, Header, Height, Work};

/// The `transactionsRoot` of a block without transactions.
const ROOT_OF_NONE: B256 = b256!("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421");

/// What helps where headers are hashed otherwise.
const TRUST: &str = "--trust-hashes (EthereumClient::trusting_hashes)";

/// The fields of Ethereum's header, any of which a chain may leave out.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireHeader<'a> {
    #[serde(borrow)]
    hash: Odd<'a>,
    #[serde(borrow)]
    parent_hash: Odd<'a>,
    #[serde(borrow)]
    number: Odd<'a>,
    #[serde(borrow, default)]
    timestamp: Odd<'a>,
    #[serde(borrow, default)]
    difficulty: Odd<'a>,
    #[serde(borrow, default)]
    transactions_root: Odd<'a>,
    #[serde(borrow, default)]
    sha3_uncles: Odd<'a>,
    #[serde(borrow, default)]
    miner: Odd<'a>,
    #[serde(borrow, default)]
    author: Odd<'a>,
    #[serde(borrow, default)]
    state_root: Odd<'a>,
    #[serde(borrow, default)]
    receipts_root: Odd<'a>,
    #[serde(borrow, default)]
    logs_bloom: Odd<'a>,
    #[serde(borrow, default)]
    gas_limit: Odd<'a>,
    #[serde(borrow, default)]
    gas_used: Odd<'a>,
    #[serde(borrow, default)]
    extra_data: Odd<'a>,
    #[serde(borrow, default)]
    mix_hash: Odd<'a>,
    #[serde(borrow, default)]
    nonce: Odd<'a>,
    #[serde(borrow, default)]
    base_fee_per_gas: Odd<'a>,
    #[serde(borrow, default)]
    withdrawals_root: Odd<'a>,
    #[serde(borrow, default)]
    blob_gas_used: Odd<'a>,
    #[serde(borrow, default)]
    excess_blob_gas: Odd<'a>,
    #[serde(borrow, default)]
    parent_beacon_block_root: Odd<'a>,
    #[serde(borrow, default)]
    requests_hash: Odd<'a>,
    #[serde(borrow, default)]
    block_access_list_hash: Odd<'a>,
    #[serde(borrow, default)]
    slot_number: Odd<'a>,
}

impl WireHeader<'_> {
    /// The header, if it matches the question.
    pub(super) fn read(&self, asked: RequestId, recomputes_hashes: bool) -> Result<Header, WireError> {
        let required = |name: &str| WireError::Malformed(format!("the header has no readable {name}"));
        let read = Header {
            hash: Hash(self.hash.hash().ok_or_else(|| required("hash"))?.0),
            parent: Hash(self.parent_hash.hash().ok_or_else(|| required("parentHash"))?.0),
            height: self.number.small().ok_or_else(|| required("number"))?,
            work: self.difficulty.number().map_or(1, |work| Work::try_from(work).unwrap_or(Work::MAX).max(1)),
            time: self.timestamp.small().unwrap_or_default(),
        };
        let (hash, height) = (read.hash, read.height);
        let untrue = |reason: String| Err(WireError::Untrue(reason));
        match asked {
            RequestId::Hash(asked) if asked != hash => {
                return untrue(format!("block {hash} was given for {asked}"));
            }
            RequestId::Height(asked) if asked != height => {
                return untrue(format!("height {height} was given for {asked}"));
            }
            _ => {}
        }
        if height == Height::MAX {
            return untrue(format!("block {hash} is at height {height}, above which there is none"));
        }
        if recomputes_hashes {
            self.check_hash(&read)?;
        }
        Ok(read)
    }

    /// Whether the header says that its block has no transactions; `None` if it says nothing.
    pub(super) fn is_empty(&self) -> Option<bool> {
        Some(self.transactions_root.hash()? == ROOT_OF_NONE)
    }

    /// A missing field counts as its default: if the hash is right with it, nothing is missing.
    fn check_hash(&self, read: &Header) -> Result<(), WireError> {
        let (hash, height) = (read.hash, read.height);
        let mut missing = Vec::new();
        let computed = Hash(self.computed(read, &mut missing).0);
        if computed == hash {
            return Ok(());
        }
        let hint = if height == 0 { "block 0 of some chains is" } else { "headers of some chains are" };
        if missing.is_empty() {
            let reason = format!(
                "the header of block {hash} at height {height} has the hash {computed} ({hint} hashed otherwise: \
                 if this chain is one, use {TRUST})"
            );
            return Err(WireError::Untrue(reason));
        }
        let missing = missing.join(", ");
        Err(WireError::Unhashed(format!(
            "the header of block {hash:.8} at height {height} has no readable {missing}, so its hash cannot be checked \
             ({hint} hashed otherwise: if this chain is one, use {TRUST})"
        )))
    }

    /// The hash that Ethereum has for these fields, and the names of those that are missing or cannot be read.
    fn computed(&self, read: &Header, missing: &mut Vec<&'static str>) -> B256 {
        fn take<T>(value: Option<T>, field: &mut T, name: &'static str, missing: &mut Vec<&'static str>) {
            match value {
                Some(value) => *field = value,
                None => missing.push(name),
            }
        }
        /// A field that only newer headers have.
        fn optional<'a, T>(
            odd: &Odd<'a>,
            read: impl FnOnce(&Odd<'a>) -> Option<T>,
            name: &'static str,
            missing: &mut Vec<&'static str>,
        ) -> Option<T> {
            let value = read(odd);
            if value.is_none() && !odd.is_missing() {
                missing.push(name);
            }
            value
        }
        let mut header = <types::Header>::default().inner;
        header.parent_hash = read.parent.0.into();
        header.number = read.height;
        let miner = self.miner.address().or_else(|| self.author.address());
        let bloom = self.logs_bloom.bytes().filter(|bloom| bloom.len() == 256);
        take(self.timestamp.small(), &mut header.timestamp, "timestamp", missing);
        take(self.difficulty.number(), &mut header.difficulty, "difficulty", missing);
        take(self.transactions_root.hash(), &mut header.transactions_root, "transactionsRoot", missing);
        take(self.sha3_uncles.hash(), &mut header.ommers_hash, "sha3Uncles", missing);
        take(miner, &mut header.beneficiary, "miner", missing);
        take(self.state_root.hash(), &mut header.state_root, "stateRoot", missing);
        take(self.receipts_root.hash(), &mut header.receipts_root, "receiptsRoot", missing);
        take(bloom.map(|bloom| Bloom::from_slice(&bloom)), &mut header.logs_bloom, "logsBloom", missing);
        take(self.gas_limit.small(), &mut header.gas_limit, "gasLimit", missing);
        take(self.gas_used.small(), &mut header.gas_used, "gasUsed", missing);
        take(self.extra_data.bytes(), &mut header.extra_data, "extraData", missing);
        take(self.mix_hash.hash(), &mut header.mix_hash, "mixHash", missing);
        take(
            self.nonce.small().map(|nonce| B64::from(nonce.to_be_bytes())),
            &mut header.nonce,
            "nonce",
            missing,
        );
        header.base_fee_per_gas = optional(&self.base_fee_per_gas, Odd::small, "baseFeePerGas", missing);
        header.withdrawals_root = optional(&self.withdrawals_root, Odd::hash, "withdrawalsRoot", missing);
        header.blob_gas_used = optional(&self.blob_gas_used, Odd::small, "blobGasUsed", missing);
        header.excess_blob_gas = optional(&self.excess_blob_gas, Odd::small, "excessBlobGas", missing);
        header.parent_beacon_block_root =
            optional(&self.parent_beacon_block_root, Odd::hash, "parentBeaconBlockRoot", missing);
        header.requests_hash = optional(&self.requests_hash, Odd::hash, "requestsHash", missing);
        header.block_access_list_hash =
            optional(&self.block_access_list_hash, Odd::hash, "blockAccessListHash", missing);
        header.slot_number = optional(&self.slot_number, Odd::small, "slotNumber", missing);
        header.hash_slow()
    }
}
