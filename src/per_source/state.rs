//! The state of `PerSource`, and how a cycle changes it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rpds::HashTrieMapSync;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::ObservedSource;
use crate::panics::{catch, discard, discard_logged};
use crate::runtime::Cause;
use crate::source::health::{ProbeFailure, SourceFacts};

use super::kept::SafeToDrop;
use super::lines::Lines;
use super::pending::{discard_events, fold};
use super::snapshot::{Layout, Weighs, oldest};
use super::{PerSourceSnapshot, SourceEvent};

/// The state that [`PerSource`](crate::PerSource) keeps between cycles.
pub struct PerSourceState<V> {
    pub(super) layout: Arc<Layout>,
    /// By place, like `facts`.
    pub(super) slots: Vec<Slot<V>>,
    facts: Vec<SourceFacts>,
    values: HashTrieMapSync<Arc<str>, SafeToDrop<V>>,
    /// Dropping the state aborts them.
    pub(super) probes: JoinSet<Answer<V>>,
    pub(super) next_ticket: u64,
    /// How many polls there were.
    pub(super) looks: u64,
    /// When the last poll began.
    look_began: Instant,
    /// How many consecutive polls were cut off.
    pub(super) cut_off: u32,
    /// Whether some sources had no turn in the last poll.
    pub(super) left_out: bool,
    /// Events that were not returned yet: a cut-off poll loses none.
    events: Vec<SourceEvent<V>>,
    pub(super) lines: Lines,
}

/// A source's place.
pub(super) struct Slot<V> {
    /// `None` until the app has identified the source.
    identity: Option<u64>,
    /// The poll that last identified the source, and whether that succeeded.
    pub(super) identified_in: u64,
    pub(super) is_known: bool,
    pub(super) in_flight: Option<InFlight>,
    /// The ticket of the last turn; the lowest ticket goes first.
    last_ticket: u64,
    /// The value that the map has too: with many sources each map lookup misses the cache.
    value: Option<SafeToDrop<V>>,
}

// A derived `Default` would require `V: Default`.
impl<V> Default for Slot<V> {
    fn default() -> Self {
        Self {
            identity: None,
            identified_in: 0,
            is_known: false,
            in_flight: None,
            last_ticket: 0,
            value: None,
        }
    }
}

#[derive(Debug)]
pub(super) struct InFlight {
    ticket: u64,
    abort: AbortHandle,
}

impl<V> Slot<V> {
    pub(super) fn abort(&mut self) {
        if let Some(InFlight { abort, .. }) = self.in_flight.take() {
            abort.abort();
        }
    }

    pub(super) fn has_in_flight(&self, ticket: u64) -> bool {
        self.in_flight.as_ref().is_some_and(|probe| probe.ticket == ticket)
    }
}

pub(super) struct Answer<V> {
    pub(super) source: Arc<str>,
    /// The source's place when it was probed.
    pub(super) place: usize,
    pub(super) ticket: u64,
    pub(super) began: Instant,
    pub(super) ended: Instant,
    pub(super) result: Result<V, Failed>,
}

/// Why a probe failed, and the message.
pub(super) type Failed = (Cause, String);

pub(super) fn panicked(panic: &str) -> Failed {
    (Cause::Panicked, format!("panicked: {panic}"))
}

impl<V: Send + Sync + 'static> PerSourceState<V> {
    pub(super) fn new() -> Self {
        Self {
            layout: Arc::default(),
            slots: Vec::new(),
            facts: Vec::new(),
            values: HashTrieMapSync::new_sync(),
            probes: JoinSet::new(),
            // Ticket 0 means no turn yet.
            next_ticket: 1,
            looks: 0,
            look_began: Instant::now(),
            cut_off: 0,
            left_out: false,
            events: Vec::new(),
            lines: Lines::default(),
        }
    }

    /// Begins a poll with this source set.
    pub(super) fn begin_look<S>(&mut self, sources: &[ObservedSource<S>])
    where
        V: PartialEq,
    {
        self.looks += 1;
        self.look_began = Instant::now();
        if self.cut_off > 1 {
            self.events = fold(std::mem::take(&mut self.events));
        }
        let names = &self.layout.names;
        let same = names.len() == sources.len()
            && names.iter().zip(sources).all(|(name, source)| **name == *source.name);
        if !same {
            self.relayout(sources);
        }
    }

    pub(super) fn take_events(&mut self) -> Vec<SourceEvent<V>> {
        std::mem::take(&mut self.events)
    }

    pub(super) fn snapshot(
        &self,
        stale_after: Duration,
        collect_for: Duration,
        weighs: Option<&Weighs<V>>,
    ) -> PerSourceSnapshot<V> {
        PerSourceSnapshot {
            layout: Arc::clone(&self.layout),
            values: self.values.clone(),
            facts: Arc::from(self.facts.as_slice()),
            oldest: oldest(&self.facts),
            stale_after,
            collect_for,
            taken_at: Instant::now(),
            weighs: weighs.cloned(),
        }
    }

    /// All places in the order of their turns. If some may get no turn, the place with the oldest turn goes first.
    pub(super) fn turns(&mut self, concurrency: usize) -> Vec<usize> {
        let mut places: Vec<usize> = (0..self.slots.len()).collect();
        let idle = self.slots.iter().filter(|slot| slot.in_flight.is_none()).count();
        let left_out = std::mem::replace(&mut self.left_out, true);
        if left_out || self.probes.len() + idle > concurrency {
            places.sort_by_key(|place| self.slots[*place].last_ticket);
        }
        places
    }

    /// The present place of the answer's source.
    pub(super) fn place_of(&self, answer: &Answer<V>) -> Option<usize> {
        let Layout { names, places } = &*self.layout;
        let stayed = names.get(answer.place).is_some_and(|name| Arc::ptr_eq(name, &answer.source));
        if stayed { Some(answer.place) } else { places.get(&answer.source).copied() }
    }

    /// Gives the place its turn.
    pub(super) fn ticket(&mut self, place: usize) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.slots[place].last_ticket = ticket;
        ticket
    }

    /// Records that a probe has begun.
    pub(super) fn in_flight(&mut self, place: usize, ticket: u64, abort: AbortHandle, began: Instant) {
        self.slots[place].in_flight = Some(InFlight { ticket, abort });
        self.facts[place].began(began);
    }

    /// Records the identity of the source; a new identity replaces it.
    pub(super) fn identify(&mut self, place: usize, identity: u64) {
        let slot = &mut self.slots[place];
        let before = slot.identity.replace(identity);
        if before.is_none_or(|before| before == identity) {
            return;
        }
        slot.abort();
        self.facts[place] = SourceFacts::default();
        let source = Arc::clone(&self.layout.names[place]);
        let last = slot.value.take().map(SafeToDrop::into_inner);
        self.values.remove_mut(&source);
        let asked_at = self.look_began;
        self.events.push(SourceEvent::Replaced { source, last, asked_at });
    }

    /// Takes over the answer of the probe in flight.
    pub(super) fn collect(&mut self, place: usize, answer: Answer<V>)
    where
        V: PartialEq,
    {
        let Answer { source, began, ended, result, .. } = answer;
        self.slots[place].in_flight = None;
        match result.and_then(|value| self.news(place, value)) {
            Ok(value) => {
                let failures = self.facts[place].answered(began, ended);
                if failures > 0 {
                    self.lines.recovered(&source, failures);
                    let source = Arc::clone(&source);
                    self.events.push(SourceEvent::Recovered { source, failures, asked_at: began });
                }
                if let Some(value) = value {
                    self.answered(place, source, value, (began, ended));
                }
            }
            Err(failed) => self.failed(place, began, ended, failed),
        }
    }

    /// Returns the value if it differs from the known one. Comparing and dropping run app code.
    fn news(&self, place: usize, value: V) -> Result<Option<V>, Failed>
    where
        V: PartialEq,
    {
        let known = self.slots[place].value.as_ref();
        match catch(|| known.is_some_and(|old| **old.get() == value)) {
            Ok(false) => Ok(Some(value)),
            Ok(true) => match discard(value) {
                None => Ok(None),
                Some(panic) => Err(panicked(&panic)),
            },
            Err(panic) => {
                discard_logged(value, "an answer that could not be compared");
                Err(panicked(&panic))
            }
        }
    }

    /// Records a value that has changed. An unchanged answer leaves the map alone.
    fn answered(&mut self, place: usize, source: Arc<str>, value: V, (asked_at, at): (Instant, Instant)) {
        let new = Arc::new(value);
        let old =
            self.slots[place].value.replace(SafeToDrop::new(Arc::clone(&new))).map(SafeToDrop::into_inner);
        self.events.push(match (Arc::clone(&source), Arc::clone(&new), old) {
            (source, new, Some(old)) => SourceEvent::Changed { source, old, new, asked_at },
            (source, value, None) => SourceEvent::Appeared { source, value, asked_at },
        });
        self.values.insert_mut(source, SafeToDrop::new(new));
        self.facts[place].changed_at = Some(at);
    }

    pub(super) fn failed(&mut self, place: usize, began: Instant, ended: Instant, (cause, message): Failed) {
        let failure = Arc::new(ProbeFailure::new(began, ended, cause, message));
        if self.facts[place].failed(Arc::clone(&failure)) == 1 {
            let source = Arc::clone(&self.layout.names[place]);
            self.lines.failed(&source, &failure);
            self.events.push(SourceEvent::Failed { source, failure });
        }
    }

    /// Rearranges the state for a set with other names.
    fn relayout<S>(&mut self, sources: &[ObservedSource<S>]) {
        let before = std::mem::take(&mut self.layout);
        let mut slots: Vec<Option<(Slot<V>, SourceFacts)>> = std::mem::take(&mut self.slots)
            .into_iter()
            .zip(std::mem::take(&mut self.facts))
            .map(Some)
            .collect();
        let mut layout = Layout::default();
        for (place, source) in sources.iter().enumerate() {
            let known = before.places.get_key_value(source.name.as_str());
            let (name, kept) = match known {
                Some((name, place)) => (Arc::clone(name), slots[*place].take()),
                None => (Arc::from(source.name.as_str()), None),
            };
            let (slot, facts) = kept.unwrap_or_default();
            self.slots.push(slot);
            self.facts.push(facts);
            layout.places.insert(Arc::clone(&name), place);
            layout.names.push(name);
        }
        for (name, gone) in before.names.iter().zip(slots) {
            if let Some((mut slot, _)) = gone {
                slot.abort();
                let last = slot.value.take().map(SafeToDrop::into_inner);
                self.values.remove_mut(name);
                let asked_at = self.look_began;
                self.events.push(SourceEvent::Vanished { source: Arc::clone(name), last, asked_at });
            }
        }
        self.layout = Arc::new(layout);
    }
}

/// Drops events oldest first. A later event or the map then still holds the new value of each event, so that no event
/// runs two of the app's destructors.
impl<V> Drop for PerSourceState<V> {
    fn drop(&mut self) {
        discard_events(std::mem::take(&mut self.events));
    }
}

impl<V> fmt::Debug for PerSourceState<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerSourceState")
            .field("sources", &self.slots.len())
            .field("probes", &self.probes.len())
            .finish_non_exhaustive()
    }
}
