//! The condition of a node: when it has changed, and how it is printed.

use std::collections::VecDeque;
use std::mem::{Discriminant, discriminant};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::runtime::Cause;
use watchkeeper::source::ProbeFailure;
use watchkeeper::{ObservationFailure, ObservationFailureStage};
use watchkeeper_chain::adapter::ChainError;
use watchkeeper_chain::projection::wallet::Fault;
use watchkeeper_chain::{Agreement, NodeView};

/// So many returns to an earlier condition within the window are an alternation.
const MOST_RETURNS: usize = 3;
/// So many kinds are remembered: a change to one beyond them counts as a return.
const MOST_SEEN: usize = 16;
const SHORTEST_WINDOW: Duration = Duration::from_mins(1);
/// How much longer than three intervals the window is at most.
const LONGEST_BEYOND: Duration = Duration::from_mins(10);

/// What an error has in common with the next one of its kind: the texts of nodes have ids, hashes and times in them,
/// which differ at each look.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ErrorKind(Discriminant<ChainError>, Option<&'static str>);

impl ErrorKind {
    pub(super) fn of(error: &ChainError) -> Self {
        let method = match error {
            ChainError::Refused { method, .. }
            | ChainError::Pruned { method, .. }
            | ChainError::Busy { method, .. }
            | ChainError::RangeTooLarge { method, .. }
            | ChainError::Malformed { method, .. }
            | ChainError::Untrue { method, .. } => Some(*method),
            _ => None,
        };
        Self(discriminant(error), method)
    }
}

/// The error without the time that is left until the node may be asked: it would be out of date at once.
pub(super) fn lasting(error: ChainError) -> ChainError {
    match error {
        ChainError::RateLimited { endpoint, .. } => ChainError::RateLimited { endpoint, retry_after: None },
        ChainError::Unreachable { endpoint, reason } => {
            let reason = without_time(&reason).to_owned();
            ChainError::Unreachable { endpoint, reason }
        }
        error => error,
    }
}

/// The text of such an error without that time, which is at its end.
pub(super) fn without_time(text: &str) -> &str {
    let split = text.rsplit_once(": ask again in ");
    let is_time = |end: &str| {
        end.strip_suffix(" s").is_some_and(|time| time.bytes().all(|digit| digit.is_ascii_digit()))
    };
    split.filter(|(_, end)| is_time(end)).map_or(text, |(lasting, _)| lasting)
}

/// How long the node asks not to be asked.
pub(super) fn retry_after(error: &ChainError) -> Option<Duration> {
    match error {
        ChainError::RateLimited { retry_after, .. } => *retry_after,
        _ => None,
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Unasked,
    Undecided,
    Answers,
    BelowStart,
    Breached,
    OtherChain(String),
    Error(ErrorKind),
    /// Whether the connection for new heads is lost.
    Heads {
        lost: bool,
    },
    /// It does not return its head.
    Fails(Option<ErrorKind>, Option<Cause>),
    /// How the last cycle failed, if it did.
    Cycle(Option<(ObservationFailureStage, Cause)>),
    /// Why a wallet is unknown, if it is.
    Wallet(Option<Discriminant<Fault>>),
}

/// The condition of a node, of one kind for as long as nothing but details changes.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    kind: Kind,
    text: String,
}

impl Condition {
    pub(super) fn of(node: &NodeView) -> Self {
        let failure = node.health.facts.last_failure.as_ref().filter(|_| node.health.is_failing());
        let has_answered = node.health.facts.last_success.is_some();
        Self::seen(failure, node.error.as_ref(), node.head.is_some(), &node.agreement, has_answered)
    }

    fn seen(
        failure: Option<&Arc<ProbeFailure>>,
        error: Option<&ChainError>,
        has_head: bool,
        agreement: &Agreement,
        has_answered: bool,
    ) -> Self {
        let (kind, text) = match (failure, error, has_head, agreement) {
            (Some(failure), ..) => {
                let text = format!("fails: {}", without_time(&failure.to_string()));
                (Kind::Fails(error.map(ErrorKind::of), Some(failure.cause)), text)
            }
            // Before its errors: that it is not believed matters more.
            (None, error, _, Agreement::OtherChain(found)) => {
                let text = format!(
                    "answers, but is on chain {} ({:.8}), and not on the one that is followed{}",
                    found.id,
                    found.genesis,
                    besides(error)
                );
                (Kind::OtherChain(found.id.clone()), text)
            }
            (None, error, _, Agreement::Breached) => {
                let error = besides(error);
                let text =
                    format!("answers, but is on a branch without a block that is final: not believed{error}");
                (Kind::Breached, text)
            }
            // A node with a head has blocks, only not the one to begin with.
            (None, Some(ChainError::Empty { .. }), true, _) => {
                let text = "answers, but is still below where the observation is to begin";
                (Kind::BelowStart, text.to_owned())
            }
            (None, Some(error), ..) => {
                (Kind::Error(ErrorKind::of(error)), format!("answers, but: {}", lasting(error.clone())))
            }
            (None, None, true, _) => (Kind::Answers, "answers".to_owned()),
            (None, None, false, _) if has_answered => {
                (Kind::Undecided, "answers; it is not known yet which chain is followed".to_owned())
            }
            (None, None, false, _) => (Kind::Unasked, "has not answered yet".to_owned()),
        };
        Self { kind, text }
    }

    /// It is on another chain than the one that is searched for.
    pub(super) fn not_on(wanted: &str, found: &str) -> Self {
        let text = format!("is on chain {found}, not on {wanted}: not believed");
        Self { kind: Kind::OtherChain(found.to_owned()), text }
    }

    /// How it is printed.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Of the last cycle, by the way it failed: messages may differ each time.
    pub(super) fn cycle(failure: Option<&ObservationFailure>) -> Self {
        let kind = Kind::Cycle(failure.map(|failure| (failure.stage, failure.cause)));
        let text = failure.map_or_else(|| "the last cycle succeeded".to_owned(), ToString::to_string);
        Self { kind, text }
    }

    /// Of a wallet that is unknown for this reason, or known.
    pub(super) fn wallet(fault: Option<&Fault>, text: String) -> Self {
        Self { kind: Kind::Wallet(fault.map(discriminant)), text }
    }

    /// Of a connection for new heads.
    pub(super) fn heads(lost: bool, text: String) -> Self {
        Self { kind: Kind::Heads { lost }, text }
    }

    /// It does not report its chain.
    pub(super) fn failing(error: ChainError) -> Self {
        Self {
            kind: Kind::Fails(Some(ErrorKind::of(&error)), None),
            text: format!("fails: {}", lasting(error)),
        }
    }
}

/// What else is wrong with a node that is not believed.
fn besides(error: Option<&ChainError>) -> String {
    error.map_or_else(String::new, |error| format!("; besides: {}", lasting(error.clone())))
}

/// The conditions of one node over time: which of them are printed.
///
/// A condition is printed when its kind has changed. A node that alternates, such as one that fails at every second
/// look, is printed as alternating once. After that only conditions of another kind are printed, until it has been
/// steady for the window.
#[derive(Debug)]
pub(super) struct Conditions {
    window: Duration,
    last: Option<Kind>,
    /// Since when it is of that kind.
    since: Instant,
    /// The first kinds within the window, or since before it alternates, and when each was last so.
    seen: Vec<(Kind, Instant)>,
    /// When it last returned to one of them, within the window.
    returns: VecDeque<Instant>,
    alternates: bool,
    changed: bool,
}

/// Why a condition is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// It has changed, or has stayed after it alternated.
    Is,
    /// It alternates from now on: the next one is printed when it has stayed for this time, or is another kind.
    Alternates(Duration),
}

impl Conditions {
    /// Of a node that is asked once in an interval. The window is ten intervals, but at least a minute, and at most
    /// three intervals and ten minutes.
    pub(super) fn every(interval: Duration) -> Self {
        let longest = interval.saturating_mul(3).saturating_add(LONGEST_BEYOND);
        let window = interval.saturating_mul(10).min(longest).max(SHORTEST_WINDOW);
        let (seen, returns, since) = (Vec::new(), VecDeque::new(), Instant::now());
        Self { window, last: None, since, seen, returns, alternates: false, changed: false }
    }

    /// Whether the condition is not the first one.
    pub(super) fn has_changed(&self) -> bool {
        self.changed
    }

    /// Whether it was printed as alternating, and has not been steady since.
    pub(super) fn alternates(&self) -> bool {
        self.alternates
    }

    /// What is printed of the condition at this time; `None` if nothing is.
    pub(super) fn note(&mut self, now: Instant, condition: &Condition) -> Option<String> {
        let text = &condition.text;
        self.judge(now, condition).map(|note| match note {
            Note::Is => text.clone(),
            Note::Alternates(window) => {
                let window = humantime::format_duration(window);
                format!(
                    "alternates: its condition is printed again when it has stayed for {window}; for now it {text}"
                )
            }
        })
    }

    /// Whether the condition at this time is printed, and why.
    pub(super) fn judge(&mut self, now: Instant, Condition { kind, .. }: &Condition) -> Option<Note> {
        let is_new = self.last.as_ref() != Some(kind);
        let window = self.window;
        let is_recent = |at: Instant| now.saturating_duration_since(at) < window;
        if !self.alternates {
            self.seen.retain(|(_, at)| is_recent(*at));
            self.returns.retain(|at| is_recent(*at));
        }
        let seen = self.seen.iter().position(|(seen, _)| seen == kind);
        let is_another = seen.is_none() && self.seen.len() < MOST_SEEN;
        if is_new {
            self.changed = self.last.is_some();
            if !is_another {
                self.returns.push_back(now);
                self.returns.truncate(MOST_RETURNS);
            }
            (self.last, self.since) = (Some(kind.clone()), now);
        }
        match seen {
            Some(seen) => self.seen[seen].1 = now,
            None if is_another => self.seen.push((kind.clone(), now)),
            None => {}
        }
        if self.alternates {
            if is_recent(self.since) {
                return (is_new && is_another).then_some(Note::Is);
            }
            // What it returned to before that no longer counts.
            self.alternates = false;
            self.returns.clear();
            return Some(Note::Is);
        }
        if self.returns.len() < MOST_RETURNS {
            return is_new.then_some(Note::Is);
        }
        self.alternates = true;
        Some(Note::Alternates(self.window))
    }
}

#[cfg(test)]
mod tests;
