//! Transactions of any type, with their receipts.

use alloy::primitives::{Address, B256, U256};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::odd::Odd;
use super::system::{FeeRule, Origin, Refunds};
use crate::EthereumTransaction;
use watchkeeper_chain::Hash;

/// The gas of a plain transfer to an account, which cannot fail. A contract that is called without data and with just
/// this gas may run out of it, which is not distinguished.
const TRANSFER_GAS: u64 = 21_000;

/// A transaction as a block lists it.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(super) hash: B256,
    /// `None` if only the hash is listed.
    fields: Option<Fields>,
}

/// A transaction without its result. What the node leaves out is `None`.
#[derive(Debug)]
struct Fields {
    from: Option<Address>,
    to: Option<Address>,
    value: Option<U256>,
    nonce: Option<u64>,
    gas: Option<u64>,
    gas_price: Option<U256>,
    has_data: bool,
    mint: Option<U256>,
    deposit: Option<U256>,
    refunds: Refunds,
    pays_in_token: bool,
    origin: Origin,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireTransaction<'a> {
    #[serde(borrow)]
    hash: Odd<'a>,
    #[serde(borrow, default)]
    from: Odd<'a>,
    #[serde(borrow, default)]
    to: Odd<'a>,
    #[serde(borrow, default)]
    value: Odd<'a>,
    #[serde(borrow, default)]
    nonce: Odd<'a>,
    #[serde(borrow, default)]
    gas: Odd<'a>,
    #[serde(borrow, default)]
    gas_price: Odd<'a>,
    #[serde(borrow, default)]
    input: Odd<'a>,
    #[serde(borrow, default, rename = "type")]
    kind: Odd<'a>,
    #[serde(borrow, default)]
    r: Odd<'a>,
    #[serde(borrow, default)]
    s: Odd<'a>,
    #[serde(borrow, default)]
    mint: Odd<'a>,
    #[serde(borrow, default)]
    deposit_value: Odd<'a>,
    #[serde(borrow, default)]
    refund_to: Odd<'a>,
    #[serde(borrow, default)]
    fee_currency: Odd<'a>,
}

/// What became of a transaction.
#[derive(Clone, Debug)]
pub(crate) struct Receipt {
    pub(super) transaction: B256,
    /// The block that it is in, if the node says so.
    pub(super) block: Option<B256>,
    /// The height of that block, the same.
    pub(super) height: Option<u64>,
    status: Option<bool>,
    /// Before the Byzantium fork it had the state here, and no status.
    has_root: bool,
    gas_used: Option<u64>,
    price: Option<U256>,
    blobs: U256,
    contract: Option<Address>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireReceipt<'a> {
    #[serde(borrow, default)]
    transaction_hash: Odd<'a>,
    #[serde(borrow, default)]
    block_hash: Odd<'a>,
    #[serde(borrow, default)]
    block_number: Odd<'a>,
    #[serde(borrow, default)]
    status: Odd<'a>,
    #[serde(borrow, default)]
    root: Odd<'a>,
    #[serde(borrow, default)]
    gas_used: Odd<'a>,
    #[serde(borrow, default)]
    effective_gas_price: Odd<'a>,
    #[serde(borrow, default)]
    blob_gas_used: Odd<'a>,
    #[serde(borrow, default)]
    blob_gas_price: Odd<'a>,
    #[serde(borrow, default)]
    contract_address: Odd<'a>,
}

impl Listed {
    pub(crate) fn hash(&self) -> B256 {
        self.hash
    }

    pub(crate) fn is_hash_alone(&self) -> bool {
        self.fields.is_none()
    }

    pub(super) fn is_signed(&self) -> bool {
        self.fields.as_ref().is_some_and(|fields| fields.origin.is_signed())
    }

    /// Whether it has a receipt on every chain.
    pub(super) fn has_receipt(&self) -> bool {
        self.fields.as_ref().is_none_or(|fields| fields.origin.has_receipt())
    }

    /// Whether it is known whose transaction it is.
    pub(super) fn has_sender(&self) -> bool {
        self.fields.as_ref().is_some_and(|fields| fields.from.is_some())
    }

    /// With its result, as far as that is known.
    pub(super) fn with(&self, receipt: Option<&Receipt>) -> EthereumTransaction {
        let hash = Hash(self.hash.0);
        let Some(fields) = &self.fields else {
            let from = Address::ZERO;
            let (to, value, nonce, fee, succeeded) = (None, None, None, None, None);
            let minted = None;
            return EthereumTransaction {
                hash,
                from,
                to,
                value,
                nonce,
                signed: false,
                minted,
                fee,
                succeeded,
            };
        };
        let succeeded = receipt.and_then(|receipt| fields.succeeded(receipt));
        let created = receipt.and_then(|receipt| receipt.contract).filter(|_| succeeded != Some(false));
        let fee = fields.origin.fee(fields.deposit, fields.refunds, succeeded);
        EthereumTransaction {
            hash,
            from: fields.from.unwrap_or_default(),
            to: fields.to.or(created),
            value: fields.value,
            nonce: fields.nonce,
            signed: fields.origin.is_signed(),
            minted: fields.origin.minted(fields.value, fields.mint, fields.deposit, succeeded),
            fee: match fee {
                FeeRule::Fixed(fee) => fee,
                FeeRule::Gas => receipt.and_then(|receipt| fields.fee(receipt)),
            },
            succeeded,
        }
    }
}

impl Fields {
    fn fee(&self, receipt: &Receipt) -> Option<U256> {
        if self.pays_in_token || self.from.is_none() {
            return None;
        }
        let price = receipt.price.or(self.gas_price)?;
        Some(U256::from(receipt.gas_used?).saturating_mul(price).saturating_add(receipt.blobs))
    }

    /// Before Byzantium a failure used up all gas, and was not shown otherwise.
    fn succeeded(&self, receipt: &Receipt) -> Option<bool> {
        if receipt.status.is_some() || !receipt.has_root {
            return receipt.status;
        }
        let used = receipt.gas_used?;
        let is_plain = used == TRANSFER_GAS && !self.has_data;
        (is_plain || self.gas.is_some_and(|gas| used < gas)).then_some(true)
    }
}

impl<'de> Deserialize<'de> for Listed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListedVisitor)
    }
}

struct ListedVisitor;

impl<'de> Visitor<'de> for ListedVisitor {
    type Value = Listed;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a transaction, or its hash")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Listed, E> {
        let hash = text.parse().map_err(|_| E::custom("the hash of a transaction is none"))?;
        Ok(Listed { hash, fields: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Listed, A::Error> {
        let wire = WireTransaction::deserialize(MapAccessDeserializer::new(fields))?;
        let none = || de::Error::custom("the hash of a transaction is none");
        let hash = wire.hash.hash().ok_or_else(none)?;
        let from = wire.from.address();
        let native = wire.fee_currency.is_missing() || wire.fee_currency.address() == Some(Address::ZERO);
        let fields = Fields {
            from,
            to: wire.to.address(),
            value: wire.value.number(),
            nonce: wire.nonce.small(),
            gas: wire.gas.small(),
            gas_price: wire.gas_price.number(),
            has_data: wire.input.bytes().is_none_or(|data| !data.is_empty()),
            mint: wire.mint.number_or_zero(),
            deposit: wire.deposit_value.number_or_zero(),
            refunds: Refunds::new(from, &wire.refund_to),
            pays_in_token: !native,
            origin: Origin::new(wire.kind.small(), from, wire.r.number(), wire.s.number()),
        };
        Ok(Listed { hash, fields: Some(fields) })
    }
}

impl Receipt {
    pub(crate) fn transaction(&self) -> B256 {
        self.transaction
    }
}

impl<'de> Deserialize<'de> for Receipt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = WireReceipt::deserialize(deserializer)?;
        let none = || de::Error::custom("a receipt has no readable transactionHash");
        let used = wire.blob_gas_used.number().unwrap_or_default();
        Ok(Self {
            transaction: wire.transaction_hash.hash().ok_or_else(none)?,
            block: wire.block_hash.hash().filter(|hash| !hash.is_zero()),
            height: wire.block_number.small(),
            status: wire.status.number().map(|status| !status.is_zero()),
            has_root: !wire.root.is_missing(),
            gas_used: wire.gas_used.small(),
            price: wire.effective_gas_price.number(),
            blobs: used.saturating_mul(wire.blob_gas_price.number().unwrap_or_default()),
            contract: wire.contract_address.address(),
        })
    }
}
