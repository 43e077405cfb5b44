//! Transactions that nobody signed: deposits, system transactions and the like, which rollups and sidechains make.

use alloy::primitives::{Address, U256};

use super::odd::Odd;

/// Arbitrum: a deposit of ether from the parent chain. Its value is minted to `from` and passed on to `to`.
const ARBITRUM_DEPOSIT: u64 = 0x64;
/// Arbitrum: a retryable ticket is executed. Its value comes to `from` out of escrow, and goes back there after a
/// failure; the ticket has paid for the gas.
const ARBITRUM_RETRY: u64 = 0x68;
/// Arbitrum: a retryable ticket is made. What is deposited for it is minted to `from`, and all of it leaves again: for
/// the ticket, into escrow, and to the address for refunds.
const ARBITRUM_TICKET: u64 = 0x69;
/// Arbitrum: the chain's own work at the start of a block.
const ARBITRUM_INTERNAL: u64 = 0x6a;
/// An account that is a contract signs by its own rule, perhaps without a usual signature.
const ZKSYNC_ACCOUNT: u64 = 0x71;
/// OP stack: a deposit from the parent chain. `mint` comes to `from` before all else, whether or not it succeeds.
const OP_DEPOSIT: u64 = 0x7e;
/// Polygon: state that came from the parent chain; elsewhere a deposit.
const BOR_STATE_SYNC: u64 = 0x7f;
/// zkSync: an upgrade of the chain, and a transaction from the parent chain, whose value is minted.
const ZKSYNC_UPGRADE: u64 = 0xfe;
const ZKSYNC_PRIORITY: u64 = 0xff;

/// How a transaction came about, and so what it does to its sender's balance.
///
/// The facts are from `specs/protocol/deposits.md` of the OP stack (ethereum-optimism/specs), the transaction types and
/// the `StartTxHook` of Arbitrum Nitro (OffchainLabs/nitro, `arbos/tx_processor.go`), Polygon's PIP-74 and the state
/// sync of Bor before it (zero sender, type 0, not in the root), and the transaction types of zkSync Era.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    kind: Option<u64>,
    is_signed: bool,
    is_from_nobody: bool,
}

impl Origin {
    /// `kind` is the type of the transaction, `r` and `s` its signature, as far as the node returns them.
    pub(super) fn new(kind: Option<u64>, from: Option<Address>, r: Option<U256>, s: Option<U256>) -> Self {
        let is_from_nobody = from.is_some_and(|from| from.is_zero());
        let has_unsigned_type = matches!(
            kind,
            Some(0x64..=0x6a | OP_DEPOSIT | BOR_STATE_SYNC | ZKSYNC_UPGRADE | ZKSYNC_PRIORITY)
        );
        let is_blank = matches!((r, s), (Some(r), Some(s)) if r.is_zero() && s.is_zero());
        let is_blank = is_blank && kind != Some(ZKSYNC_ACCOUNT);
        let is_signed = from.is_some() && !(is_from_nobody || has_unsigned_type || is_blank);
        Self { kind, is_signed, is_from_nobody }
    }

    pub(super) fn is_signed(self) -> bool {
        self.is_signed
    }

    /// Whether such a transaction has a receipt on every chain. The state sync of Polygon has none on some nodes.
    pub(super) fn has_receipt(self) -> bool {
        match self.kind {
            Some(BOR_STATE_SYNC) => false,
            Some(0x64..=0x6a | OP_DEPOSIT | ZKSYNC_UPGRADE | ZKSYNC_PRIORITY) => true,
            _ => !self.is_from_nobody,
        }
    }

    /// What `from` receives before it pays; `None` if that is unknown. `mint` and `deposit` are the fields `mint` and
    /// `depositValue`, zero if they are absent.
    pub(super) fn minted(
        self,
        value: Option<U256>,
        mint: Option<U256>,
        deposit: Option<U256>,
        succeeded: Option<bool>,
    ) -> Option<U256> {
        match (self.kind, succeeded) {
            (Some(OP_DEPOSIT), _) => mint,
            (Some(ARBITRUM_TICKET), _) => deposit,
            (Some(ARBITRUM_DEPOSIT), _) | (Some(ARBITRUM_RETRY | ZKSYNC_PRIORITY), Some(true)) => value,
            (Some(ARBITRUM_RETRY | ZKSYNC_PRIORITY), None) => value.filter(U256::is_zero),
            // What failed is refunded elsewhere.
            _ => Some(U256::ZERO),
        }
    }

    /// What decides what `from` pays. Gas that was paid for on the parent chain costs nothing here, whatever price a
    /// receipt has.
    pub(super) fn fee(self, deposit: Option<U256>, refunds: Refunds, succeeded: Option<bool>) -> FeeRule {
        match self.kind {
            Some(ARBITRUM_TICKET) => {
                let leaves = refunds == Refunds::ToOthers && succeeded != Some(false);
                FeeRule::Fixed(deposit.filter(|deposit| leaves || deposit.is_zero()))
            }
            Some(
                ARBITRUM_DEPOSIT | ARBITRUM_RETRY | ARBITRUM_INTERNAL | OP_DEPOSIT | BOR_STATE_SYNC
                | ZKSYNC_UPGRADE | ZKSYNC_PRIORITY,
            ) => FeeRule::Fixed(Some(U256::ZERO)),
            _ if self.is_from_nobody => FeeRule::Fixed(Some(U256::ZERO)),
            _ => FeeRule::Gas,
        }
    }
}

/// What decides what a transaction costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FeeRule {
    /// Its type; `None` if the amount is unknown.
    Fixed(Option<U256>),
    /// Its gas, by its receipt.
    Gas,
}

/// Who receives what a ticket of Arbitrum pays too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refunds {
    ToOthers,
    /// To its sender, or perhaps to it: no field says how much.
    ToSender,
}

impl Refunds {
    /// `refund_to` is the field `refundTo`.
    pub(super) fn new(from: Option<Address>, refund_to: &Odd<'_>) -> Self {
        let is_other = refund_to.address().is_some_and(|to| Some(to) != from);
        if refund_to.is_missing() || is_other { Self::ToOthers } else { Self::ToSender }
    }
}
