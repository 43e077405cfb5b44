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

    /// A head that could not be weighed at the last look was accepted after all.
    pub(super) fn note_late(&mut self, before: Header, head: &Header) {
        self.last[1] = self.last[1].saturating_add(head.height.saturating_sub(before.height));
    }

    /// By how many blocks it has probably risen since the last look: 0, unless it rises by several at each look.
    pub(super) fn expected(&self) -> Height {
        let [one, other] = self.last;
        if one.min(other) < 2 { 0 } else { one.max(other).saturating_add(one.min(other) / 2 + 2) }
    }

    /// Whether a node whose head rises that fast may have this one, though its parent is unknown. One whose head did
    /// not rise at the last looks, or does not rise to this one, may be on another chain.
    pub(super) fn reaches(&self, before: Option<Header>, head: &Header) -> bool {
        let rise = before.and_then(|before| head.height.checked_sub(before.height));
        let [one, other] = self.last;
        let fastest = one.max(other);
        fastest > 0
            && rise.is_some_and(|rise| rise > 0 && rise <= fastest.saturating_mul(2).saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::Rise;
    use crate::{Hash, Header, Height};

    fn at(height: Height) -> Header {
        let hash = Hash([u8::try_from(height).unwrap(); 32]);
        Header { hash, parent: Hash([0; 32]), height, work: 1, time: 0 }
    }

    fn after(heights: &[Height]) -> Rise {
        let mut rise = Rise::default();
        for pair in heights.windows(2) {
            rise.note(Some(at(pair[0])), &at(pair[1]));
        }
        rise
    }

    #[test]
    fn only_a_head_that_rises_on_a_node_that_rises_needs_no_known_parent() {
        let cases: [(&[Height], Height, bool); 8] = [
            (&[100, 100, 100], 100, false),
            (&[100, 100, 100], 101, false),
            (&[100], 101, false),
            (&[100, 101, 103], 103, false),
            (&[100, 101, 103], 102, false),
            (&[100, 101, 103], 104, true),
            (&[100, 102, 103], 108, true),
            (&[100, 102, 103], 109, false),
        ];
        for (heights, head, expected) in cases {
            let before = heights.last().copied().map(at);
            assert_eq!(after(heights).reaches(before, &at(head)), expected, "{head} after {heights:?}");
        }
    }

    #[test]
    fn a_head_that_is_accepted_late_counts_for_its_look() {
        let mut rise = after(&[100, 105, 105]);
        assert_eq!(rise.expected(), 0);
        rise.note_late(at(105), &at(110));
        assert_eq!(rise.expected(), 9);
    }
}
