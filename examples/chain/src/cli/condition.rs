//! The condition of a node: when it has changed, and how it is printed.

use std::collections::VecDeque;
use std::mem::{Discriminant, discriminant};
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::runtime::Cause;
use watchkeeper_chain::adapter::ChainError;
use watchkeeper_chain::{Agreement, NodeView};

/// So many returns to an earlier condition within the window are an alternation.
const MOST_RETURNS: usize = 3;
const SHORTEST_WINDOW: Duration = Duration::from_mins(1);

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
        error => error,
    }
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
        let error = || node.error.as_ref().map(ErrorKind::of);
        let (kind, text) = match (failure, &node.error, node.head, &node.agreement) {
            (Some(failure), ..) => (Kind::Fails(error(), Some(failure.cause)), format!("fails: {failure}")),
            // A node with a head has blocks, only not the one to begin with.
            (None, Some(ChainError::Empty { .. }), Some(_), _) => {
                let text = "answers, but is still below where the observation is to begin";
                (Kind::BelowStart, text.to_owned())
            }
            (None, Some(error), ..) => {
                (Kind::Error(ErrorKind::of(error)), format!("answers, but: {}", lasting(error.clone())))
            }
            (None, None, _, Agreement::OtherChain(found)) => {
                let text = format!(
                    "answers, but is on chain {} ({:.8}), and not on the one that is followed",
                    found.id, found.genesis
                );
                (Kind::OtherChain(found.id.clone()), text)
            }
            (None, None, _, Agreement::Breached) => {
                let text = "answers, but is on a branch without a block that is final: not believed";
                (Kind::Breached, text.to_owned())
            }
            (None, None, Some(_), _) => (Kind::Answers, "answers".to_owned()),
            (None, None, None, _) if node.health.facts.last_success.is_some() => {
                (Kind::Undecided, "answers; it is not known yet which chain is followed".to_owned())
            }
            (None, None, None, _) => (Kind::Unasked, "has not answered yet".to_owned()),
        };
        Self { kind, text }
    }

    /// It is on a chain of another id than the one that is searched for.
    pub(super) fn not_on(wanted: &str, found: &str) -> Self {
        let text = format!("is on chain {found}, not on {wanted}: not believed");
        Self { kind: Kind::OtherChain(found.to_owned()), text }
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

/// The conditions of one node over time: which of them are printed.
///
/// A condition is printed when its kind has changed. A node that alternates, such as one that fails at every second
/// look, is printed as alternating once, and then not before it has been steady for the window.
#[derive(Debug)]
pub(super) struct Conditions {
    window: Duration,
    last: Option<Kind>,
    /// Since when it is of that kind.
    since: Instant,
    /// The kinds within the window, and when each was last so.
    seen: Vec<(Kind, Instant)>,
    /// When it returned to one of them, within the window.
    returns: VecDeque<Instant>,
    alternates: bool,
    changed: bool,
}

impl Conditions {
    /// Of a node that is asked once in an interval. The window is a minute, and ten intervals if that is longer.
    pub(super) fn every(interval: Duration) -> Self {
        let window = SHORTEST_WINDOW.max(interval.saturating_mul(10));
        let (seen, returns, since) = (Vec::new(), VecDeque::new(), Instant::now());
        Self { window, last: None, since, seen, returns, alternates: false, changed: false }
    }

    /// Whether the condition is not the first one.
    pub(super) fn has_changed(&self) -> bool {
        self.changed
    }

    /// What is printed of the condition at this time; `None` if nothing is.
    pub(super) fn note(&mut self, now: Instant, condition: &Condition) -> Option<String> {
        let Condition { kind, text } = condition;
        let is_new = self.last.as_ref() != Some(kind);
        let window = self.window;
        let is_recent = |at: Instant| now.saturating_duration_since(at) < window;
        self.seen.retain(|(_, at)| is_recent(*at));
        self.returns.retain(|at| is_recent(*at));
        if is_new {
            self.changed = self.last.is_some();
            if self.seen.iter().any(|(seen, _)| seen == kind) {
                self.returns.push_back(now);
            }
            (self.last, self.since) = (Some(kind.clone()), now);
        }
        self.seen.retain(|(seen, _)| seen != kind);
        self.seen.push((kind.clone(), now));
        if self.alternates {
            self.alternates = is_recent(self.since);
            return (!self.alternates).then(|| text.clone());
        }
        if self.returns.len() < MOST_RETURNS {
            return is_new.then(|| text.clone());
        }
        self.alternates = true;
        let window = humantime::format_duration(self.window);
        Some(format!(
            "alternates: its condition is printed again when it has stayed for {window}; for now it {text}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use watchkeeper_chain::Hash;
    use watchkeeper_chain::adapter::ChainIdentity;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn refused(method: &'static str, reason: &str) -> Condition {
        let (endpoint, reason) = ("http://node.example:80".to_owned(), reason.to_owned());
        Condition::failing(ChainError::Refused { endpoint, method, reason })
    }

    fn limited(seconds: u64) -> Condition {
        let retry_after = Some(Duration::from_secs(seconds));
        Condition::failing(ChainError::RateLimited { endpoint: String::new(), retry_after })
    }

    fn untrue(reason: &str) -> Condition {
        let (endpoint, reason) = (String::new(), reason.to_owned());
        Condition::failing(ChainError::Untrue { endpoint, method: "eth_getBlockByHash", reason })
    }

    /// Two conditions, and whether the second one is printed after the first.
    #[test]
    fn a_condition_is_printed_when_its_kind_changes_and_not_its_text() {
        let other = |id: &str| Condition::not_on("1", id);
        let other_genesis = ChainIdentity { id: "5".to_owned(), genesis: Hash([5; 32]) };
        for (first, second, is_printed) in [
            (
                refused("eth_getBlockByNumber", "request 1"),
                refused("eth_getBlockByNumber", "request 2"),
                false,
            ),
            (refused("eth_getBlockByNumber", "request 1"), refused("eth_chainId", "request 1"), true),
            (limited(7), limited(6), false),
            (limited(7), refused("eth_chainId", "7"), true),
            (untrue("block 0123 at height 7"), untrue("block 4567 at height 8"), false),
            (untrue("block 0123"), refused("eth_getBlockByHash", "block 0123"), true),
            (other("5"), other(&other_genesis.id), false),
            (other("5"), other("7"), true),
        ] {
            let now = Instant::now();
            let mut conditions = Conditions::every(SECOND);
            assert_eq!(conditions.note(now, &first), Some(first.text.clone()));
            let printed = conditions.note(now + SECOND, &second);
            assert_eq!(printed, is_printed.then(|| second.text.clone()), "{first:?} {second:?}");
        }
    }

    /// ```text
    /// looks:    fails, answers, fails, ... once a second for five minutes | then it answers
    /// printed:  4 lines, "alternates"                                       after a minute "answers"
    /// ```
    #[test]
    fn a_node_that_alternates_is_printed_as_such_once_and_again_when_it_is_steady() {
        let fails = refused("eth_getBlockByNumber", "later");
        let answers = Condition { kind: Kind::Answers, text: "answers".to_owned() };
        let (began, mut conditions) = (Instant::now(), Conditions::every(SECOND));
        let mut printed = Vec::new();
        for second in 0..500 {
            let condition = if second < 300 && second % 2 == 0 { &fails } else { &answers };
            let line = conditions.note(began + SECOND * second, condition);
            printed.extend(line.map(|line| (second, line)));
        }
        let seconds: Vec<_> = printed.iter().map(|(second, _)| *second).collect();
        assert_eq!(seconds, [0, 1, 2, 3, 4, 359], "{printed:#?}");
        let expected = format!(
            "alternates: its condition is printed again when it has stayed for 1m; for now it {}",
            fails.text
        );
        assert_eq!((&printed[4].1, &*printed[5].1), (&expected, "answers"));
    }

    /// A node that is asked each 20 s changes three times a minute.
    #[test]
    fn an_alternation_is_noticed_at_long_intervals_too() {
        let conditions = [limited(1), untrue("block 1")];
        let (interval, began) = (20 * SECOND, Instant::now());
        let mut printing = Conditions::every(interval);
        let looks = (0_u32..100).zip(conditions.iter().cycle());
        let printed =
            looks.filter_map(|(look, condition)| printing.note(began + interval * look, condition)).count();
        assert_eq!(printed, 5);
    }

    /// One that is asked for its chain again each 30 s, and has no error meanwhile.
    #[test]
    fn a_condition_that_comes_back_twice_a_minute_alternates() {
        let (began, mut printing) = (Instant::now(), Conditions::every(SECOND));
        let looks = (0..600_u32).map(|second| (second, second % 30 == 0));
        let condition = |is_asked| if is_asked { limited(1) } else { untrue("block 1") };
        let printed = looks
            .filter_map(|(second, is_asked)| printing.note(began + SECOND * second, &condition(is_asked)));
        assert_eq!(printed.count(), 5);
    }

    #[test]
    fn changes_that_are_far_apart_are_all_printed() {
        let conditions = [limited(1), untrue("block 1")];
        let (began, mut printing) = (Instant::now(), Conditions::every(SECOND));
        let changes = (0_u32..100).zip(conditions.iter().cycle());
        let far = changes.filter_map(|(nth, condition)| printing.note(began + 40 * SECOND * nth, condition));
        assert_eq!(far.count(), 100);
    }
}
