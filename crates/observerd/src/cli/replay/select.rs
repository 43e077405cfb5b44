//! Which lines are shown.

use jiff::Timestamp;

use super::item::{Item, ItemKind};
use super::publication::Publication;
use crate::operation::rfc3339;

/// A moment of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// A cycle, by its number.
    Cycle(u64),
    /// A time.
    Time(Timestamp),
}

pub(super) fn bound(text: &str) -> Result<Bound, &'static str> {
    if let Ok(cycle) = text.parse() {
        return Ok(Bound::Cycle(cycle));
    }
    rfc3339(text).map(Bound::Time).ok_or("give the number of a cycle, or a time such as 2026-11-30T08:15:00Z")
}

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    pub(super) from: Option<Bound>,
    pub(super) to: Option<Bound>,
    pub(super) only: Vec<ItemKind>,
    pub(super) grep: Option<String>,
}

impl Filter {
    /// Whether a record is within the bounds.
    pub(super) fn is_within(&self, publication: &Publication) -> bool {
        let order = |bound: Bound| match bound {
            Bound::Cycle(cycle) => publication.of_cycle().cmp(&cycle),
            // A record without a time is of no time.
            Bound::Time(time) => rfc3339(&publication.time).unwrap_or(Timestamp::UNIX_EPOCH).cmp(&time),
        };
        self.from.is_none_or(|from| order(from).is_ge()) && self.to.is_none_or(|to| order(to).is_le())
    }

    pub(super) fn has(&self, item: &Item<'_>) -> bool {
        let is_kind = self.only.is_empty() || self.only.contains(&item.kind);
        is_kind && self.grep.as_ref().is_none_or(|text| item.contains(text))
    }

    /// The same of a record as a whole, for the text of its JSON.
    pub(super) fn has_record(&self, items: &[Item<'_>], body: &str) -> bool {
        let is_kind = self.only.is_empty() || items.iter().any(|item| self.only.contains(&item.kind));
        is_kind && self.grep.as_ref().is_none_or(|text| body.contains(text))
    }
}
