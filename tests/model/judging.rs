//! What each operator says of a recorded list of publications: judged anew from its beginning each time,
//! slow and plain.

use watchkeeper::{Inconclusive, State, StateKind, UnmetOutcome};

use crate::app::SOURCE_STALE_AFTER;
use crate::reference::{Batch, Snapshot};
use crate::waiting::{Publication, Verdict, Waiting, Want, Wish};

/// A publication that a wait has taken.
pub(crate) struct Seen {
    /// How many it had missed before.
    pub(crate) missed: u64,
    pub(crate) publication: Publication,
}

/// The verdict at `now` and when it could first be given; `None` while it is open.
///
/// `seen` begins with what was known when the wait was made; in all, `missed` publications were missed.
pub(crate) fn verdict(wait: &Waiting, seen: &[Seen], missed: u64, now: u64) -> Option<(u64, Verdict)> {
    let inside = seen.iter().take_while(|seen| seen.publication.at <= wait.deadline).count();
    // What was missed behind the window is no matter.
    let missed = seen.get(inside).map_or(missed, |behind| behind.missed);
    let story = Story { wait, seen: &seen[..inside], missed };
    if let Some(met) = story.remembered() {
        return Some((wait.began, met));
    }
    for place in 0..inside {
        let verdict = story.time_before(place).or_else(|| story.publication(place));
        if verdict.is_some() {
            return verdict;
        }
    }
    let is_over = inside < seen.len() || now >= wait.deadline;
    let until = now.min(wait.deadline);
    let aged = story.turned_stale(inside - 1, until).and_then(|at| story.stale(inside - 1, at));
    aged.or_else(|| is_over.then(|| (wait.deadline, story.end())))
}

/// All of it that lies in the window.
struct Story<'a> {
    wait: &'a Waiting,
    seen: &'a [Seen],
    missed: u64,
}

impl Story<'_> {
    fn at(&self, place: usize) -> &Publication {
        &self.seen[place].publication
    }

    /// The snapshot that this publication brings, if its cycle counts.
    fn brings(&self, place: usize) -> Option<&Snapshot> {
        let snapshot = self.at(place).snapshot.as_ref()?;
        let known = place.checked_sub(1).and_then(|before| self.at(before).snapshot.as_ref());
        let is_new = known.is_none_or(|known| known.cycle < snapshot.cycle);
        (is_new && snapshot.cycle >= self.wait.counts_from).then_some(&**snapshot)
    }

    /// The same, if it is fresh: what is stale neither passes nor fails.
    fn judges(&self, place: usize) -> Option<&Snapshot> {
        // Events from before the wait were judged with what was known with them.
        let is_reminded = place == 0 && self.remembers().next().is_some();
        self.brings(place).filter(|_| self.at(place).fresh || is_reminded)
    }

    /// How many snapshots were judged up to this place.
    fn judged(&self, place: usize) -> u64 {
        let judged = |place: &usize| match self.wait.want {
            Want::State(_) => self.state_counts(*place),
            _ => self.judges(*place).is_some(),
        };
        (0..=place).filter(judged).count() as u64
    }

    fn state_counts(&self, place: usize) -> bool {
        let publication = self.at(place);
        publication.cycle >= self.wait.counts_from || publication.state.kind() == StateKind::Stopped
    }

    /// Nothing was missed between this place and the one before.
    fn is_joined(&self, place: usize) -> bool {
        place == 0 || self.seen[place].missed == self.seen[place - 1].missed
    }

    /// When what was known at this place turned stale, if it did until then and all is known until then.
    fn turned_stale(&self, place: usize, until: u64) -> Option<u64> {
        let is_last = place + 1 == self.seen.len();
        let missed = if is_last { self.missed } else { self.seen[place + 1].missed };
        let stale_at = self.at(place).stale_at.filter(|stale_at| *stale_at <= until)?;
        (missed == self.seen[place].missed).then(|| stale_at.max(self.at(place).at))
    }

    /// Batches from before that count, and were fresh when they came.
    fn remembers(&self) -> impl Iterator<Item = &Batch> {
        let is_event = matches!(self.wait.want, Want::Event(..));
        let counts =
            move |(fresh, batch): &&(bool, Batch)| is_event && *fresh && batch.cycle >= self.wait.counts_from;
        self.wait.remembered.iter().filter(counts).map(|(_, batch)| batch)
    }

    fn remembered(&self) -> Option<Verdict> {
        self.remembers().find_map(|batch| self.event_in(batch))
    }

    fn event_in(&self, batch: &Batch) -> Option<Verdict> {
        let Want::Event(divisor, rest) = self.wait.want else { return None };
        if batch.cycle < self.wait.counts_from {
            return None;
        }
        let event = batch.events.iter().position(|event| Want::is_such_an_event(divisor, rest, *event))?;
        Some(Verdict::Met { cycle: batch.cycle, event: Some(event) })
    }

    /// What the time before this publication says.
    fn time_before(&self, place: usize) -> Option<(u64, Verdict)> {
        // What was known when the wait was made may be stale by then.
        let before = place.saturating_sub(1);
        let at = self.turned_stale(before, self.at(place).at)?;
        self.stale(before, at)
    }

    /// What it says that the data turned stale behind this place.
    fn stale(&self, place: usize, at: u64) -> Option<(u64, Verdict)> {
        match self.wait.want {
            Want::BecomesStale => Some((at, Verdict::Met { cycle: self.at(place).cycle, event: None })),
            Want::StaysFresh => {
                let violation = Some((at - self.wait.began, None));
                let judged = self.judged(place);
                Some((at, Verdict::Unmet { outcome: UnmetOutcome::Violated, judged, violation }))
            }
            _ => None,
        }
    }

    /// What this publication says.
    fn publication(&self, place: usize) -> Option<(u64, Verdict)> {
        let publication = self.at(place);
        let met = match self.wait.want {
            Want::State(kind) => (self.state_counts(place) && publication.state.kind() == kind)
                .then_some(Verdict::Met { cycle: publication.cycle, event: None }),
            Want::Event(..) => publication
                .batch
                .as_ref()
                .filter(|_| publication.fresh)
                .and_then(|batch| self.event_in(batch)),
            _ => self.judges(place).and_then(|snapshot| self.snapshot(place, snapshot)),
        };
        let said = match publication.state {
            State::Stopped { reason } => {
                let stopped = UnmetOutcome::Inconclusive(Inconclusive::Stopped { reason });
                met.or_else(|| Some(self.unmet(place, stopped)))
            }
            _ => met,
        };
        said.map(|verdict| (publication.at, verdict))
    }

    fn unmet(&self, place: usize, outcome: UnmetOutcome) -> Verdict {
        Verdict::Unmet { outcome, judged: self.judged(place), violation: None }
    }

    /// What a fresh snapshot that counts says.
    fn snapshot(&self, place: usize, snapshot: &Snapshot) -> Option<Verdict> {
        let polls = snapshot.view.memory.done;
        let met = match self.wait.want {
            Want::Polls(divisor, rest) => polls % divisor == rest,
            Want::NoPolls(divisor, rest, _) if polls % divisor == rest => {
                let violation = Some((self.at(place).at - self.wait.began, Some(snapshot.cycle)));
                let judged = self.judged(place);
                return Some(Verdict::Unmet { outcome: UnmetOutcome::Violated, judged, violation });
            }
            Want::Stable(divisor, hold) => self.same_for(place, divisor) >= Some(hold),
            Want::Source(name, wish) => self.source(place, name, wish),
            _ => false,
        };
        met.then_some(Verdict::Met { cycle: snapshot.cycle, event: None })
    }

    /// How long what is waited for has been the same at this place.
    fn same_for(&self, place: usize, divisor: u64) -> Option<u64> {
        let part = |place| self.judges(place).map(|snapshot| Want::part(divisor, snapshot.view.memory.done));
        let now = part(place)??;
        let mut since = place;
        for earlier in (0..place).rev() {
            // From here to what was looked at before, all must be known and nothing stale.
            let is_stale = self.turned_stale(earlier, self.at(earlier + 1).at).is_some();
            if is_stale || !self.is_joined(earlier + 1) {
                break;
            }
            match part(earlier) {
                Some(same) if same == Some(now) => since = earlier,
                Some(_) => break,
                None if self.brings(earlier).is_some() => break,
                None => {}
            }
        }
        Some(self.at(place).at - self.at(since).at)
    }

    fn source(&self, place: usize, name: &str, wish: Wish) -> bool {
        let publication = self.at(place);
        let is_there = |place: usize| self.at(place).names.iter().any(|known| known == name);
        let was_there = (0..place).any(|place| self.judges(place).is_some() && is_there(place));
        let Some(snapshot) = &publication.snapshot else { return false };
        let view = &snapshot.view;
        if matches!(wish, Wish::Vanished) {
            return (self.wait.known || was_there) && !is_there(place);
        }
        // A snapshot knows nothing of a source that joined behind it.
        if !is_there(place) || !view.names.iter().any(|known| known == name) {
            return false;
        }
        let age = snapshot.answered.map(|answered| publication.at - answered);
        match wish {
            Wish::Fresh => {
                let counts = self.wait.counts_since.is_none_or(|since| snapshot.answered >= Some(since));
                counts && age.is_some_and(|age| age < SOURCE_STALE_AFTER)
            }
            Wish::Stale => age.is_some_and(|age| age >= SOURCE_STALE_AFTER),
            _ => view.memory.is_failing(name) || publication.shared.iter().any(|shared| shared == name),
        }
    }

    /// The window is over.
    fn end(&self) -> Verdict {
        let last = self.seen.len() - 1;
        let publication = self.at(last);
        let holds = matches!(self.wait.want, Want::NoPolls(..) | Want::StaysFresh);
        let cycle = match self.wait.want {
            Want::NoPolls(..) => publication.snapshot.as_ref().map_or(0, |snapshot| snapshot.cycle),
            _ => publication.cycle,
        };
        match self.doubt() {
            Some(doubt) => self.unmet(last, UnmetOutcome::Inconclusive(doubt)),
            None if holds => Verdict::Met { cycle, event: None },
            None => self.unmet(last, UnmetOutcome::NotMet),
        }
    }

    /// Why nothing can be said at the end.
    fn doubt(&self) -> Option<Inconclusive> {
        let last = self.at(self.seen.len() - 1);
        let forgotten = if matches!(self.wait.want, Want::Event(..)) { self.wait.forgotten } else { 0 };
        let missed = self.missed + forgotten;
        let idle = if last.paused { Inconclusive::Paused } else { Inconclusive::NothingObserved };
        if missed > 0 {
            return Some(Inconclusive::FellBehind { missed });
        }
        match self.wait.want {
            Want::StaysFresh if self.at(0).stale_at.is_some() => None,
            Want::StaysFresh if last.stale_at.is_some() => Some(Inconclusive::NothingObserved),
            Want::BecomesStale if last.stale_at.is_some() => None,
            Want::StaysFresh | Want::BecomesStale => Some(idle),
            Want::NoPolls(..) if self.judged(self.seen.len() - 1) > 0 => {
                let is_stale = last.stale_at.is_none_or(|stale_at| stale_at <= self.wait.deadline);
                let doubt = if last.paused { Inconclusive::Paused } else { Inconclusive::Stale };
                is_stale.then_some(doubt)
            }
            _ if self.judged(self.seen.len() - 1) > 0 => None,
            _ if (0..self.seen.len()).any(|place| self.brings(place).is_some()) => Some(Inconclusive::Stale),
            _ => Some(idle),
        }
    }
}
