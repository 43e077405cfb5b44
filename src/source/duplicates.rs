//! Sources that cannot be distinguished by their names.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::config::Duplicates;
use crate::error::Cause;
use crate::observer::Observer;
use crate::panics::AppValues;
use crate::source::health::{ProbeFailure, SourceHealth};
use crate::source::{LeftOut, ObservedSource, SourceChange, SourceNames, SourceSetError};
use crate::status::ObservationSnapshot;

/// A set in which every source has its own name.
pub(crate) struct Settled<S> {
    pub(crate) sources: AppValues<ObservedSource<S>>,
    /// The new names and their change, if they differ from the known names.
    pub(crate) change: Option<(SourceNames, Box<SourceChange>)>,
    pub(crate) left_out: Option<Arc<LeftOut>>,
}

/// Checks a set, and compares its names with `known`.
pub(crate) fn settle<S>(
    known: &SourceNames,
    set: AppValues<ObservedSource<S>>,
    rule: Duplicates,
) -> Result<Settled<S>, SourceSetError> {
    let names_are = |set: &[ObservedSource<S>]| {
        known.len() == set.len() && known.iter().zip(set).all(|(name, source)| **name == *source.name)
    };
    // The usual case is cheap: the same names in the same order were checked before.
    if names_are(&set) {
        return Ok(Settled { sources: set, change: None, left_out: None });
    }
    let mut given = HashMap::<&str, usize>::with_capacity(set.len());
    let first: Vec<bool> = set
        .iter()
        .map(|source| {
            let given = given.entry(&source.name).or_default();
            *given += 1;
            *given == 1 && !source.name.is_empty()
        })
        .collect();
    let unnamed = given.get("").copied().unwrap_or(0);
    if let Some(index) = first.iter().position(|first| !first) {
        let refused = rule == Duplicates::Refuse || unnamed == set.len();
        if refused && set[index].name.is_empty() {
            return Err(SourceSetError::EmptyName { position: index + 1 });
        } else if refused {
            return Err(SourceSetError::DuplicateName { name: set[index].name.clone() });
        }
    }
    let mut shared: Vec<(Arc<str>, usize)> = given
        .into_iter()
        .filter(|(name, given)| *given > 1 && !name.is_empty())
        .map(|(name, given)| (Arc::from(name), given))
        .collect();
    shared.sort_unstable();
    let left_out = LeftOut { shared, unnamed };
    let left_out = (left_out.count() > 0).then(|| Arc::new(left_out));
    let sources = keep(set, &first);
    let change = (!names_are(&sources)).then(|| compare(known, &sources));
    Ok(Settled { sources, change, left_out })
}

/// Keeps the sources that are the first of their name, and drops the others.
fn keep<S>(set: AppValues<ObservedSource<S>>, first: &[bool]) -> AppValues<ObservedSource<S>> {
    if first.iter().all(|first| *first) {
        return set;
    }
    let (mut kept, mut left_out) = (AppValues::new(Vec::new()), AppValues::new(Vec::new()));
    // Nothing here panics, so every source reaches one of the two lists, which drop one by one.
    for (source, first) in set.into_inner().into_iter().zip(first) {
        if *first { kept.push(source) } else { left_out.push(source) }
    }
    kept
}

fn compare<S>(known: &SourceNames, set: &[ObservedSource<S>]) -> (SourceNames, Box<SourceChange>) {
    let before: HashSet<&str> = known.iter().map(|name| &**name).collect();
    let now: HashSet<&str> = set.iter().map(|source| &*source.name).collect();
    let names: SourceNames = set.iter().map(|source| Arc::from(source.name.as_str())).collect();
    let change = SourceChange {
        joined: names.iter().filter(|name| !before.contains(&***name)).cloned().collect(),
        left: known.iter().filter(|name| !now.contains(&***name)).cloned().collect(),
    };
    (names, Box::new(change))
}

/// The health of the source `name`, including whether other sources have the same name.
pub(crate) fn health_of<O: Observer>(
    snapshot: &ObservationSnapshot<O::Snapshot>,
    name: &str,
) -> Option<SourceHealth> {
    let health = O::source_health(&snapshot.value, name)?;
    Some(with_its_name_shared(snapshot, name, health))
}

/// If several sources have this name, adds that to `health` as a failed probe.
pub(crate) fn with_its_name_shared<T>(
    snapshot: &ObservationSnapshot<T>,
    name: &str,
    mut health: SourceHealth,
) -> SourceHealth {
    let Some(left_out) = &snapshot.left_out else { return health };
    let Ok(place) = left_out.shared.binary_search_by(|(shared, _)| (**shared).cmp(name)) else {
        return health;
    };
    let (_, given) = left_out.shared[place];
    let facts = &mut health.facts;
    let mut message = format!("the name is given to {given} sources: only the first is observed");
    if let Some(failure) = facts.last_failure.as_ref().filter(|_| facts.consecutive_failures > 0) {
        message = format!("{}; and {message}", failure.message);
    }
    // The set was seen when its cycle began.
    let seen = snapshot.observed_at.checked_sub(snapshot.elapsed).unwrap_or(snapshot.observed_at);
    let in_flight_since = facts.in_flight_since;
    facts.failed(ProbeFailure::new(seen, seen, Cause::Error, message));
    facts.in_flight_since = in_flight_since;
    health
}

#[cfg(all(test, not(watchkeeper_loom)))]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> AppValues<ObservedSource<usize>> {
        names.iter().enumerate().map(|(place, name)| ObservedSource::new(*name, place)).collect()
    }

    fn known(names: &[&str]) -> SourceNames {
        names.iter().copied().map(Arc::from).collect()
    }

    #[test]
    fn a_change_names_who_joined_and_who_left() {
        // (known, the set, joined, left)
        type Case<'a> = (&'a [&'a str], &'a [&'a str], Option<(&'a str, &'a str)>);
        let cases: [Case; 6] = [
            (&[], &["a", "b"], Some(("a b", ""))),
            (&["a", "b"], &["a", "b"], None),
            (&["a", "b"], &["b", "c"], Some(("c", "a"))),
            (&["a", "b"], &["b", "a"], Some(("", ""))),
            (&["a", "b"], &["a", "b", "a", ""], None),
            (&["a"], &[], Some(("", "a"))),
        ];
        for (before, now, expected) in cases {
            let settled = settle(&known(before), set(now), Duplicates::KeepFirst).unwrap();
            let change = settled.change.map(|(_, change)| (change.joined.join(" "), change.left.join(" ")));
            let expected = expected.map(|(joined, left)| (joined.to_owned(), left.to_owned()));
            assert_eq!(change, expected, "{before:?} to {now:?}");
        }
    }

    #[test]
    fn the_first_of_each_name_is_kept_and_the_others_are_left_out() {
        // (the set, kept places, shared names, how many have none)
        type Case<'a> = (&'a [&'a str], &'a [usize], &'a [(&'a str, usize)], usize);
        let cases: [Case; 4] = [
            (&["a", "b"], &[0, 1], &[], 0),
            (&["b", "a", "b", "c", "a", "b"], &[0, 1, 3], &[("a", 2), ("b", 3)], 0),
            (&["", "a", "", "a"], &[1], &[("a", 2)], 2),
            (&[], &[], &[], 0),
        ];
        for (names, kept, shared, unnamed) in cases {
            let settled = settle(&known(&["z"]), set(names), Duplicates::KeepFirst).unwrap();
            let places: Vec<usize> = settled.sources.iter().map(|source| source.source).collect();
            let left_out = settled.left_out.map(Arc::unwrap_or_clone).unwrap_or_default();
            assert_eq!((&*places, left_out.unnamed), (kept, unnamed), "{names:?}");
            let said: Vec<_> = left_out.shared.iter().map(|(name, given)| (&**name, *given)).collect();
            assert_eq!(said, shared, "{names:?}");
            assert_eq!(left_out.count(), names.len() - kept.len(), "{names:?}");
        }
    }

    #[test]
    fn what_is_refused_names_the_first_that_is_wrong() {
        let twice = |name: &str| SourceSetError::DuplicateName { name: name.to_owned() };
        let empty = |position| SourceSetError::EmptyName { position };
        let cases: [(Duplicates, &[&str], SourceSetError); 4] = [
            (Duplicates::Refuse, &["a", "b", "a"], twice("a")),
            (Duplicates::Refuse, &["a", ""], empty(2)),
            (Duplicates::Refuse, &["a", "a", ""], twice("a")),
            (Duplicates::KeepFirst, &["", ""], empty(1)),
        ];
        for (rule, names, error) in cases {
            assert_eq!(settle(&known(&[]), set(names), rule).err(), Some(error), "{names:?}");
        }
    }
}
