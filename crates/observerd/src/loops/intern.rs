//! Equal texts once in memory.

use std::collections::HashSet;
use std::sync::Arc;

/// Texts that many entries of a window have.
#[derive(Debug, Default)]
pub(super) struct Interner {
    texts: HashSet<Arc<str>>,
}

impl Interner {
    /// The text, shared with those that have it already.
    pub(super) fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let shared = Arc::<str>::from(text);
        self.texts.insert(Arc::clone(&shared));
        shared
    }

    /// Gives a text back. It is forgotten with its last user.
    #[expect(clippy::needless_pass_by_value, reason = "the user has it no more")]
    pub(super) fn release(&mut self, text: Arc<str>) {
        // This one, and that of the set.
        if Arc::strong_count(&text) == 2 {
            self.texts.remove(&text);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }
}
