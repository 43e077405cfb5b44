//! What has changed in a list since the events before.

use std::collections::HashMap;

/// The most appearances in one cycle: the others are emitted in the next ones.
pub(super) const MOST_APPEARANCES: usize = 100;

/// What the events so far say: the ids of a list with their counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Emitted {
    counts: HashMap<String, u64>,
}

/// One change. The numbers are places in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// An item is new.
    Appeared(usize),
    /// Its count has doubled since its last event, or since it was at most half of that.
    Grew(usize),
    /// An item is not in the list any more.
    Vanished(String),
}

impl Emitted {
    /// Compares the list with the events so far, and counts its changes as emitted.
    pub(super) fn changes<'a>(&mut self, list: impl Iterator<Item = (&'a str, u64)> + Clone) -> Vec<Change> {
        let now: HashMap<&str, u64> = list.clone().collect();
        let mut gone: Vec<String> =
            self.counts.keys().filter(|id| !now.contains_key(id.as_str())).cloned().collect();
        gone.sort_unstable();
        self.counts.retain(|id, _| now.contains_key(id.as_str()));
        let mut changes: Vec<Change> = gone.into_iter().map(Change::Vanished).collect();
        let mut appeared = 0;
        for (place, (id, count)) in list.enumerate() {
            match self.counts.get_mut(id) {
                Some(before) if count >= before.saturating_mul(2) => {
                    *before = count;
                    changes.push(Change::Grew(place));
                }
                Some(before) if count <= *before / 2 => *before = count,
                None if appeared < MOST_APPEARANCES => {
                    appeared += 1;
                    self.counts.insert(id.to_owned(), count);
                    changes.push(Change::Appeared(place));
                }
                Some(_) | None => {}
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The list, and its changes.
    type Step<'a> = (&'a [(&'a str, u64)], &'a [Change]);

    fn changes(emitted: &mut Emitted, list: &[(&str, u64)]) -> Vec<Change> {
        emitted.changes(list.iter().copied())
    }

    #[test]
    fn only_what_appears_doubles_or_vanishes_is_a_change() {
        let mut emitted = Emitted::default();
        let gone = |id: &str| Change::Vanished(id.to_owned());
        let steps: [Step<'_>; 8] = [
            (&[("a", 3), ("b", 1)], &[Change::Appeared(0), Change::Appeared(1)]),
            (&[("a", 5), ("b", 1)], &[]),
            (&[("a", 6), ("b", 1)], &[Change::Grew(0)]),
            (&[("a", 11)], &[gone("b")]),
            (&[("a", 3)], &[]),
            (&[("a", 6)], &[Change::Grew(0)]),
            (&[("c", 1), ("a", 6)], &[Change::Appeared(0)]),
            (&[], &[gone("a"), gone("c")]),
        ];
        for (list, expected) in steps {
            assert_eq!(changes(&mut emitted, list), expected, "{list:?}");
        }
    }

    #[test]
    fn many_appearances_take_several_cycles() {
        let mut emitted = Emitted::default();
        let ids: Vec<String> = (0..=MOST_APPEARANCES * 2).map(|id| id.to_string()).collect();
        let list: Vec<(&str, u64)> = ids.iter().map(|id| (id.as_str(), 1)).collect();
        let counts: Vec<usize> = (0..4).map(|_| changes(&mut emitted, &list).len()).collect();
        assert_eq!(counts, [MOST_APPEARANCES, MOST_APPEARANCES, 1, 0]);
    }
}
