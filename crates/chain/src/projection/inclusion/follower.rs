//! Requests to follow transactions.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::{Hash, Transaction};
use watchkeeper::report::debug_as_text;

/// The transactions that are to be followed.
#[derive(Debug, Default)]
pub(super) struct FollowRequests {
    pub(super) transactions: HashMap<Hash, Conflicts>,
    /// Counts the changes.
    pub(super) version: u64,
}

/// What excludes a transaction, if that is known.
type Conflicts = Option<Arc<[Vec<u8>]>>;

/// Follows transactions with [`Inclusions`](super::Inclusions), from any task.
#[derive(Clone)]
pub struct TransactionFollower {
    requests: Weak<Mutex<FollowRequests>>,
}

/// The transaction is not followed: the projection has ended.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the projection of transactions has ended, since the runtime has stopped: start another one")]
pub struct NotFollowed;

debug_as_text!(NotFollowed);

impl TransactionFollower {
    pub(super) fn of(requests: &Arc<Mutex<FollowRequests>>) -> Self {
        Self { requests: Arc::downgrade(requests) }
    }

    /// Follows a transaction from the next cycle on; the kept blocks are searched for it.
    ///
    /// # Errors
    ///
    /// [`NotFollowed`].
    pub fn follow<T: Transaction>(&self, transaction: &T) -> Result<(), NotFollowed> {
        let conflicts: Arc<[Vec<u8>]> = transaction.conflicts().into();
        self.request(|requested| {
            let known = requested.entry(transaction.id()).or_default();
            if !conflicts.is_empty() {
                *known = Some(conflicts);
            }
        })
    }

    /// Follows a transaction of which only the hash is known. Its replacement is not recognised before a block has
    /// included the transaction itself.
    ///
    /// # Errors
    ///
    /// [`NotFollowed`].
    pub fn follow_hash(&self, transaction: Hash) -> Result<(), NotFollowed> {
        self.request(|requested| {
            requested.entry(transaction).or_default();
        })
    }

    /// Stops following a transaction from the next cycle on. Without this call it is followed for ever, also once it is
    /// final.
    ///
    /// # Errors
    ///
    /// [`NotFollowed`].
    pub fn forget(&self, transaction: Hash) -> Result<(), NotFollowed> {
        self.request(|requested| {
            requested.remove(&transaction);
        })
    }

    fn request(&self, change: impl FnOnce(&mut HashMap<Hash, Conflicts>)) -> Result<(), NotFollowed> {
        let requests = self.requests.upgrade().ok_or(NotFollowed)?;
        let mut requested = requests.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut requested.transactions);
        requested.version += 1;
        Ok(())
    }
}

impl fmt::Debug for TransactionFollower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionFollower").finish_non_exhaustive()
    }
}
