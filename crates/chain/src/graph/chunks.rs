//! A long list in chunks that clones share.

use std::sync::Arc;

const BITS: u32 = 10;
const CHUNK: usize = 1 << BITS;

/// Grows and shrinks at its end, and drops whole chunks that are not needed. A clone shares all chunks that neither
/// side changes later.
#[derive(Clone, Debug)]
pub(super) struct Chunks<T> {
    /// `None` for a dropped chunk.
    chunks: Vec<Option<Arc<Vec<T>>>>,
    len: usize,
}

impl<T: Copy> Chunks<T> {
    pub(super) fn new() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }

    /// Its length, with dropped items.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// `None` beyond the end, and for a dropped item.
    pub(super) fn get(&self, place: usize) -> Option<&T> {
        self.chunks.get(place >> BITS)?.as_ref()?.get(place & (CHUNK - 1))
    }

    pub(super) fn push(&mut self, item: T) {
        if self.len.is_multiple_of(CHUNK) {
            self.chunks.push(Some(Arc::new(Vec::with_capacity(CHUNK))));
        }
        if let Some(Some(chunk)) = self.chunks.last_mut() {
            unshared(chunk).push(item);
            self.len += 1;
        }
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.chunks.truncate(self.len.div_ceil(CHUNK));
        let rest = self.len & (CHUNK - 1);
        if rest > 0
            && let Some(Some(chunk)) = self.chunks.last_mut()
        {
            unshared(chunk).truncate(rest);
        }
    }

    /// Drops chunks without a needed item, except the last one, to which items are added.
    pub(super) fn keep(&mut self, needed: impl Fn(usize) -> bool) {
        let full = self.len >> BITS;
        for (nth, chunk) in self.chunks.iter_mut().enumerate().take(full) {
            if !(nth << BITS..(nth + 1) << BITS).any(&needed) {
                *chunk = None;
            }
        }
    }

    #[cfg(test)]
    pub(super) fn shared_with(&self, other: &Self) -> usize {
        let same = |(a, b): &(&Option<Arc<_>>, &Option<Arc<_>>)| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        self.chunks.iter().zip(&other.chunks).filter(same).count()
    }

    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.chunks.iter().flatten().count()
    }
}

/// The chunk, or a copy if it is shared. A copy by `Arc::make_mut` would have no room to grow.
fn unshared<T: Copy>(chunk: &mut Arc<Vec<T>>) -> &mut Vec<T> {
    if Arc::get_mut(chunk).is_none() {
        let mut copy = Vec::with_capacity(CHUNK);
        copy.extend_from_slice(chunk);
        *chunk = Arc::new(copy);
    }
    Arc::make_mut(chunk)
}
