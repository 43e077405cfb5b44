//! Ether as value in balances.

use alloy::primitives::{Address, U256};

use crate::EthereumTransaction;
use watchkeeper_chain::projection::wallet::{AccountTransaction, Amount, UnknownPart};

impl AccountTransaction for EthereumTransaction {
    type Address = Address;

    fn from(&self) -> Option<Address> {
        Some(self.from)
    }

    fn nonce(&self) -> u64 {
        self.nonce.unwrap_or_default()
    }

    /// Also while it is unknown whether the transaction failed.
    fn to(&self) -> Option<Address> {
        self.to.filter(|_| self.succeeded != Some(false))
    }

    fn value(&self) -> Amount {
        if self.succeeded == Some(true) { wei(self.value.unwrap_or_default()) } else { 0 }
    }

    fn fee(&self) -> Amount {
        wei(self.fee.unwrap_or_default())
    }

    fn minted(&self) -> Amount {
        wei(self.minted.unwrap_or_default())
    }

    fn unknown_to_payer(&self) -> Option<UnknownPart> {
        let fee = || self.fee.is_none().then_some(UnknownPart::Fee);
        let minted = || self.minted.is_none().then_some(UnknownPart::Minted);
        self.unknown_to_payee().or_else(fee).or_else(minted)
    }

    fn unknown_to_payee(&self) -> Option<UnknownPart> {
        match (self.succeeded, self.value) {
            (Some(false), _) => None,
            // Nothing moves either way.
            (_, Some(value)) if value.is_zero() => None,
            (None, _) => Some(UnknownPart::Success),
            (Some(true), None) => Some(UnknownPart::Value),
            (Some(true), Some(_)) => None,
        }
    }
}

/// The whole supply of ether fits many times.
fn wei(value: U256) -> Amount {
    value.saturating_to()
}
