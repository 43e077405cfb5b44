//! What wallets have, at every kept block of every branch.
//!
//! [`Wallets`] keeps the state of all wallets after each block, by the block's hash. It is the state at the parent with
//! the changes of the block's transactions, and shares everything else with it: a new block costs its own transactions,
//! a reorg costs its new blocks, and a question about a kept block reads none.
//!
//! A wallet of which a block may have changed an unknown part has a [`Fault`] from that block on: those of a transaction
//! with an unknown part, and all wallets at a block whose transactions were not read
//! ([`Detail::Header`](crate::Detail::Header)). A wallet that is added later needs such blocks to be read again, and all
//! that were not read in full. So does a wallet with such a fault once it is [restored](Wallets::restore) after a
//! restart.
//!
//! Blocks more than `keep` below the tip, or below the final one, are folded into the root and dropped. A reorg from
//! below the root cannot be followed: every wallet then waits until its blocks are read again.

mod account;
mod backfill;
mod in_flight;
mod joining;
mod ledger;
mod ownership;
mod reading;
mod record;
mod requests;
mod utxo;
mod view;
mod wallets;

pub use account::{Account, AccountChange, AccountTransaction, AccountWallet};
pub use backfill::{Backfill, BackfillError};
pub use ledger::{Address, Amount, Balance, Fault, Ledger, Moved, OutPoint, Target, UnknownPart};
pub use ownership::{Flow, NewWallet, WalletOf};
pub use record::{WalletsRecord, WrongRecord};
pub use requests::{AddWalletError, WalletRequests};
pub use utxo::{Coin, Utxo, UtxoChange, UtxoTransaction, UtxoWallet};
pub use view::{BalanceError, Unconserved, WalletsView};
pub use wallets::Wallets;
