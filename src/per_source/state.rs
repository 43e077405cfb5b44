//! What `PerSource` remembers, and how a cycle advances it.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use rpds::HashTrieMapSync;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};

use tracing::Instrument;

use crate::clock::later;
use crate::error::chain;
use crate::panics::{catch, discard, discard_logged, poll_caught};
use crate::source_health::{ProbeFailure, SourceFacts};
use crate::{Cause, DynError, ObservedSource};

use super::snapshot::{Layout, oldest};
use super::{PerSource, PerSourceSnapshot, SourceEvent};

/// What [`PerSource`] remembers from cycle to cycle.
pub struct PerSourceState<V> {
    layout: Arc<Layout>,
    /// By place, like `facts`.
    slots: Vec<Slot>,
    facts: Vec<SourceFacts>,
    values: HashTrieMapSync<Arc<str>, Arc<V>>,
    /// Dropping the state aborts them.
    probes: JoinSet<Answer<V>>,
    next_ticket: u64,
    /// What happened and was not returned yet: an interrupted cycle loses nothing.
    events: Vec<SourceEvent<V>>,
}

/// A source's place.
#[derive(Debug, Default)]
struct Slot {
    /// `None` until the app's identity of it was asked for.
    identity: Option<u64>,
    in_flight: Option<InFlight>,
    /// The last probe's; who waited longest goes first.
    last_ticket: u64,
}

#[derive(Debug)]
struct InFlight {
    ticket: u64,
    abort: AbortHandle,
}

impl Slot {
    fn abort(&mut self) {
        if let Some(InFlight { abort, .. }) = self.in_flight.take() {
            abort.abort();
        }
    }
}

struct Answer<V> {
    source: Arc<str>,
    ticket: u64,
    began: Instant,
    ended: Instant,
    result: Result<V, (Cause, String)>,
}

impl<S, V> PerSource<S, V>
where
    S: Clone + Send + Sync + 'static,
    V: PartialEq + Send + Sync + 'static,
{
    /// Begins probes and collects answers for one cycle.
    pub(super) async fn look(&self, sources: &[ObservedSource<S>], state: &mut PerSourceState<V>) {
        let deadline = later(Instant::now(), self.settings.collect_for);
        self.adopt(sources, state);
        let first_of_cycle = state.next_ticket;
        // What has ended since the last cycle is in flight no more, and may be probed anew.
        while let Some(ended) = state.probes.try_join_next() {
            state.collect(ended.ok(), first_of_cycle);
        }
        let mut waiting = state.places_without_probe(self.settings.concurrency);
        let mut begun = 0_usize;
        let mut enough = pin!(tokio::time::sleep_until(deadline));
        loop {
            while state.probes.len() < self.settings.concurrency {
                let Some(place) = waiting.pop() else { break };
                self.begin(&sources[place], place, state);
                begun += 1;
            }
            while let Some(ended) = state.probes.try_join_next() {
                begun -= state.collect(ended.ok(), first_of_cycle);
            }
            if state.probes.len() < self.settings.concurrency && !waiting.is_empty() {
                continue;
            }
            if begun == 0 && waiting.is_empty() {
                return;
            }
            tokio::select! {
                biased;
                Some(ended) = state.probes.join_next() => begun -= state.collect(ended.ok(), first_of_cycle),
                () = &mut enough => return,
            }
        }
    }

    fn begin(&self, source: &ObservedSource<S>, place: usize, state: &mut PerSourceState<V>) {
        let began = Instant::now();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        let limit = self.settings.probe_timeout;
        // Calling the app's function is app code too.
        let probe = catch(|| (self.probe)(source.clone()));
        let source = Arc::clone(&state.layout.names[place]);
        let probing = async move {
            let result = match probe {
                Ok(probe) => ended(limit, probe).await,
                Err(panic) => Err(panicked(&panic)),
            };
            Answer { source, ticket, began, ended: Instant::now(), result }
        };
        let abort = state.probes.spawn(probing.in_current_span());
        state.slots[place].in_flight = Some(InFlight { ticket, abort });
        state.slots[place].last_ticket = ticket;
        state.facts[place].began(began);
    }

    /// Takes the set of this cycle over.
    fn adopt(&self, sources: &[ObservedSource<S>], state: &mut PerSourceState<V>) {
        let names = &state.layout.names;
        let same = names.len() == sources.len()
            && names.iter().zip(sources).all(|(name, source)| **name == *source.name);
        if !same {
            state.relayout(sources);
        }
        for (place, source) in sources.iter().enumerate() {
            let identity = self.identify(&source.source);
            state.identify(place, identity);
        }
    }
}

async fn ended<V>(
    limit: Duration,
    mut probe: impl Future<Output = Result<V, DynError>> + Unpin,
) -> Result<V, (Cause, String)> {
    let result = match timeout(limit, poll_fn(|context| poll_caught(Pin::new(&mut probe), context))).await {
        Ok(Ok(Ok(value))) => Ok(value),
        Ok(Ok(Err(error))) => Err(explained(error)),
        Ok(Err(panic)) => Err(panicked(&panic)),
        Err(_) => Err((Cause::TimedOut, format!("no answer within {limit:?}"))),
    };
    // A task that panicked would have no answer, and its source would never be probed again.
    let Some(panic) = discard(probe) else { return result };
    Err(match result {
        Ok(value) => {
            discard_logged(value, "an answer");
            panicked(&panic)
        }
        Err((_, message)) => (Cause::Panicked, format!("{message}; then its destructor panicked: {panic}")),
    })
}

/// An error's text and its destructor are app code.
fn explained(error: DynError) -> (Cause, String) {
    match (catch(|| chain(&*error)), discard(error)) {
        (Ok(message), None) => (Cause::Error, message),
        (Err(panic), _) | (Ok(_), Some(panic)) => panicked(&panic),
    }
}

fn panicked(panic: &str) -> (Cause, String) {
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
            // 0 is the ticket of those that were never probed.
            next_ticket: 1,
            events: Vec::new(),
        }
    }

    pub(super) fn take_events(&mut self) -> Vec<SourceEvent<V>> {
        std::mem::take(&mut self.events)
    }

    pub(super) fn snapshot(&self, stale_after: Duration, collect_for: Duration) -> PerSourceSnapshot<V> {
        PerSourceSnapshot {
            layout: Arc::clone(&self.layout),
            values: self.values.clone(),
            facts: Arc::from(self.facts.as_slice()),
            oldest: oldest(&self.facts),
            stale_after,
            collect_for,
            taken_at: Instant::now(),
        }
    }

    /// The places to probe in this cycle; the last one first.
    fn places_without_probe(&self, concurrency: usize) -> Vec<usize> {
        let idle = |place: &usize| self.slots[*place].in_flight.is_none();
        let mut places: Vec<usize> = (0..self.slots.len()).rev().filter(idle).collect();
        if self.probes.len() + places.len() > concurrency {
            places.sort_by_key(|place| std::cmp::Reverse(self.slots[*place].last_ticket));
        }
        places
    }

    /// Notes who has the name now.
    fn identify(&mut self, place: usize, identity: u64) {
        let slot = &mut self.slots[place];
        let before = slot.identity.replace(identity);
        if before.is_none_or(|before| before == identity) {
            return;
        }
        slot.abort();
        self.facts[place] = SourceFacts::default();
        let source = Arc::clone(&self.layout.names[place]);
        let last = self.values.get(&source).cloned();
        self.values.remove_mut(&source);
        self.events.push(SourceEvent::Replaced { source, last });
    }

    /// Takes one ended probe over: 1 if it was begun in this cycle.
    fn collect(&mut self, answer: Option<Answer<V>>, first_of_cycle: u64) -> usize
    where
        V: PartialEq,
    {
        // An aborted probe has nothing to say, and was begun before this cycle.
        let Some(Answer { source, ticket, began, ended, result }) = answer else { return 0 };
        let counted = usize::from(ticket >= first_of_cycle);
        let Some(&place) = self.layout.places.get(&source) else { return counted };
        let (slot, facts) = (&mut self.slots[place], &mut self.facts[place]);
        if slot.in_flight.as_ref().is_none_or(|probe| probe.ticket != ticket) {
            return counted;
        }
        slot.in_flight = None;
        match result {
            Ok(value) => {
                let failures = facts.answered(began, ended);
                if failures > 0 {
                    let source = Arc::clone(&source);
                    self.events.push(SourceEvent::Recovered { source, failures, asked_at: began });
                }
                self.answered(place, source, value, (began, ended));
            }
            Err((cause, message)) => {
                let failure = Arc::new(ProbeFailure::new(began, ended, cause, message));
                if facts.failed(Arc::clone(&failure)) == 1 {
                    self.events.push(SourceEvent::Failed { source, failure });
                }
            }
        }
        counted
    }

    /// Touches the map only where a value has changed.
    fn answered(&mut self, place: usize, source: Arc<str>, value: V, (asked_at, at): (Instant, Instant))
    where
        V: PartialEq,
    {
        let old = self.values.get(&source);
        if old.is_some_and(|old| **old == value) {
            return;
        }
        let new = Arc::new(value);
        self.events.push(match (Arc::clone(&source), Arc::clone(&new), old.cloned()) {
            (source, new, Some(old)) => SourceEvent::Changed { source, old, new, asked_at },
            (source, value, None) => SourceEvent::Appeared { source, value, asked_at },
        });
        self.values.insert_mut(source, new);
        self.facts[place].changed_at = Some(at);
    }

    /// Rearranges everything for a set with other names.
    fn relayout<S>(&mut self, sources: &[ObservedSource<S>]) {
        let before = std::mem::take(&mut self.layout);
        let mut slots: Vec<Option<(Slot, SourceFacts)>> = std::mem::take(&mut self.slots)
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
                let last = self.values.get(name).cloned();
                self.values.remove_mut(name);
                self.events.push(SourceEvent::Vanished { source: Arc::clone(name), last });
            }
        }
        self.layout = Arc::new(layout);
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
