//! Where wallets are added while the chain is observed.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{oneshot, watch};

use super::backfill::{Backfill, BackfillError, Goal};
use super::ledger::{Ledger, OutPoint};
use super::ownership::WalletOf;

use crate::error_text::debug_as_text;

/// The answer to a backfill: taken in; or back, to read on to where the kept blocks begin now.
pub(super) type Answer<L> = Result<Option<Box<Backfill<L>>>, BackfillError>;

/// Where the answer is waited for.
pub(super) type Reply<L> = oneshot::Sender<Answer<L>>;

/// A backfill that was handed over.
pub(super) type Handed<L> = (Backfill<L>, Reply<L>);

/// What passes between [`Wallets`](super::Wallets) and those who add to them.
pub(super) struct RequestQueue<L: Ledger> {
    pub(super) ledger: L,
    inside: Mutex<Inside<L>>,
    pub(super) told: watch::Sender<Told<L>>,
}

struct Inside<L: Ledger> {
    asked: Vec<Arc<WalletOf<L>>>,
    names: HashSet<Arc<str>>,
    addresses: HashSet<L::Address>,
    /// Of openings.
    coins: HashSet<OutPoint>,
    handed: Vec<Handed<L>>,
    /// What was read by calls that have failed or were dropped.
    unfinished: Vec<Backfill<L>>,
}

/// What wallets wait for, as of the last cycle.
pub(super) struct Told<L: Ledger> {
    pub(super) goal: Option<Goal>,
    pub(super) waiting: Vec<Arc<WalletOf<L>>>,
}

impl<L: Ledger> Clone for Told<L> {
    fn clone(&self) -> Self {
        Self { goal: self.goal, waiting: self.waiting.clone() }
    }
}

impl<L: Ledger> RequestQueue<L> {
    pub(super) fn new(ledger: L) -> Self {
        let (asked, handed, unfinished) = (Vec::new(), Vec::new(), Vec::new());
        let (names, addresses, coins) = (HashSet::new(), HashSet::new(), HashSet::new());
        let inside = Mutex::new(Inside { asked, names, addresses, coins, handed, unfinished });
        Self { ledger, inside, told: watch::Sender::new(Told { goal: None, waiting: Vec::new() }) }
    }

    fn inside(&self) -> MutexGuard<'_, Inside<L>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anything has come since the first `asked` wallets.
    pub(super) fn has_news(&self, asked: usize) -> bool {
        let inside = self.inside();
        inside.asked.len() > asked || !inside.handed.is_empty()
    }

    pub(super) fn submit(&self, handed: Handed<L>) {
        self.inside().handed.push(handed);
    }

    pub(super) fn drain(&self) -> Vec<Handed<L>> {
        std::mem::take(&mut self.inside().handed)
    }

    pub(super) fn wallets(&self) -> Vec<Arc<WalletOf<L>>> {
        self.inside().asked.clone()
    }

    /// Keeps what was read for whoever reads next.
    pub(super) fn stash(&self, backfill: Backfill<L>) {
        self.inside().unfinished.push(backfill);
    }

    pub(super) fn take_back(&self) -> Option<Backfill<L>> {
        self.inside().unfinished.pop()
    }

    pub(super) fn tell(&self, goal: Goal, waiting: Vec<Arc<WalletOf<L>>>) {
        if waiting.is_empty() {
            let unwanted = std::mem::take(&mut self.inside().unfinished);
            drop(unwanted);
        }
        self.told.send_if_modified(|told| {
            let is_same = told.waiting.len() == waiting.len()
                && told.waiting.iter().zip(&waiting).all(|(before, now)| Arc::ptr_eq(before, now));
            let news = !is_same || told.goal.is_none();
            *told = Told { goal: Some(goal), waiting };
            news
        });
    }

    pub(super) fn add(&self, wallet: Arc<WalletOf<L>>) -> Result<(), AddWalletError> {
        let name = || wallet.name.to_string();
        if wallet.addresses.is_empty() {
            return Err(AddWalletError::NoAddress { name: name() });
        }
        let mut inside = self.inside();
        if inside.names.contains(&wallet.name) {
            return Err(AddWalletError::NameTaken { name: name() });
        }
        let mut own = HashSet::new();
        let mut addresses = wallet.addresses.iter();
        if let Some(taken) =
            addresses.find(|address| inside.addresses.contains(*address) || !own.insert(*address))
        {
            return Err(AddWalletError::AddressTaken { name: name(), address: format!("{taken:?}") });
        }
        let coins = self.ledger.coins(&wallet.opening);
        if let Some(taken) = coins.iter().find(|coin| inside.coins.contains(*coin)) {
            return Err(AddWalletError::CoinTaken { name: name(), coin: *taken });
        }
        inside.names.insert(Arc::clone(&wallet.name));
        inside.addresses.extend(wallet.addresses.iter().cloned());
        inside.coins.extend(coins);
        inside.asked.push(wallet);
        Ok(())
    }
}

/// Adds wallets to [`Wallets`](super::Wallets), from any task.
///
/// A wallet that begins above the kept blocks is followed from the next cycle on. One that begins below waits
/// until its older blocks were read, by [`backfill`](Self::backfill) in a task of the app's own: the chain and
/// the other wallets are not held up.
pub struct WalletRequests<L: Ledger> {
    pub(super) requests: Weak<RequestQueue<L>>,
}

impl<L: Ledger> Clone for WalletRequests<L> {
    fn clone(&self) -> Self {
        Self { requests: Weak::clone(&self.requests) }
    }
}

/// Why a wallet was not added.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddWalletError {
    /// It has no address.
    #[error("wallet {name:?} has no address: give it at least one")]
    NoAddress {
        /// The wallet.
        name: String,
    },
    /// There is one of this name.
    #[error("there is a wallet named {name:?}: give this one a name of its own")]
    NameTaken {
        /// The wallet.
        name: String,
    },
    /// Another wallet has one of its addresses, or it has one twice.
    #[error(
        "address {address} of wallet {name:?} belongs to a wallet already: an address is in one wallet, once"
    )]
    AddressTaken {
        /// The wallet.
        name: String,
        /// The address.
        address: String,
    },
    /// Another wallet's opening has one of its coins.
    #[error("output {} of {:.8}, which wallet {name:?} begins with, belongs to a wallet already: a coin is in one wallet", coin.output, coin.transaction)]
    CoinTaken {
        /// The wallet.
        name: String,
        /// The coin.
        coin: OutPoint,
    },
    /// Nobody follows wallets here any more.
    #[error("the wallets' projection is gone, since the runtime has stopped: start another one")]
    Closed,
}

debug_as_text!(AddWalletError);

impl<L: Ledger> WalletRequests<L> {
    pub(super) fn of(requests: &Arc<RequestQueue<L>>) -> Self {
        Self { requests: Arc::downgrade(requests) }
    }

    /// Follows a wallet from the next cycle on.
    ///
    /// # Errors
    ///
    /// [`AddWalletError`]: nothing has changed then.
    pub fn add(&self, wallet: WalletOf<L>) -> Result<(), AddWalletError> {
        self.requests.upgrade().ok_or(AddWalletError::Closed)?.add(Arc::new(wallet))
    }
}

impl<L: Ledger> fmt::Debug for WalletRequests<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WalletRequests").finish_non_exhaustive()
    }
}
