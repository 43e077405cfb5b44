//! One poll of all sources: the work of a cycle.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, yield_now};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::Instrument;

use crate::panics::{catch, discard, discard_logged, poll_caught};
use crate::runtime::Cause;
use crate::text::error_chain::chain;
use crate::text::one_line;
use crate::time::later;
use crate::{DynError, ObservedSource};

use super::PerSource;
use super::lines::NAME;
use super::state::{Answer, Failed, PerSourceState, panicked};

/// A poll begins probes and collects answers in steps. A step may run slow app code, so the poll yields and reads the
/// clock between slices of steps.
pub(super) struct SourcePoll<'a, S, V> {
    observer: &'a PerSource<S, V>,
    sources: &'a [ObservedSource<S>],
    state: &'a mut PerSourceState<V>,
    began: Instant,
    /// Probes with this ticket or a later one belong to this poll.
    first_ticket: u64,
    /// How many probes of this poll have not ended.
    begun: usize,
    ended: bool,
}

/// The work between two yields.
struct Slice {
    steps: u32,
    until: Instant,
    now: Instant,
    /// How many more steps are taken before the clock is read.
    unread: u32,
}

impl Slice {
    const STEPS: u32 = 64;
    const TIME: Duration = Duration::from_millis(1);
    /// How many steps pass without reading the clock, if the last one was shorter than `QUICK`.
    const UNREAD: u32 = 3;
    const QUICK: Duration = Duration::from_micros(20);

    fn new(now: Instant) -> Self {
        Self { steps: 0, until: now + Self::TIME, now, unread: 0 }
    }

    fn take_step(&mut self) -> bool {
        self.steps += 1;
        if self.unread > 0 {
            self.unread -= 1;
        } else {
            let before = std::mem::replace(&mut self.now, Instant::now());
            self.unread = if self.now - before < Self::QUICK { Self::UNREAD } else { 0 };
        }
        self.steps <= Self::STEPS && self.now < self.until
    }

    /// Reads the clock at the next step, since the task was suspended.
    fn is_old(&mut self) {
        self.unread = 0;
    }
}

impl<'a, S, V> SourcePoll<'a, S, V>
where
    S: Clone + Send + Sync + 'static,
    V: PartialEq + Send + Sync + 'static,
{
    pub(super) fn new(
        observer: &'a PerSource<S, V>,
        sources: &'a [ObservedSource<S>],
        state: &'a mut PerSourceState<V>,
    ) -> Self {
        state.begin_look(sources);
        let first_ticket = state.next_ticket;
        Self { observer, sources, state, began: Instant::now(), first_ticket, begun: 0, ended: false }
    }

    /// Gives each source its turn and collects answers, until all probes of this poll have ended or the time is over.
    /// Sources without a turn go first in the next poll.
    pub(super) async fn run(mut self) {
        let deadline = later(self.began, self.observer.patience.collect_for(&self.observer.settings));
        let mut enough = pin!(sleep_until(deadline));
        let mut turns = self.state.turns(self.observer.settings.concurrency).into_iter();
        let mut waiting = VecDeque::new();
        let mut slice = Slice::new(self.began);
        let mut may_have_ended = true;
        loop {
            if !slice.take_step() {
                if slice.now >= deadline {
                    break;
                }
                yield_now().await;
                slice = Slice::new(Instant::now());
                may_have_ended = true;
            }
            let now = slice.now;
            if may_have_ended {
                match self.state.probes.try_join_next() {
                    Some(ended) => self.collect(ended),
                    None => may_have_ended = false,
                }
            } else if self.has_room()
                && let Some(place) = waiting.pop_front()
            {
                self.begin(place, now);
            } else if let Some(place) = turns.next() {
                match (self.needs_probe(place, now), self.has_room()) {
                    (true, true) => self.begin(place, now),
                    (true, false) => waiting.push_back(place),
                    (false, _) => {}
                }
            } else if self.begun == 0 && waiting.is_empty() {
                break;
            } else {
                tokio::select! {
                    biased;
                    Some(ended) = self.state.probes.join_next() => self.collect(ended),
                    () = &mut enough => break,
                }
                slice.is_old();
            }
        }
        self.state.left_out = turns.len() + waiting.len() > 0;
        self.ended = true;
    }

    fn has_room(&self) -> bool {
        self.state.probes.len() < self.observer.settings.concurrency
    }

    /// Whether to begin a probe of the source; if not, its turn is over.
    fn needs_probe(&mut self, place: usize, now: Instant) -> bool {
        let needs = self.identify(place, now) && self.state.slots[place].in_flight.is_none();
        if !needs {
            self.state.ticket(place);
        }
        needs
    }

    /// Identifies the source once in each poll; false if its identity is unknown.
    fn identify(&mut self, place: usize, now: Instant) -> bool {
        let Some(identity) = &self.observer.identity else { return true };
        let slot = &mut self.state.slots[place];
        if slot.identified_in == self.state.looks {
            return slot.is_known;
        }
        slot.identified_in = self.state.looks;
        let found = catch(|| (**identity)(&self.sources[place].source));
        slot.is_known = found.is_ok();
        match found {
            Ok(identity) => self.state.identify(place, identity),
            Err(panic) => {
                // The probe in flight may belong to another source.
                slot.abort();
                self.state.failed(place, now, now, panicked(&panic));
            }
        }
        self.state.slots[place].is_known
    }

    fn begin(&mut self, place: usize, began: Instant) {
        let limit = self.observer.settings.probe_timeout;
        let source = Arc::clone(&self.state.layout.names[place]);
        let span = tracing::info_span!("probe", source = one_line(&source, NAME));
        // Calling the app's function runs app code too.
        let probe = span.in_scope(|| catch(|| (*self.observer.probe)(self.sources[place].clone())));
        let ticket = self.state.ticket(place);
        let probing = async move {
            let result = match probe {
                Ok(probe) => ended(limit, probe).await,
                Err(panic) => Err(panicked(&panic)),
            };
            Answer { source, place, ticket, began, ended: Instant::now(), result }
        };
        let abort = self.state.probes.spawn(probing.instrument(span));
        self.state.in_flight(place, ticket, abort, began);
        self.begun += 1;
    }

    fn collect(&mut self, ended: Result<Answer<V>, JoinError>) {
        let answer = match ended {
            Ok(answer) => answer,
            // An aborted probe has no answer, and an earlier poll began it.
            Err(aborted) => return discard_logged(aborted, "an aborted probe"),
        };
        self.begun -= usize::from(answer.ticket >= self.first_ticket);
        let place = self.state.place_of(&answer);
        // Another source may have the name now.
        if let Some(place) = place.filter(|place| self.identify(*place, answer.ended))
            && self.state.slots[place].has_in_flight(answer.ticket)
        {
            self.state.collect(place, answer);
        } else {
            discard_logged(answer.result, "an answer that came too late");
        }
    }
}

impl<S, V> Drop for SourcePoll<'_, S, V> {
    fn drop(&mut self) {
        self.state.lines.end();
        if self.ended {
            self.state.cut_off = 0;
        } else {
            self.state.cut_off += 1;
            self.observer.patience.was_cut_off_after(self.began.elapsed());
        }
    }
}

async fn ended<V>(
    limit: Duration,
    mut probe: impl Future<Output = Result<V, DynError>> + Unpin,
) -> Result<V, Failed> {
    let result = match timeout(limit, poll_fn(|context| poll_caught(Pin::new(&mut probe), context))).await {
        Ok(Ok(Ok(value))) => Ok(value),
        Ok(Ok(Err(error))) => Err(explained(error)),
        Ok(Err(panic)) => Err(panicked(&panic)),
        Err(_) => Err((Cause::TimedOut, format!("no answer within {limit:?}"))),
    };
    // If the task panicked, there would be no answer, and the source would never be probed again.
    let Some(panic) = discard(probe) else { return result };
    Err(match result {
        Ok(value) => {
            discard_logged(value, "an answer");
            panicked(&panic)
        }
        Err((_, message)) => (Cause::Panicked, format!("{message}; then its destructor panicked: {panic}")),
    })
}

/// An error's `Display` and destructor are app code.
fn explained(error: DynError) -> Failed {
    match (catch(|| chain(&*error)), discard(error)) {
        (Ok(message), None) => (Cause::Error, message),
        (Err(panic), _) | (Ok(_), Some(panic)) => panicked(&panic),
    }
}
