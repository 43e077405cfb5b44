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
        self.nonce
    }

    fn to(&self) -> Option<Address> {
        self.to.filter(|_| self.succeeded)
    }

    fn value(&self) -> Amount {
        if self.succeeded { wei(self.value) } else { 0 }
    }

    fn fee(&self) -> Amount {
        wei(self.fee)
    }
}

/// The whole supply of ether fits many times.
fn wei(value: U256) -> Amount {
    value.saturating_to()
}
