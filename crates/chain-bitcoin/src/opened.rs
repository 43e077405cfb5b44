//! The data directory of a node, which its clients share.

use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use crate::kernel::Kernel;

/// A node that may be stopped.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) directory: PathBuf,
    pub(crate) kernel: RwLock<Option<Kernel>>,
}

impl Opened {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, kernel: RwLock::new(None) }
    }

    /// The name of the node in errors.
    pub(crate) fn endpoint(&self) -> String {
        self.directory.display().to_string()
    }

    /// Asks the node under a read lock; blocks.
    pub(crate) fn read<V>(&self, ask: impl FnOnce(Option<&Kernel>) -> V) -> V {
        ask(self.kernel.read().unwrap_or_else(PoisonError::into_inner).as_ref())
    }
}
