//! The verdict of each operator on a recorded list of publications: judged from its beginning each time,
//! slowly and plainly.

use watchkeeper::runtime::{State, StateKind};
use watchkeeper::wait::{Inconclusive, UnmetOutcome};

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
    // What was missed after the window does not count.
    let missed = seen.get(inside).map_or(missed, |after| after.missed);
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

/// Whether each source was heard by what was known when the wait was made, as far as that counts.
pub(crate) fn all_heard_at_once(wait: &Waiting, seen: &[Seen]) -> bool {
    Story { wait, seen: &seen[..1], missed: 0 }.has_heard_all(0)
}

/// All that lies in the window.
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
        let is_whole = !self.needs_all() || self.has_heard_all(place);
        self.brings(place).filter(|_| (self.at(place).fresh || is_reminded) && is_whole)
    }

    /// A part of the sources is not enough.
    fn needs_all(&self) -> bool {
        matches!(self.wait.want, Want::NoPolls(..) | Want::Stable(..))
    }

    /// How many snapshots were judged up to this place.
    fn judged(&self, place: usize) -> u64 {
        let judged = |place: &usize| match self.wait.want {
            Want::State(_) => self.state_counts(*place),
            Want::Source(_, Wish::Vanished) | Want::Set(_) => self.set_counts(*place),
            _ => self.judges(*place).is_some(),
        };
        (0..=place).filter(judged).count() as u64
    }

    /// This publication brings a set of a cycle that counts.
    fn set_counts(&self, place: usize) -> bool {
        let known = place.checked_sub(1).map(|before| self.at(before).set_cycle);
        known.is_none_or(|known| known < self.at(place).set_cycle)
            && self.at(place).set_cycle >= Some(self.wait.counts_from)
    }

    /// What the sources answered by this snapshot, as far as they were asked since the start. What was asked at that
    /// very moment was asked before, unless a cycle that counts began then too.
    fn answered(&self, place: usize, snapshot: &Snapshot) -> Option<u64> {
        let Some(since) = self.wait.counts_since else { return snapshot.answered };
        let began_then = |place: usize| {
            let judged = self.brings(place).filter(|_| self.at(place).fresh);
            judged.is_some_and(|snapshot| snapshot.at - snapshot.elapsed <= since)
        };
        let is_met_by_a_cycle = (0..=place).any(began_then);
        let counts = |answered: &u64| *answered > since || (is_met_by_a_cycle && *answered == since);
        snapshot.answered.filter(counts)
    }

    /// Each source of the set has answered since the start, or fails: by this place, or by one before.
    fn has_heard_all(&self, place: usize) -> bool {
        self.wait.counts_since.is_none() || (0..=place).any(|place| self.hears_all(place))
    }

    fn hears_all(&self, place: usize) -> bool {
        let Some(snapshot) = self.brings(place).filter(|_| self.at(place).fresh) else { return false };
        let names = &self.at(place).names;
        let is_known = |name: &&String| snapshot.view.names.contains(name);
        let answered = self.answered(place, snapshot).is_some();
        let is_heard = |name: &String| is_known(&name) && (answered || snapshot.view.memory.is_failing(name));
        names.iter().all(is_heard) || !names.iter().any(|name| is_known(&name))
    }

    fn state_counts(&self, place: usize) -> bool {
        let publication = self.at(place);
        publication.cycle >= self.wait.counts_from || publication.state.kind() == StateKind::Stopped
    }

    /// A snapshot counts, and not all sources have been heard by then.
    fn is_a_part(&self, place: usize) -> bool {
        self.brings(place).is_some() && self.at(place).fresh && !self.has_heard_all(place)
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

    /// The verdict by the time before this publication.
    fn time_before(&self, place: usize) -> Option<(u64, Verdict)> {
        // What was known when the wait was made may be stale by then.
        let before = place.saturating_sub(1);
        let at = self.turned_stale(before, self.at(place).at)?;
        self.stale(before, at)
    }

    /// The verdict on data that turned stale after this place.
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

    /// The verdict by this publication.
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
            Want::Source(name, Wish::Vanished) => {
                self.vanished(place, name).then_some(Verdict::Met { cycle: publication.cycle, event: None })
            }
            Want::Set(count) => (self.set_counts(place) && publication.names.len() == count)
                .then_some(Verdict::Met { cycle: publication.cycle, event: None }),
            _ => self.judges(place).and_then(|snapshot| self.snapshot(place, snapshot)),
        };
        let verdict = match publication.state {
            State::Stopped { reason } => {
                let stopped = UnmetOutcome::Inconclusive(Inconclusive::Stopped { reason });
                met.or_else(|| Some(self.unmet(place, stopped)))
            }
            _ => met,
        };
        verdict.map(|verdict| (publication.at, verdict))
    }

    fn unmet(&self, place: usize, outcome: UnmetOutcome) -> Verdict {
        Verdict::Unmet { outcome, judged: self.judged(place), violation: None }
    }

    /// The verdict by a fresh snapshot that counts.
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
            Want::Answer => self.answered(place, snapshot).is_some(),
            _ => false,
        };
        met.then_some(Verdict::Met { cycle: snapshot.cycle, event: None })
    }

    /// How long what is waited for has been the same at this place.
    fn same_for(&self, place: usize, divisor: u64) -> Option<u64> {
        Some(self.at(place).at - self.same_since(place, divisor)?)
    }

    /// Since when what is waited for has been the same at the end, all being known and fresh until then.
    fn same_until_the_end(&self, divisor: u64) -> Option<u64> {
        let last = (0..self.seen.len()).rev().find(|place| self.judges(*place).is_some())?;
        let is_known = |place: usize| {
            let until = self.seen.get(place + 1).map_or(self.wait.deadline, |next| next.publication.at);
            let stale = self.turned_stale(place, until).is_some();
            let missed = self.seen.get(place + 1).map_or(self.missed, |next| next.missed);
            !stale && missed == self.seen[place].missed
        };
        (last..self.seen.len()).all(is_known).then(|| self.same_since(last, divisor)).flatten()
    }

    fn same_since(&self, place: usize, divisor: u64) -> Option<u64> {
        let part = |place| self.judges(place).map(|snapshot| Want::part(divisor, snapshot.view.memory.done));
        let now = part(place)??;
        let mut since = place;
        for earlier in (0..place).rev() {
            // From here to the snapshot judged before, all must be known and nothing stale.
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
        Some(self.at(since).at)
    }

    /// A source that was in the set has left it in a cycle that counts.
    fn vanished(&self, place: usize, name: &str) -> bool {
        let mut known = self.wait.known;
        let left = |place: usize| {
            let was_known = known;
            let is_there = self.at(place).names.iter().any(|there| there == name);
            known |= is_there;
            was_known && !is_there && self.set_counts(place)
        };
        self.wait.left || (0..=place).any(left)
    }

    fn source(&self, place: usize, name: &str, wish: Wish) -> bool {
        let publication = self.at(place);
        let Some(snapshot) = &publication.snapshot else { return false };
        let view = &snapshot.view;
        // A snapshot does not have a source that joined after it.
        let is_there = publication.names.iter().any(|known| known == name);
        if !is_there || !view.names.iter().any(|known| known == name) {
            return false;
        }
        let age = |answered: Option<u64>| answered.map(|answered| publication.at - answered);
        let fails = view.memory.is_failing(name);
        match wish {
            Wish::Fresh => {
                let age = age(self.answered(place, snapshot));
                age.is_some_and(|age| age < SOURCE_STALE_AFTER) && !fails
            }
            // Whenever it was asked.
            Wish::Stale => age(snapshot.answered).is_some_and(|age| age >= SOURCE_STALE_AFTER),
            _ => fails || publication.shared.iter().any(|shared| shared == name),
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
        if let Want::Stable(divisor, hold) = self.wait.want
            && let Some(since) = self.same_until_the_end(divisor)
            && self.wait.deadline - since >= hold
        {
            let judged = (0..=last).rev().find_map(|place| self.judges(place));
            return Verdict::Met { cycle: judged.map_or(0, |snapshot| snapshot.cycle), event: None };
        }
        match self.doubt() {
            Some(doubt) => self.unmet(last, UnmetOutcome::Inconclusive(doubt)),
            None if holds => Verdict::Met { cycle, event: None },
            None => self.unmet(last, UnmetOutcome::NotMet),
        }
    }

    /// Why it is inconclusive at the end.
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
            Want::Source(_, Wish::Vanished) | Want::Set(_) => Some(idle),
            _ if self.needs_all() && (0..self.seen.len()).any(|place| self.is_a_part(place)) => {
                Some(Inconclusive::SourcesNotAsked)
            }
            _ if (0..self.seen.len()).any(|place| self.brings(place).is_some()) => Some(Inconclusive::Stale),
            _ => Some(idle),
        }
    }
}
