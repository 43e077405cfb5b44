//! Saying which transactions are to be followed.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::error_text::debug_as_text;
use crate::{Hash, Transaction};

/// What is to be followed.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    pub(super) transactions: HashMap<Hash, Conflicts>,
    /// Counts the changes.
    pub(super) version: u64,
}

/// What rules a transaction out, if that is known.
type Conflicts = Option<Arc<[Vec<u8>]>>;

/// Follows transactions with [`Inclusions`](super::Inclusions), from any task.
#[derive(Clone)]
pub struct Follower {
    desk: Weak<Mutex<Wishes>>,
}

/// The transaction is not followed: nobody looks any more.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the projection of transactions is gone, since the runtime has stopped: start another one")]
pub struct FollowError;

debug_as_text!(FollowError);

impl Follower {
    pub(super) fn of(desk: &Arc<Mutex<Wishes>>) -> Self {
        Self { desk: Arc::downgrade(desk) }
    }

    /// Follows a transaction from the next cycle on; the kept blocks are searched for it.
    ///
    /// # Errors
    ///
    /// [`FollowError`].
    pub fn follow<T: Transaction>(&self, transaction: &T) -> Result<(), FollowError> {
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
    /// [`FollowError`].
    pub fn follow_hash(&self, transaction: Hash) -> Result<(), FollowError> {
        self.wish(|wishes| {
            wishes.entry(transaction).or_default();
        })
    }

    /// Follows a transaction no longer, from the next cycle on. Whatever became of it, it is followed until
    /// then.
    ///
    /// # Errors
    ///
    /// [`FollowError`].
    pub fn forget(&self, transaction: Hash) -> Result<(), FollowError> {
        self.wish(|wishes| {
            wishes.remove(&transaction);
        })
    }

    fn wish(&self, change: impl FnOnce(&mut HashMap<Hash, Conflicts>)) -> Result<(), FollowError> {
        let desk = self.desk.upgrade().ok_or(FollowError)?;
        let mut wishes = desk.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut wishes.transactions);
        wishes.version += 1;
        Ok(())
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").finish_non_exhaustive()
    }
}
