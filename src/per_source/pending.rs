//! Events of polls that were cut off.
//!
//! The next poll that ends returns them. The events of several polls are folded by source, so that their number is
//! bounded by the number of sources, however often a poll is cut off.

use std::collections::HashMap;
use std::sync::Arc;

use crate::panics::{catch, discard_logged};

use super::SourceEvent;

/// Folds to at most eleven events for each source, which still fold to the values of the snapshot.
///
/// A source is replaced or leaves at a boundary. Of more than two boundaries the first and the last are kept. The
/// values between two boundaries fold to one event, and a series of failures and recoveries to its last ones. Sources
/// are in the order of their first events.
pub(super) fn fold<V: PartialEq>(events: Vec<SourceEvent<V>>) -> Vec<SourceEvent<V>> {
    let mut places: HashMap<Arc<str>, usize> = HashMap::new();
    let mut stories: Vec<Story<V>> = Vec::new();
    for event in events {
        let place = *places.entry(Arc::clone(event.source())).or_insert(stories.len());
        if place == stories.len() {
            stories.push(Story::default());
        }
        stories[place].add(event);
    }
    stories.into_iter().flat_map(Story::into_events).collect()
}

/// Drops events one by one: two destructors that panic at once would abort the process.
pub(super) fn discard_events<V>(events: impl IntoIterator<Item = SourceEvent<V>>) {
    for event in events {
        discard_logged(event, "an event");
    }
}

/// The events of one source: chapters that ended with a boundary, and the current one.
struct Story<V> {
    ended: Vec<(Chapter<V>, SourceEvent<V>)>,
    current: Chapter<V>,
}

impl<V> Default for Story<V> {
    fn default() -> Self {
        Self { ended: Vec::new(), current: Chapter::default() }
    }
}

impl<V: PartialEq> Story<V> {
    fn add(&mut self, event: SourceEvent<V>) {
        match event {
            SourceEvent::Appeared { .. } | SourceEvent::Changed { .. } => self.current.add_value(event),
            SourceEvent::Failed { .. } | SourceEvent::Recovered { .. } => self.current.add_health(event),
            SourceEvent::Replaced { .. } | SourceEvent::Vanished { .. } => {
                let ended = std::mem::take(&mut self.current);
                // Each chapter but the first begins without a value, so that a middle one can be dropped.
                if self.ended.len() > 1 {
                    let (middle, boundary) = self.ended.remove(1);
                    discard_events(middle.into_events().chain([boundary]));
                }
                self.ended.push((ended, event));
            }
        }
    }

    fn into_events(self) -> impl Iterator<Item = SourceEvent<V>> {
        let ended = self.ended.into_iter();
        let ended = ended.flat_map(|(chapter, boundary)| chapter.into_events().chain([boundary]));
        ended.chain(self.current.into_events())
    }
}

/// At most one value event, and at most two of failures and recoveries.
struct Chapter<V> {
    value: Option<SourceEvent<V>>,
    /// `Failed` and `Recovered` alternate. This holds the last event, and the one before it if the series began with
    /// that kind.
    health: [Option<SourceEvent<V>>; 2],
}

impl<V> Default for Chapter<V> {
    fn default() -> Self {
        Self { value: None, health: [None, None] }
    }
}

impl<V: PartialEq> Chapter<V> {
    fn add_value(&mut self, event: SourceEvent<V>) {
        self.value = match (self.value.take(), event) {
            (
                Some(SourceEvent::Appeared { value, .. }),
                SourceEvent::Changed { source, old, new, asked_at },
            ) => {
                discard_each([value, old]);
                Some(SourceEvent::Appeared { source, value: new, asked_at })
            }
            (
                Some(SourceEvent::Changed { old: first, new: before, .. }),
                SourceEvent::Changed { source, old, new, asked_at },
            ) => {
                discard_each([before, old]);
                if catch(|| *first == *new).unwrap_or(false) {
                    discard_each([first, new]);
                    None
                } else {
                    Some(SourceEvent::Changed { source, old: first, new, asked_at })
                }
            }
            (before, event) => {
                discard_events(before);
                Some(event)
            }
        };
    }

    fn add_health(&mut self, event: SourceEvent<V>) {
        match &mut self.health {
            [first @ None, None] => *first = Some(event),
            [Some(_), second @ None] => *second = Some(event),
            health => {
                let before = std::mem::replace(health, [Some(event), None]);
                discard_events(before.into_iter().flatten());
            }
        }
    }

    /// A recovery comes before its value event, and a failure after the value from before it.
    fn into_events(self) -> impl Iterator<Item = SourceEvent<V>> {
        let mut health: Vec<_> = self.health.into_iter().flatten().collect();
        let failing = health.pop_if(|last| matches!(last, SourceEvent::Failed { .. }));
        health.into_iter().chain(self.value).chain(failing)
    }
}

fn discard_each<V>(values: impl IntoIterator<Item = Arc<V>>) {
    for value in values {
        discard_logged(value, "an answer that no event shows");
    }
}

#[cfg(all(test, not(watchkeeper_loom)))]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::*;
    use crate::runtime::Cause;
    use crate::source::health::ProbeFailure;

    /// A step of one of three sources.
    #[derive(Clone, Copy, Debug)]
    enum Does {
        Answer(u8),
        Fail,
        Replace,
        /// Returns, if it had left.
        Leave,
    }

    fn does() -> impl Strategy<Value = (usize, Does)> {
        let what = prop_oneof![
            6 => (0..3_u8).prop_map(Does::Answer),
            4 => Just(Does::Fail),
            1 => Just(Does::Replace),
            1 => Just(Does::Leave),
        ];
        (0..3_usize, what)
    }

    /// One source as `PerSource` observes it.
    #[derive(Default)]
    struct PendingSource {
        value: Option<Arc<u8>>,
        failures: u64,
        absent: bool,
    }

    fn happen(
        sources: &mut [PendingSource; 3],
        (place, does): (usize, Does),
        events: &mut Vec<SourceEvent<u8>>,
    ) {
        let source: Arc<str> = ["a", "b", "c"][place].into();
        let (known, asked_at) = (&mut sources[place], Instant::now());
        if known.absent {
            known.absent = false;
            return;
        }
        match does {
            Does::Answer(value) => {
                let failures = std::mem::take(&mut known.failures);
                if failures > 0 {
                    let source = Arc::clone(&source);
                    events.push(SourceEvent::Recovered { source, failures, asked_at });
                }
                let new = Arc::new(value);
                match known.value.replace(Arc::clone(&new)) {
                    Some(old) if old == new => {}
                    Some(old) => events.push(SourceEvent::Changed { source, old, new, asked_at }),
                    None => events.push(SourceEvent::Appeared { source, value: new, asked_at }),
                }
            }
            Does::Fail => {
                known.failures += 1;
                if known.failures == 1 {
                    let now = Instant::now();
                    let failure = Arc::new(ProbeFailure::new(now, now, Cause::Error, "no"));
                    events.push(SourceEvent::Failed { source, failure });
                }
            }
            Does::Replace | Does::Leave => {
                let last = std::mem::take(known).value;
                known.absent = matches!(does, Does::Leave);
                events.push(match does {
                    Does::Replace => SourceEvent::Replaced { source, last, asked_at },
                    _ => SourceEvent::Vanished { source, last, asked_at },
                });
            }
        }
    }

    /// The knowledge of a reader of all events.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    struct EventReader {
        values: BTreeMap<String, u8>,
        failing: BTreeSet<String>,
    }

    impl EventReader {
        fn read(&mut self, events: &[SourceEvent<u8>]) {
            for event in events {
                let name = event.source().to_string();
                match event {
                    SourceEvent::Appeared { value, .. } => {
                        assert_eq!(self.values.insert(name, **value), None, "{event:?}");
                    }
                    SourceEvent::Changed { old, new, .. } => {
                        assert_ne!(old, new);
                        assert_eq!(self.values.insert(name, **new), Some(**old), "{event:?}");
                    }
                    SourceEvent::Failed { .. } => assert!(self.failing.insert(name), "{event:?}"),
                    SourceEvent::Recovered { .. } => assert!(self.failing.remove(&name), "{event:?}"),
                    SourceEvent::Replaced { last, .. } | SourceEvent::Vanished { last, .. } => {
                        self.failing.remove(&name);
                        assert_eq!(self.values.remove(&name), last.as_deref().copied(), "{event:?}");
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn folded_events_say_the_same_and_are_few(
            seen in prop::collection::vec(does(), 0..20),
            polls in prop::collection::vec(prop::collection::vec(does(), 0..30), 1..6),
        ) {
            let (mut sources, mut raw) = (<[PendingSource; 3]>::default(), Vec::new());
            for does in seen {
                happen(&mut sources, does, &mut raw);
            }
            let mut reader = EventReader::default();
            reader.read(&raw);

            let (mut all, mut folded) = (Vec::new(), Vec::new());
            for poll in polls {
                let mut events = Vec::new();
                for does in poll {
                    happen(&mut sources, does, &mut events);
                }
                all.extend(events.iter().cloned());
                folded.append(&mut events);
                folded = fold(folded);
                for name in ["a", "b", "c"] {
                    let count = folded.iter().filter(|event| &**event.source() == name).count();
                    assert!(count <= 11, "{count} events of {name}: {folded:?}");
                }
            }
            let mut other = reader.clone();
            reader.read(&all);
            other.read(&folded);
            assert_eq!(other, reader);
        }
    }

    #[test]
    fn the_net_change_of_a_source_is_emitted() {
        use Does::{Answer, Fail, Leave, Replace};
        let event = |does: &[Does]| {
            let (mut sources, mut events) = (<[PendingSource; 3]>::default(), Vec::new());
            for does in does {
                happen(&mut sources, (0, *does), &mut events);
            }
            events
        };
        let words = |events: Vec<SourceEvent<u8>>| -> String {
            let word = |event| match event {
                SourceEvent::Appeared { value, .. } => format!("appeared {value}"),
                SourceEvent::Changed { old, new, .. } => format!("changed {old} {new}"),
                SourceEvent::Failed { .. } => "failed".to_owned(),
                SourceEvent::Recovered { failures, .. } => format!("recovered {failures}"),
                SourceEvent::Replaced { last, .. } => format!("replaced {last:?}"),
                SourceEvent::Vanished { last, .. } => format!("vanished {last:?}"),
            };
            events.into_iter().map(word).collect::<Vec<_>>().join(", ")
        };
        let cases: [(&[Does], usize, &str); 9] = [
            // (steps, events read before the cut-off, expected rest)
            (&[Answer(1), Answer(2), Answer(3)], 0, "appeared 3"),
            (&[Answer(1), Answer(2), Answer(3)], 1, "changed 1 3"),
            (&[Answer(1), Answer(2), Answer(1)], 1, ""),
            (&[Answer(1), Fail, Answer(2), Fail, Fail, Answer(3)], 1, "failed, recovered 2, changed 1 3"),
            (&[Answer(1), Fail, Answer(2), Fail], 2, "recovered 1, changed 1 2, failed"),
            (&[Answer(1), Fail, Answer(2), Fail, Answer(3)], 2, "recovered 1, changed 1 3"),
            (&[Answer(1), Answer(2), Leave], 1, "changed 1 2, vanished Some(2)"),
            (
                &[Answer(1), Replace, Answer(2), Replace, Answer(3), Replace],
                1,
                "replaced Some(1), appeared 3, replaced Some(3)",
            ),
            (
                &[Answer(1), Leave, Leave, Answer(2), Leave, Leave, Answer(3)],
                0,
                "appeared 1, vanished Some(1), appeared 2, vanished Some(2), appeared 3",
            ),
        ];
        for (does, read, expected) in cases {
            assert_eq!(words(fold(event(does).split_off(read))), expected, "{does:?} after {read}");
        }
    }
}
