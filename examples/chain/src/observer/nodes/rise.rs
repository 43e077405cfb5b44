//! How fast a node's head rises.

use crate::{Header, Height};

/// How far a node's head rose at the last two looks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rise {
    last: [Height; 2],
}

impl Rise {
    /// The node has a new head, or still the same one.
    pub(super) fn note(&mut self, before: Option<Header>, head: &Header) {
        let rise = before.map_or(0, |before| head.height.saturating_sub(before.height));
        self.last = [self.last[1], rise];
    }

    /// By how many blocks it has probably risen since the last look: 0, unless it rises by several at each look.
    pub(super) fn expected(&self) -> Height {
        let [one, other] = self.last;
        if one.min(other) < 2 { 0 } else { one.max(other).saturating_add(one.min(other) / 2 + 2) }
    }

    /// Whether a node whose head rises that fast may have this one, though its parent is unknown.
    pub(super) fn reaches(&self, before: Option<Header>, head: &Header) -> bool {
        let rise = before.and_then(|before| head.height.checked_sub(before.height));
        let [one, other] = self.last;
        rise.is_some_and(|rise| rise <= one.max(other).saturating_mul(2).saturating_add(1))
    }
}
