//! The machine of the escalation: pure, and compared with its table.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use watchkeeper::report::one_line;
use watchkeeper::supervise::{Delays, Failure, Machine, Out, Reaction};

use super::document::{EscalatedCluster, Letter, bounded, is_valid_id};
use super::ledger::{Ending, Entry, Ledger, Record};
use super::poster::{MOST_ERROR, Next, PostFailure};
use super::quota::Quota;
use super::status::{EscalationState, EscalationStatus, LastPosted};
use super::waiting::Waiting;
use crate::loops::cluster::Cluster;

/// What happens to the escalation.
#[derive(Clone, Debug)]
pub(super) enum EscalationEvent {
    /// The analysis has found clusters, at this time of the wall's clock.
    Sighted { clusters: Vec<Cluster>, at: Timestamp },
    /// The webhook has accepted the document.
    Posted,
    /// The attempt has failed.
    Failed(PostFailure),
    /// The outcome is written.
    Saved,
    /// The outcome is not written, or the work has failed in another way.
    Broke(String),
    /// The pause is over.
    Retry,
    /// A stop was requested, or the last handle was dropped.
    Drain,
}

/// What the worker does.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum EscalationCommand {
    /// Write the record, if there is one, and post the letter.
    Post { letter: Arc<Letter>, record: Option<Arc<Record>> },
    /// Write the record.
    Save(Arc<Record>),
}

/// What the machine asks of its supervisor.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Effect {
    Work(EscalationCommand),
    Finish,
}

/// How an event was judged.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Judged {
    Moved(Vec<Effect>),
    Stayed(Vec<Effect>),
    Rejected,
}

/// What does not change.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) threshold: u64,
    pub(super) cooldown: Duration,
    pub(super) attempts: u32,
    pub(super) posts_per_hour: u32,
    pub(super) longest_pause: Duration,
    /// How many clusters may wait.
    pub(super) room: usize,
    /// Ends each key, for a journal in memory: its sequences begin again with each process.
    pub(super) suffix: String,
}

#[derive(Clone, Debug)]
pub(super) struct EscalationMachine {
    rules: Rules,
    status: EscalationStatus,
    waiting: Waiting,
    ledger: Ledger,
    quota: Quota,
    /// Being posted, or to be posted after the pause.
    letter: Option<Arc<Letter>>,
    /// How often it was tried.
    attempts: u32,
    /// After the outcome is written, a pause follows.
    pauses: bool,
    delays: Delays,
    delay: Duration,
    /// The same moment on both clocks.
    anchor: (Instant, Timestamp),
}

impl EscalationMachine {
    /// A machine that goes on where `record` ended. `now` and `wall` are the same moment.
    pub(super) fn new(rules: Rules, delays: Delays, record: Record, now: Instant, wall: Timestamp) -> Self {
        let letter = record.pending.map(Arc::new);
        let ledger = Ledger::of(record.escalated, rules.cooldown, now, wall);
        let used = ledger.ended_within_an_hour(wall) + u32::from(letter.is_some());
        let state = if letter.is_some() { EscalationState::Posting } else { EscalationState::Idle };
        Self {
            status: EscalationStatus::new(state, text(wall)),
            waiting: Waiting::new(rules.room),
            ledger,
            quota: Quota::new(rules.posts_per_hour, used, now),
            letter,
            attempts: 0,
            pauses: false,
            delays,
            delay: Duration::ZERO,
            anchor: (now, wall),
            rules,
        }
    }

    /// The commands of its first state.
    pub(super) fn begin(&mut self) -> Vec<Effect> {
        // It is in the record that was read.
        self.letter.clone().map(|letter| self.attempt(letter, None)).into_iter().collect()
    }

    pub(super) fn judge(&mut self, event: EscalationEvent, now: Instant) -> Judged {
        use EscalationEvent as On;
        use EscalationState::{BackingOff, Draining, Idle, Limited, Posting, Recording, Refused, Stopped};
        match (self.status.state, event) {
            (Stopped, _) => Judged::Rejected,
            (state, On::Sighted { clusters, at }) => {
                self.anchor = (now, at);
                if state != Draining {
                    self.sighted(&clusters, now);
                }
                if state == Idle && !self.waiting.is_empty() {
                    self.next(now)
                } else {
                    Judged::Stayed(vec![])
                }
            }
            (Posting, On::Posted) => {
                self.posted(now);
                let save = self.save();
                self.go(Recording, now, vec![save])
            }
            (Posting, On::Failed(failure)) => self.failed(failure, now),
            (Posting, On::Broke(message)) => {
                self.failed(PostFailure { next: Next::Retry { after: Duration::ZERO }, message }, now)
            }
            (Recording, On::Saved) => self.recorded(now),
            (Recording, On::Broke(message)) => {
                self.status.last_error = Some(message);
                self.recorded(now)
            }
            (BackingOff | Refused | Limited, On::Retry) => self.next(now),
            (Posting | Recording, On::Drain) => self.go(Draining, now, vec![]),
            (Draining, On::Drain) => Judged::Stayed(vec![]),
            // What failed is in the record: it is posted by the next process.
            (Draining, On::Posted) if self.letter.is_some() => {
                self.posted(now);
                Judged::Stayed(vec![self.save()])
            }
            (Draining, On::Failed(PostFailure { message, .. })) if self.letter.is_some() => {
                self.status.last_error = Some(message);
                self.go(Stopped, now, vec![Effect::Finish])
            }
            (Draining, On::Broke(message)) => {
                self.status.last_error = Some(message);
                self.go(Stopped, now, vec![Effect::Finish])
            }
            (Draining, On::Saved) if self.letter.is_none() => self.go(Stopped, now, vec![Effect::Finish]),
            (Idle | BackingOff | Refused | Limited, On::Drain) => self.go(Stopped, now, vec![Effect::Finish]),
            _ => Judged::Rejected,
        }
    }

    fn sighted(&mut self, clusters: &[Cluster], now: Instant) {
        for cluster in clusters {
            let is_new = cluster.count >= self.rules.threshold
                && is_valid_id(&cluster.id)
                && self.letter.as_ref().is_none_or(|letter| letter.document.cluster.id != cluster.id)
                && self.ledger.allows(&cluster.id, cluster.last_sequence, now);
            if is_new && self.waiting.put(bounded(cluster)) {
                self.status.dropped += 1;
            }
        }
        self.status.waiting = self.waiting.len();
    }

    /// Posts the letter that is there, or the next cluster.
    fn next(&mut self, now: Instant) -> Judged {
        if let Some(letter) = self.letter.clone() {
            let attempt = self.attempt(letter, None);
            return self.go(EscalationState::Posting, now, vec![attempt]);
        }
        if self.waiting.is_empty() {
            return self.go(EscalationState::Idle, now, vec![]);
        }
        if let Err(wait) = self.quota.take(now) {
            self.delay = wait;
            return self.go(EscalationState::Limited, now, vec![]);
        }
        let Some(cluster) = self.waiting.take() else {
            return self.go(EscalationState::Idle, now, vec![]);
        };
        self.status.waiting = self.waiting.len();
        let given_up = self.ledger.given_up(&cluster.id, cluster.last_sequence);
        let again = given_up.map(|at| format!("-{}", at.as_millisecond())).unwrap_or_default();
        let letter = Arc::new(Letter {
            key: format!("{}-{}{again}{}", cluster.id, cluster.last_sequence, self.rules.suffix),
            document: EscalatedCluster {
                cluster,
                threshold: self.rules.threshold,
                posted_at: text(self.wall(now)),
                service: "observerd".to_owned(),
            },
        });
        self.letter = Some(Arc::clone(&letter));
        let record = Arc::new(self.ledger.record(Some((*letter).clone())));
        let attempt = self.attempt(letter, Some(record));
        self.go(EscalationState::Posting, now, vec![attempt])
    }

    fn attempt(&mut self, letter: Arc<Letter>, record: Option<Arc<Record>>) -> Effect {
        self.attempts = self.attempts.saturating_add(1);
        Effect::Work(EscalationCommand::Post { letter, record })
    }

    fn save(&self) -> Effect {
        let pending = self.letter.as_ref().map(|letter| (**letter).clone());
        Effect::Work(EscalationCommand::Save(Arc::new(self.ledger.record(pending))))
    }

    fn posted(&mut self, now: Instant) {
        if let Some(entry) = self.end(Ending::Posted, now) {
            let Entry { id, sequence, at, .. } = entry;
            self.status.last_posted = Some(LastPosted { id, sequence, at: text(at) });
        }
        self.status.posted += 1;
        (self.status.consecutive_failures, self.status.failing, self.pauses) = (0, false, false);
        self.delays.reset();
    }

    /// The letter is done with, and cools down.
    fn end(&mut self, ending: Ending, now: Instant) -> Option<Entry> {
        self.attempts = 0;
        let letter = self.letter.take()?;
        let Cluster { id, last_sequence, .. } = &letter.document.cluster;
        let entry = Entry { id: id.clone(), sequence: *last_sequence, at: self.wall(now), ending };
        self.ledger.ended(entry.clone(), now);
        Some(entry)
    }

    fn failed(&mut self, failure: PostFailure, now: Instant) -> Judged {
        self.status.last_error = Some(failure.message);
        self.status.consecutive_failures += 1;
        self.status.failing |= self.status.consecutive_failures > 1;
        match failure.next {
            Next::Retry { after } if self.attempts < self.rules.attempts => {
                self.delay = self.delays.next(now).max(after.min(self.rules.longest_pause));
                self.go(EscalationState::BackingOff, now, vec![])
            }
            Next::Retry { .. } | Next::GiveUp => {
                self.end(Ending::Failed, now);
                self.status.failed += 1;
                (self.status.failing, self.pauses) = (true, true);
                self.delay = self.delays.next(now);
                let save = self.save();
                self.go(EscalationState::Recording, now, vec![save])
            }
            Next::Refused => {
                (self.status.failing, self.attempts) = (true, 0);
                self.delay = self.rules.longest_pause;
                self.go(EscalationState::Refused, now, vec![])
            }
        }
    }

    fn recorded(&mut self, now: Instant) -> Judged {
        if self.pauses {
            self.pauses = false;
            self.go(EscalationState::BackingOff, now, vec![])
        } else {
            self.next(now)
        }
    }

    fn go(&mut self, state: EscalationState, now: Instant, effects: Vec<Effect>) -> Judged {
        (self.status.state, self.status.since) = (state, text(self.wall(now)));
        Judged::Moved(effects)
    }

    fn wall(&self, now: Instant) -> Timestamp {
        let (then, wall) = self.anchor;
        let wall = wall.checked_add(now.saturating_duration_since(then)).unwrap_or(wall);
        // Milliseconds are enough.
        Timestamp::from_millisecond(wall.as_millisecond()).unwrap_or(wall)
    }

    #[cfg(test)]
    pub(super) fn key(&self, now: Instant) -> (EscalationState, bool, u32, usize, bool, u128) {
        let left = self.quota.left(now);
        (self.status.state, self.letter.is_some(), self.attempts, self.waiting.len(), self.pauses, left)
    }
}

fn text(time: Timestamp) -> String {
    time.to_string()
}

impl Machine for EscalationMachine {
    type State = EscalationStatus;
    type Event = EscalationEvent;
    type Command = EscalationCommand;

    fn state(&self) -> EscalationStatus {
        self.status.clone()
    }

    fn start(&mut self, out: &mut Out<EscalationCommand>) {
        ask(self.begin(), out);
    }

    fn handle(
        &mut self,
        event: EscalationEvent,
        out: &mut Out<EscalationCommand>,
    ) -> Reaction<EscalationEvent> {
        match self.judge(event.clone(), out.now()) {
            Judged::Moved(effects) => {
                ask(effects, out);
                Reaction::Moved
            }
            Judged::Stayed(effects) => {
                ask(effects, out);
                Reaction::Stayed
            }
            Judged::Rejected => Reaction::Unhandled(event),
        }
    }

    fn timeout(&self) -> Option<(Duration, EscalationEvent)> {
        use EscalationState::{BackingOff, Limited, Refused};
        let waits = matches!(self.status.state, BackingOff | Refused | Limited);
        waits.then_some((self.delay, EscalationEvent::Retry))
    }

    fn on_failure(&self, failure: &Failure) -> Option<EscalationEvent> {
        Some(EscalationEvent::Broke(one_line(failure.message(), MOST_ERROR)))
    }

    fn on_stop(&self) -> Option<EscalationEvent> {
        Some(EscalationEvent::Drain)
    }

    fn on_abandoned(&self) -> Option<EscalationEvent> {
        Some(EscalationEvent::Drain)
    }
}

fn ask(effects: Vec<Effect>, out: &mut Out<EscalationCommand>) {
    for effect in effects {
        match effect {
            Effect::Work(command) => out.run(command),
            Effect::Finish => out.finish(),
        }
    }
}
