//! A store in memory.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use watchkeeper::DynError;
use watchkeeper::report::{debug_as_text, one_line};

use super::{CommitStore, DeadLetterChange, NewOutputs, StageName, Stored};
use crate::position::StagePosition;

/// Keeps what a stage has committed in memory: it survives a failure, a restart and another pipeline in the same process,
/// if a clone of the store is kept. The clone that was loaded last is the one that commits.
pub struct MemoryStore<T, O> {
    shared: Arc<Mutex<Shared<T, O>>>,
    /// The number of the load by this clone.
    lease: u64,
}

struct Shared<T, O> {
    /// The number of the newest load: only that clone commits.
    lease: u64,
    stage: Option<StageName>,
    stored: Stored<T, O>,
}

/// The store is of another stage.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "what is stored is of stage {} of pipeline {}, not of stage {} of pipeline {}: give each stage a store of its own, \
     or the names back",
    one_line(&.found.stage, 100), one_line(&.found.pipeline, 100),
    one_line(&.expected.stage, 100), one_line(&.expected.pipeline, 100)
)]
pub struct OtherStage {
    /// Whose it is.
    pub found: StageName,
    /// Who loads it.
    pub expected: StageName,
}

debug_as_text!(OtherStage);

impl<T, O> MemoryStore<T, O> {
    /// A store without commits.
    #[must_use]
    pub fn new() -> Self {
        let shared = Shared { lease: 0, stage: None, stored: Stored::default() };
        Self { shared: Arc::new(Mutex::new(shared)), lease: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, Shared<T, O>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone, O: Clone> MemoryStore<T, O> {
    /// What was committed last.
    #[must_use]
    pub fn stored(&self) -> Stored<T, O> {
        self.lock().stored.clone()
    }
}

impl<T, O> CommitStore<T, O> for MemoryStore<T, O>
where
    T: Clone + Send + Sync + 'static,
    O: Clone + Send + Sync + 'static,
{
    async fn load(&mut self, stage: &StageName) -> Result<Stored<T, O>, DynError> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        match &shared.stage {
            Some(found) if found != stage => {
                Err(OtherStage { found: found.clone(), expected: stage.clone() }.into())
            }
            _ => {
                shared.stage = Some(stage.clone());
                shared.lease += 1;
                self.lease = shared.lease;
                Ok(shared.stored.clone())
            }
        }
    }

    async fn commit(
        &mut self,
        position: &StagePosition,
        outputs: NewOutputs<'_, O>,
        dead_letters: &[DeadLetterChange<T>],
    ) -> Result<(), DynError> {
        let mut shared = self.lock();
        if shared.lease != self.lease {
            return Err(
                "the store was loaded by another pipeline since: give each pipeline a store of its own"
                    .into(),
            );
        }
        shared.stored.apply(position, outputs, dead_letters);
        Ok(())
    }
}

impl<T, O> Clone for MemoryStore<T, O> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), lease: 0 }
    }
}

impl<T, O> Default for MemoryStore<T, O> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, O> fmt::Debug for MemoryStore<T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("position", &self.lock().stored.position).finish_non_exhaustive()
    }
}
