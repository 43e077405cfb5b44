//! Where positions, outputs and dead letters are committed.

mod file;
mod memory;

use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use watchkeeper::DynError;
use watchkeeper::subscription::Cursor;

use crate::item::Item;
use crate::position::{StagePosition, UpstreamPosition};

pub use file::{FileStore, FileStoreError};
pub use memory::{MemoryStore, OtherStage};

/// Keeps what one stage has committed. The unit is one [`commit`](Self::commit): all of it, or nothing.
///
/// [`MemoryStore`] and [`FileStore`] are here. An app whose sink writes to a database implements it there: it writes the
/// outputs and the position in one transaction, and each output is then written exactly once.
///
/// The stage calls one method at a time, and retries a commit that has failed, with the same position or a later one, and
/// with the same outputs or more. A commit of which the store does not know whether it was written must therefore be
/// repeatable: it replaces. No time-out bounds the calls: a store that may hang needs one of its own.
///
/// # In a database
///
/// In one transaction:
///
/// 1. Refuse if another [`load`](Self::load) came after the last one of this store: a transaction of an aborted stage, or
///    of an older process, may still be on its way. A number in the table that `load` increments is enough.
/// 2. Replace the position ([`StagePosition::iter`]) and [`NewOutputs::cursor`], which is there also without outputs.
/// 3. Delete the outputs from batch `cursor.seq()` on, insert the batch under that number if it is not empty, and delete the
///    batches before [`NewOutputs::consumed`]. If no stage reads them, that is all of them.
/// 4. Apply the changes of the dead letters by their numbers, and keep one more than the highest number.
///
/// [`Stored::apply`] does steps 2 to 4 in memory.
///
/// # Cancel safety
///
/// Both futures are dropped when the stage is aborted, and a commit also when a stage is restarted while it answers a call
/// about a dead letter. A dropped commit must leave all of it, or nothing, and must not replace a later one.
pub trait CommitStore<T, O>: Send + 'static {
    /// Returns what was committed last; [`Stored::default`] before the first commit.
    ///
    /// # Errors
    ///
    /// The store cannot be read, or is of another stage than `stage`: the stage does not start.
    fn load(&mut self, stage: &StageName) -> impl Future<Output = Result<Stored<T, O>, DynError>> + Send;

    /// Commits `position` together with the outputs and the changes of dead letters up to it.
    ///
    /// # Errors
    ///
    /// Nothing was committed, as far as the store knows: the stage retries.
    fn commit(
        &mut self,
        position: &StagePosition,
        outputs: NewOutputs<'_, O>,
        dead_letters: &[DeadLetterChange<T>],
    ) -> impl Future<Output = Result<(), DynError>> + Send;
}

/// The names by which a store knows its stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageName {
    /// The pipeline's name.
    pub pipeline: Arc<str>,
    /// The stage's name.
    pub stage: Arc<str>,
}

/// The outputs of one commit.
#[derive(Debug)]
pub struct NewOutputs<'a, O> {
    /// The position before these outputs in all that the stage has emitted. If there are any, they are batch
    /// `cursor.seq()`.
    pub cursor: Cursor,
    /// The outputs, in order; often none.
    pub batch: &'a [O],
    /// All batches before this number have been committed by all stages that read them: a store drops them. A batch
    /// from this number on must be kept, for [`Stored::outputs`].
    pub consumed: u64,
}

impl<O> Clone for NewOutputs<'_, O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<O> Copy for NewOutputs<'_, O> {}

/// What a stage has committed.
#[derive(Clone, Debug)]
pub struct Stored<T, O> {
    /// The last position.
    pub position: StagePosition,
    /// The position before the first of `outputs`; `None` before the first commit.
    pub cursor: Option<Cursor>,
    /// The batches that were not consumed yet, in their order and without gaps. None is empty.
    pub outputs: Vec<Vec<O>>,
    /// The dead letters.
    pub dead_letters: Vec<DeadLetter<T>>,
    /// The number of the next dead letter: higher than each number that was used.
    pub next_dead_letter: u64,
}

// A derived one would require defaults of `T` and `O`.
impl<T, O> Default for Stored<T, O> {
    fn default() -> Self {
        Self {
            position: StagePosition::default(),
            cursor: None,
            outputs: Vec::new(),
            dead_letters: Vec::new(),
            next_dead_letter: 0,
        }
    }
}

impl<T: Clone, O: Clone> Stored<T, O> {
    /// Applies a commit, as a store that keeps all of this in memory does.
    pub fn apply(
        &mut self,
        position: &StagePosition,
        outputs: NewOutputs<'_, O>,
        dead_letters: &[DeadLetterChange<T>],
    ) {
        // App code may panic: clones come first.
        let (position, batch, changes) = (position.clone(), outputs.batch.to_vec(), dead_letters.to_vec());
        self.position = position;
        let seq = outputs.cursor.seq();
        // A commit that is repeated replaces, also a batch that was consumed at once.
        let first = self.cursor.map_or(seq, |cursor| cursor.seq().min(seq));
        let kept = usize::try_from(seq - first).unwrap_or(usize::MAX);
        self.outputs.truncate(kept);
        if !batch.is_empty() {
            self.outputs.push(batch);
        }
        let consumed = usize::try_from(outputs.consumed.saturating_sub(first)).unwrap_or(usize::MAX);
        let consumed = consumed.min(self.outputs.len());
        self.outputs.drain(..consumed);
        self.cursor = Some(outputs.cursor.at(first + consumed as u64));
        for change in changes {
            match change {
                DeadLetterChange::Put(letter) => {
                    self.next_dead_letter = self.next_dead_letter.max(letter.id + 1);
                    match self.dead_letters.binary_search_by_key(&letter.id, |known| known.id) {
                        Ok(place) => self.dead_letters[place] = letter,
                        Err(place) => self.dead_letters.insert(place, letter),
                    }
                }
                DeadLetterChange::Removed(id) => self.dead_letters.retain(|known| known.id != id),
            }
        }
    }
}

/// An item that has failed for good, until it is replayed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter<T> {
    /// Its number in its stage, from 0.
    pub id: u64,
    /// The name of its upstream.
    pub upstream: Arc<str>,
    /// Its position there.
    pub position: UpstreamPosition,
    /// The item.
    pub item: Item<T>,
    /// The last error with its causes: one line, escaped, at most 1 KiB.
    pub error: String,
    /// How many attempts have failed.
    pub attempts: u64,
    /// When the last one failed, for display.
    pub at: SystemTime,
}

/// A change of a stage's dead letters.
#[derive(Clone, Debug, PartialEq)]
pub enum DeadLetterChange<T> {
    /// A new one, or one that has failed again: it replaces that of the same number.
    Put(DeadLetter<T>),
    /// The one of this number was replayed or discarded.
    Removed(u64),
}
