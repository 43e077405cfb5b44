//! Ether as value in balances.

use alloy::primitives::{Address, U256};

use super::wallet::{AccountTransaction, Amount};
use crate::adapter::ethereum::EthereumTransaction;

impl AccountTransaction for EthereumTransaction {
    type Address = Address;

    fn from(&self) -> Option<Address> {
        Some(self.from)
    }

    fn nonce(&self) -> u64 {
        self.nonce.unwrap_or_default()
    }

    fn to(&self) -> Option<Address> {
        self.to.filter(|_| self.succeeded.unwrap_or_default())
    }

    fn value(&self) -> Amount {
        if self.succeeded.unwrap_or_default() { wei(self.value.unwrap_or_default()) } else { 0 }
    }

    fn fee(&self) -> Amount {
        wei(self.fee.unwrap_or_default())
    }
}

/// The whole supply of ether fits many times.
fn wei(value: U256) -> Amount {
    value.saturating_to()
}
