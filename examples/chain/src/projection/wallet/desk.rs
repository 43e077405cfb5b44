//! Where wallets are added while the chain is observed.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{oneshot, watch};

use super::backfill::{Backfill, BackfillError, Goal};
use super::book::WalletOf;
use super::ledger::Ledger;
use crate::adapter::ChainClient;

/// The answer to a backfill: taken in; or back, because the kept blocks begin elsewhere now.
pub(super) type Answer<L> = Result<(), Box<Backfill<L>>>;

/// What passes between [`Wallets`](super::Wallets) and those who add to them.
pub(super) struct Desk<L: Ledger> {
    ledger: L,
    inside: Mutex<Inside<L>>,
    told: watch::Sender<Told<L>>,
}

struct Inside<L: Ledger> {
    asked: Vec<Arc<WalletOf<L>>>,
    names: HashSet<Arc<str>>,
    addresses: HashSet<L::Address>,
    handed: Vec<(Backfill<L>, oneshot::Sender<Answer<L>>)>,
}

/// What wallets wait for, as of the last cycle.
struct Told<L: Ledger> {
    goal: Option<Goal>,
    waiting: Vec<Arc<WalletOf<L>>>,
}

impl<L: Ledger> Desk<L> {
    pub(super) fn new(ledger: L) -> Self {
        let (names, addresses) = (HashSet::new(), HashSet::new());
        let inside = Mutex::new(Inside { asked: Vec::new(), names, addresses, handed: Vec::new() });
        Self { ledger, inside, told: watch::Sender::new(Told { goal: None, waiting: Vec::new() }) }
    }

    fn inside(&self) -> MutexGuard<'_, Inside<L>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn handed(&self) -> Vec<(Backfill<L>, oneshot::Sender<Answer<L>>)> {
        std::mem::take(&mut self.inside().handed)
    }

    pub(super) fn asked(&self) -> usize {
        self.inside().asked.len()
    }

    pub(super) fn wallets(&self) -> Vec<Arc<WalletOf<L>>> {
        self.inside().asked.clone()
    }

    pub(super) fn tell(&self, goal: Goal, waiting: Vec<Arc<WalletOf<L>>>) {
        self.told.send_if_modified(|told| {
            let news = told.waiting.len() != waiting.len();
            *told = Told { goal: Some(goal), waiting };
            news
        });
    }

    /// Takes in wallets that were checked before.
    pub(super) fn know(&self, wallets: &[Arc<WalletOf<L>>]) {
        for wallet in wallets {
            // One that was added since is followed as it was added.
            let _ = self.add(Arc::clone(wallet));
        }
    }

    fn add(&self, wallet: Arc<WalletOf<L>>) -> Result<(), AddWalletError> {
        let name = || wallet.name.to_string();
        if wallet.addresses.is_empty() {
            return Err(AddWalletError::NoAddress { name: name() });
        }
        let mut inside = self.inside();
        if inside.names.contains(&wallet.name) {
            return Err(AddWalletError::NameTaken { name: name() });
        }
        if let Some(taken) = wallet.addresses.iter().find(|address| inside.addresses.contains(*address)) {
            return Err(AddWalletError::AddressTaken { name: name(), address: format!("{taken:?}") });
        }
        inside.names.insert(Arc::clone(&wallet.name));
        inside.addresses.extend(wallet.addresses.iter().cloned());
        inside.asked.push(wallet);
        Ok(())
    }
}

/// Adds wallets to [`Wallets`](super::Wallets), from any task.
///
/// A wallet that begins above the kept blocks is followed from the next cycle on. One that begins below waits
/// until its older blocks were read, by [`backfill`](Self::backfill) in a task of the app's own: the chain and
/// the other wallets are not held up.
pub struct WalletDesk<L: Ledger> {
    desk: Weak<Desk<L>>,
}

impl<L: Ledger> Clone for WalletDesk<L> {
    fn clone(&self) -> Self {
        Self { desk: Weak::clone(&self.desk) }
    }
}

/// Why a wallet was not added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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
    #[error("address {address} of wallet {name:?} belongs to a wallet already: an address is in one wallet")]
    AddressTaken {
        /// The wallet.
        name: String,
        /// The address.
        address: String,
    },
    /// Nobody follows wallets here any more.
    #[error("the wallets' projection is gone: the runtime has stopped")]
    Closed,
}

impl<L: Ledger> WalletDesk<L> {
    pub(super) fn of(desk: &Arc<Desk<L>>) -> Self {
        Self { desk: Arc::downgrade(desk) }
    }

    /// Follows a wallet from the next cycle on.
    ///
    /// # Errors
    ///
    /// [`AddWalletError`]: nothing has changed then.
    pub fn add(&self, wallet: WalletOf<L>) -> Result<(), AddWalletError> {
        self.desk.upgrade().ok_or(AddWalletError::Closed)?.add(Arc::new(wallet))
    }

    /// Waits until wallets wait for older blocks, and returns an empty backfill for all of them.
    ///
    /// # Errors
    ///
    /// [`BackfillError::Closed`]: nobody follows wallets any more.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn wanted(&self) -> Result<Backfill<L>, BackfillError> {
        let desk = self.desk.upgrade().ok_or(BackfillError::Closed)?;
        let (ledger, mut told) = (desk.ledger.clone(), desk.told.subscribe());
        // Not held while waiting, or nobody would notice its end.
        drop(desk);
        let told = told.wait_for(|told| !told.waiting.is_empty() && told.goal.is_some()).await;
        let told = told.map_err(|_| BackfillError::Closed)?;
        let goal = told.goal.ok_or(BackfillError::Closed)?;
        Ok(Backfill::new(ledger, told.waiting.clone(), goal))
    }

    /// Hands over what was read; answered in the next cycle. `Some` comes back when the root has moved on
    /// meanwhile: read on.
    ///
    /// # Errors
    ///
    /// [`BackfillError::Closed`]: nobody follows wallets any more.
    pub async fn hand_over(&self, backfill: Backfill<L>) -> Result<Option<Backfill<L>>, BackfillError> {
        let (reply, answer) = oneshot::channel();
        self.desk.upgrade().ok_or(BackfillError::Closed)?.inside().handed.push((backfill, reply));
        match answer.await {
            Ok(Ok(())) => Ok(None),
            Ok(Err(backfill)) => Ok(Some(*backfill)),
            Err(_) => Err(BackfillError::Closed),
        }
    }

    /// Waits until wallets wait for older blocks, reads those through `client`, one after the other, and hands
    /// them over. Call it in a loop to serve wallets as they are added.
    ///
    /// # Errors
    ///
    /// [`BackfillError`]: a block could not be read, or does not belong to the branch. What was read is lost.
    ///
    /// # Cancel safety
    ///
    /// A dropped call has lost what it read, nothing else.
    pub async fn backfill<C>(&self, client: &C) -> Result<(), BackfillError>
    where
        C: ChainClient<Transaction = L::Transaction>,
    {
        let mut backfill = self.wanted().await?;
        loop {
            while let Some(height) = backfill.wants() {
                let missing = BackfillError::Missing { height };
                let header = client.header_at(height).await?.ok_or_else(|| missing.clone())?;
                let block = client.block(header.hash).await?.ok_or(missing)?;
                backfill.push(block)?;
            }
            match self.hand_over(backfill).await? {
                Some(behind) => backfill = behind,
                None => return Ok(()),
            }
        }
    }
}

impl<L: Ledger> fmt::Debug for WalletDesk<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WalletDesk").finish_non_exhaustive()
    }
}
