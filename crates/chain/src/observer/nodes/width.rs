//! How many requests for headers a node answers at once.

/// Half of it after each failure, and one more after each success; unlimited until the first failure.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Width {
    most: Option<usize>,
}

impl Width {
    /// How many requests are sent at once, of `wanted`; at least 1.
    pub(super) fn of(self, wanted: usize) -> usize {
        self.most.map_or(wanted, |most| most.min(wanted)).max(1)
    }

    /// So many requests at once were too many, or not; `wanted` is how many there may be.
    pub(super) fn note(&mut self, has_failed: bool, wanted: usize) {
        let now = self.of(wanted);
        self.most = if has_failed {
            Some((now / 2).max(1))
        } else {
            self.most.map(|_| now.saturating_add(1)).filter(|most| *most < wanted)
        };
    }
}
