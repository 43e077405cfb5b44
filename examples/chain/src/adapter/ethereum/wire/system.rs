//! Transactions that nobody signed: deposits, system transactions and the like, which rollups and sidechains make.

use alloy::primitives::{Address, U256};

/// Arbitrum: a deposit of ether from the parent chain. Its value is minted to `from` and passed on to `to`.
const ARBITRUM_DEPOSIT: u64 = 0x64;
/// Arbitrum: a retryable ticket is executed. Its value comes to `from` out of escrow, with the gas that the ticket paid.
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
/// sync of Bor before it (zero sender, type 0, not in the root), and the transaction types of ZKsync Era.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    kind: Option<u64>,
    is_signed: bool,
    is_from_nobody: bool,
}

impl Origin {
    /// `kind` is the type of the transaction, `r` and `s` its signature, as far as the node gives them.
    pub(super) fn new(kind: Option<u64>, from: Address, r: Option<U256>, s: Option<U256>) -> Self {
        let is_from_nobody = from.is_zero();
        let has_unsigned_type = matches!(
            kind,
            Some(0x64..=0x6a | OP_DEPOSIT | BOR_STATE_SYNC | ZKSYNC_UPGRADE | ZKSYNC_PRIORITY)
        );
        let is_blank = matches!((r, s), (Some(r), Some(s)) if r.is_zero() && s.is_zero());
        let is_blank = is_blank && kind != Some(ZKSYNC_ACCOUNT);
        Self { kind, is_signed: !(is_from_nobody || has_unsigned_type || is_blank), is_from_nobody }
    }

    pub(super) fn is_signed(self) -> bool {
        self.is_signed
    }

    /// What `from` receives before it pays. `mint` and `deposit` are the fields `mint` and `depositValue`.
    pub(super) fn minted(
        self,
        value: Option<U256>,
        mint: Option<U256>,
        deposit: Option<U256>,
        succeeded: Option<bool>,
    ) -> U256 {
        let minted = match self.kind {
            Some(OP_DEPOSIT) => mint,
            Some(ARBITRUM_DEPOSIT | ARBITRUM_RETRY) => value,
            Some(ARBITRUM_TICKET) => deposit,
            // What failed is refunded elsewhere.
            Some(ZKSYNC_PRIORITY) if succeeded != Some(false) => value,
            _ => None,
        };
        minted.unwrap_or_default()
    }

    /// What `from` pays, if its receipt does not decide that: gas that was paid for on the parent chain costs nothing
    /// here, whatever price a receipt has.
    pub(super) fn fixed_fee(self, deposit: Option<U256>) -> Option<U256> {
        match self.kind {
            Some(ARBITRUM_TICKET) => Some(deposit.unwrap_or_default()),
            Some(
                ARBITRUM_DEPOSIT | ARBITRUM_RETRY | ARBITRUM_INTERNAL | OP_DEPOSIT | BOR_STATE_SYNC
                | ZKSYNC_UPGRADE | ZKSYNC_PRIORITY,
            ) => Some(U256::ZERO),
            _ => self.is_from_nobody.then_some(U256::ZERO),
        }
    }
}
