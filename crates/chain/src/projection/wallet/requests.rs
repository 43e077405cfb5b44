//! Adding wallets while the chain is observed.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{oneshot, watch};

use super::backfill::{Backfill, BackfillError, Goal};
use super::ledger::{Ledger, OutPoint};
use super::ownership::WalletOf;

use watchkeeper::report::debug_as_text;

/// The answer to a backfill: `None` if it was used; the backfill if it has to read more, up to where the kept blocks
/// begin now.
pub(super) type BackfillAnswer<L> = Result<Option<Box<Backfill<L>>>, BackfillError>;

/// Sends the answer to the reader.
pub(super) type Reply<L> = oneshot::Sender<BackfillAnswer<L>>;

/// A backfill that was submitted.
pub(super) type Handed<L> = (Backfill<L>, Reply<L>);

/// What [`Wallets`](super::Wallets) shares with its [`WalletRequests`].
pub(super) struct RequestQueue<L: Ledger> {
    pub(super) ledger: L,
    inside: Mutex<Inside<L>>,
    pub(super) demand: watch::Sender<BackfillDemand<L>>,
}

struct Inside<L: Ledger> {
    asked: Vec<Arc<WalletOf<L>>>,
    names: HashSet<Arc<str>>,
    addresses: HashSet<L::Address>,
    /// The coins of all openings.
    coins: HashSet<OutPoint>,
    handed: Vec<Handed<L>>,
    /// Backfills of calls that failed or were dropped.
    unfinished: Vec<Backfill<L>>,
}

/// The wallets that need older blocks, and which blocks, as of the last cycle.
pub(super) struct BackfillDemand<L: Ledger> {
    pub(super) goal: Option<Goal>,
    pub(super) waiting: Vec<Arc<WalletOf<L>>>,
}

impl<L: Ledger> Clone for BackfillDemand<L> {
    fn clone(&self) -> Self {
        Self { goal: self.goal, waiting: self.waiting.clone() }
    }
}

impl<L: Ledger> RequestQueue<L> {
    pub(super) fn new(ledger: L) -> Self {
        let (asked, handed, unfinished) = (Vec::new(), Vec::new(), Vec::new());
        let (names, addresses, coins) = (HashSet::new(), HashSet::new(), HashSet::new());
        let inside = Mutex::new(Inside { asked, names, addresses, coins, handed, unfinished });
        Self {
            ledger,
            inside,
            demand: watch::Sender::new(BackfillDemand { goal: None, waiting: Vec::new() }),
        }
    }

    fn inside(&self) -> MutexGuard<'_, Inside<L>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there are wallets after the first `asked` ones, or submitted backfills.
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

    /// Keeps an unfinished backfill for the next reader.
    pub(super) fn stash(&self, backfill: Backfill<L>) {
        self.inside().unfinished.push(backfill);
    }

    pub(super) fn take_back(&self) -> Option<Backfill<L>> {
        self.inside().unfinished.pop()
    }

    pub(super) fn publish(&self, goal: Goal, waiting: Vec<Arc<WalletOf<L>>>) {
        if waiting.is_empty() {
            let unwanted = std::mem::take(&mut self.inside().unfinished);
            drop(unwanted);
        }
        self.demand.send_if_modified(|demand| {
            let is_same = demand.waiting.len() == waiting.len()
                && demand.waiting.iter().zip(&waiting).all(|(before, now)| Arc::ptr_eq(before, now));
            let news = !is_same || demand.goal.is_none();
            *demand = BackfillDemand { goal: Some(goal), waiting };
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
/// A wallet that begins above the kept blocks is followed from the next cycle on. One that begins below waits until its
/// older blocks were read, by [`backfill`](Self::backfill) in one of the app's tasks: the chain and the other wallets
/// are not held up.
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
    /// Another wallet has this name.
    #[error("there is already a wallet named {name:?}: give this one another name")]
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
    #[error(
        "output {} of {:.8}, which wallet {name:?} begins with, belongs to a wallet already: a coin is in one wallet",
        coin.output, coin.transaction
    )]
    CoinTaken {
        /// The wallet.
        name: String,
        /// The coin.
        coin: OutPoint,
    },
    /// The projection of wallets has ended.
    #[error("the projection of wallets has ended, since the runtime has stopped: start another one")]
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
