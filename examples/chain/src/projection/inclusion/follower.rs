//! Saying which transactions are to be followed.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::error_text::debug_as_text;
use crate::{Hash, Transaction};

/// What is to be followed.
#[derive(Debug, Default)]
pub(super) struct FollowRequests {
    pub(super) transactions: HashMap<Hash, Conflicts>,
    /// Counts the changes.
    pub(super) version: u64,
}

/// What rules a transaction out, if that is known.
type Conflicts = Option<Arc<[Vec<u8>]>>;

/// Follows transactions with [`Inclusions`](super::Inclusions), from any task.
#[derive(Clone)]
pub struct TransactionFollower {
    requests: Weak<Mutex<FollowRequests>>,
}

/// The transaction is not followed: nobody looks any more.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the projection of transactions is gone, since the runtime has stopped: start another one")]
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
        let conflicts = Some(transaction.conflicts().into());
        self.wish(|wishes| {
            wishes.insert(transaction.id(), conflicts);
        })
    }

    /// Follows a transaction of which only the hash is known. What replaces it is not recognised before a block
    /// has included it.
    ///
    /// # Errors
    ///
    /// [`NotFollowed`].
    pub fn follow_hash(&self, transaction: Hash) -> Result<(), NotFollowed> {
        self.wish(|wishes| {
            wishes.entry(transaction).or_default();
        })
    }

    /// Follows a transaction no longer, from the next cycle on. Whatever became of it, it is followed until
    /// then.
    ///
    /// # Errors
    ///
    /// [`NotFollowed`].
    pub fn forget(&self, transaction: Hash) -> Result<(), NotFollowed> {
        self.wish(|wishes| {
            wishes.remove(&transaction);
        })
    }

    fn wish(&self, change: impl FnOnce(&mut HashMap<Hash, Conflicts>)) -> Result<(), NotFollowed> {
        let requests = self.requests.upgrade().ok_or(NotFollowed)?;
        let mut wishes = requests.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut wishes.transactions);
        wishes.version += 1;
        Ok(())
    }
}

impl fmt::Debug for TransactionFollower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").finish_non_exhaustive()
    }
}
