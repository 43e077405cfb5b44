//! Why a step failed.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use watchkeeper::ObservationFailure;
use watchkeeper::group::GroupError;
use watchkeeper::report::{names, one_line};
use watchkeeper::runtime::{ControlError, StateKind};
use watchkeeper::wait::{Inconclusive, Unmet, UnmetOutcome};

use crate::shown::{LIST, WORDS, listed, quoted};

/// How many failures or reports are shown.
const MANY: usize = 10;
/// Of one failure.
const FAILURE: usize = 500;

/// Why a step failed.
///
/// Its text is shown in the report of the scenario: the words of the step and what was found, bounded and escaped, with
/// all causes. `Debug` prints the same, so that `unwrap` in a test shows it.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// No observer has this name.
    #[error(
        "no observer is called {}; {}",
        quoted(name, WORDS),
        known_or_none(
            known,
            "the scenario's observers are",
            "the scenario has none: add one in a Given step, or share the suite's"
        )
    )]
    UnknownObserver {
        /// The word in the step.
        name: String,
        /// The names of the observers.
        known: Vec<Arc<str>>,
    },
    /// The observer was not added.
    #[error(transparent)]
    Refused(#[from] GroupError),
    /// The time cannot be read, is zero, or is over 24 h.
    #[error(
        "{} is no time to wait: {mistake}; write it such as \"5 seconds\", \"500 ms\" or \"1 minute and 5 seconds\"",
        quoted(given, WORDS)
    )]
    Duration {
        /// The word in the step.
        given: String,
        /// What is wrong with it.
        mistake: String,
    },
    /// The count is out of range.
    #[error("{} {what} cannot be waited for: the count must {}", one_line(given, WORDS), in_range(given, *least))]
    Count {
        /// The word in the step.
        given: String,
        /// What is counted.
        what: &'static str,
        /// The smallest valid count.
        least: u64,
    },
    /// No state has this name.
    #[error("no state is called {}; the states are {}", quoted(name, WORDS), states())]
    UnknownState {
        /// The word in the step.
        name: String,
    },
    /// This is no condition of a source.
    #[error("a source cannot be waited to be {}; it can be fresh, stale or failing", quoted(name, WORDS))]
    UnknownCondition {
        /// The word in the step.
        name: String,
    },
    /// No source had this name when the window was over.
    #[error(
        "no source of the observer {} is called {}; {}\n{report}",
        quoted(observer, WORDS),
        quoted(name, WORDS),
        known_or_none(known, "its sources are", "it has none")
    )]
    UnknownSource {
        /// Which observer.
        observer: String,
        /// The word in the step.
        name: String,
        /// The sources at the end of the window.
        known: Vec<Arc<str>>,
        /// The wait.
        report: Unmet,
    },
    /// The loop runs, and no source has ever answered.
    #[error(
        "the observer {} runs, but none of its sources has ever answered: {why}{}",
        quoted(observer, WORDS),
        report.as_ref().map(|report| format!("\n{report}")).unwrap_or_default()
    )]
    NeverAnswered {
        /// Which observer.
        observer: String,
        /// What is known about its sources.
        why: String,
        /// The wait, if it was not met.
        report: Option<Unmet>,
    },
    /// The loop runs, and all sources are silent or fail.
    #[error(
        "the observer {} runs, but none of its sources answers now: {why}{}",
        quoted(observer, WORDS),
        report.as_ref().map(|report| format!("\n{report}")).unwrap_or_default()
    )]
    NotAnswering {
        /// Which observer.
        observer: String,
        /// What is known about its sources.
        why: String,
        /// The wait, if it was not met.
        report: Option<Unmet>,
    },
    /// The loop runs, and there are no sources.
    #[error(
        "the observer {} runs, but has no sources, so that nothing is known: let its provider return some{}",
        quoted(observer, WORDS),
        report.as_ref().map(|report| format!("\n{report}")).unwrap_or_default()
    )]
    NoSources {
        /// Which observer.
        observer: String,
        /// The wait, if it was not met.
        report: Option<Unmet>,
    },
    /// The text is no JSON pointer.
    #[error("{} is no JSON pointer: {mistake}", quoted(pointer, WORDS))]
    InvalidPointer {
        /// The word in the step.
        pointer: String,
        /// What is wrong with it.
        mistake: &'static str,
    },
    /// The observer was not given a way to show JSON.
    #[error(
        "the observer {} has no JSON to look into: add it with `add_with_json`, or have its group do so",
        quoted(observer, WORDS)
    )]
    NoJson {
        /// Which observer.
        observer: String,
    },
    /// There was nothing at the pointer when the window was over.
    #[error("there is nothing at {}; {nearest}\n{report}", quoted(pointer, WORDS))]
    NoSuchPath {
        /// The word in the step.
        pointer: String,
        /// The longest part of the path that exists, and what is there.
        nearest: String,
        /// The wait.
        report: Unmet,
    },
    /// Another value was at the pointer when the window was over.
    #[error(
        "{found} is at {}{}\n{report}",
        quoted(pointer, WORDS),
        hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default()
    )]
    OtherValue {
        /// The word in the step.
        pointer: String,
        /// The value, as JSON; a long one is truncated.
        found: String,
        /// What to write in the step, if its quotes or its JSON are wrong.
        hint: Option<String>,
        /// The wait.
        report: Unmet,
    },
    /// There were too few events.
    #[error(
        "the observer {} has seen {} since the scenario began\n{report}",
        quoted(observer, WORDS),
        events(*seen)
    )]
    TooFewEvents {
        /// Which observer.
        observer: String,
        /// How many there were.
        seen: u64,
        /// The wait.
        report: Unmet,
    },
    /// The observer is paused, or has stopped.
    #[error("the observer {} is {how}", quoted(observer, WORDS))]
    NotRunning {
        /// Which observer.
        observer: String,
        /// Its state, and what to do.
        how: String,
    },
    /// The observer has failed.
    #[error(
        "the observer {} has recorded failures since the scenario began:{}",
        quoted(observer, WORDS),
        newest(failures)
    )]
    HasFailed {
        /// Which observer.
        observer: String,
        /// The newest, oldest first.
        failures: Vec<Arc<ObservationFailure>>,
    },
    /// The wait was not met.
    #[error(transparent)]
    Unmet(Unmet),
    /// A background invariant was violated while, or before, the step waited; or its predicate panicked.
    #[error("{}", invariant(.0))]
    Violated(Unmet),
    /// The observer refused the control.
    #[error("the observer {} was not {asked}: {source}", quoted(observer, WORDS))]
    Control {
        /// Which observer.
        observer: String,
        /// What was requested, such as "paused".
        asked: &'static str,
        /// Why.
        source: ControlError,
    },
    /// The observer stopped, and code of the app continues.
    #[error(
        "the observer {} was stopped and left code running that blocks its thread: move that into spawn_blocking",
        quoted(observer, WORDS)
    )]
    Detached {
        /// Which observer.
        observer: String,
    },
}

/// What the end of a scenario could not complete.
///
/// `Debug` prints its text.
#[derive(Clone, Default, thiserror::Error)]
#[error("{}", unfinished(self))]
#[non_exhaustive]
pub struct Unfinished {
    /// The invariants that were violated or inconclusive.
    pub unheld: Vec<Unmet>,
    /// Observers that stopped and left code running that blocks its thread.
    pub detached: Vec<Arc<str>>,
    /// Observers of the suite that the scenario paused or resumed, and that did not confirm that this was undone.
    pub still_paused: Vec<Arc<str>>,
}

impl Unfinished {
    pub(crate) fn into_result(self) -> Result<(), Self> {
        let Self { unheld, detached, still_paused } = &self;
        if unheld.is_empty() && detached.is_empty() && still_paused.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl fmt::Debug for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether the invariant was broken. Otherwise it is unknown whether it held.
pub(crate) fn is_broken(unmet: &Unmet) -> bool {
    let panicked = UnmetOutcome::Inconclusive(Inconclusive::Panicked);
    [UnmetOutcome::Violated, UnmetOutcome::GaveUp, panicked].contains(&unmet.outcome())
}

/// The text for an invariant that did not hold.
pub(crate) fn invariant(unmet: &Unmet) -> String {
    let outcome = match unmet.outcome() {
        UnmetOutcome::Violated => "a background invariant was violated",
        UnmetOutcome::GaveUp => "a background invariant gave up",
        _ => "a background invariant is inconclusive",
    };
    format!("{outcome}\n{unmet}")
}

fn known_or_none(known: &[Arc<str>], some: &str, none: &str) -> String {
    if known.is_empty() { none.to_owned() } else { format!("{some} {}", listed(known)) }
}

fn in_range(given: &str, least: u64) -> String {
    match given.parse::<u64>() {
        Ok(_) => format!("be at least {least}"),
        Err(_) if !given.is_empty() && given.bytes().all(|each| each.is_ascii_digit()) => {
            "fit into 64 bits".to_owned()
        }
        Err(_) => "be a whole number, in digits".to_owned(),
    }
}

fn events(count: u64) -> String {
    if count == 1 { "1 event".to_owned() } else { format!("{count} events") }
}

fn states() -> String {
    StateKind::ALL.map(|state| state.to_string()).join(", ")
}

fn newest(failures: &[Arc<ObservationFailure>]) -> String {
    let older = failures.len().saturating_sub(MANY);
    let mut list = if older > 0 { format!("\n  {older} older ones, and") } else { String::new() };
    for failure in &failures[older..] {
        let _ = write!(list, "\n  {}", one_line(&failure.to_string(), FAILURE));
    }
    list
}

fn unfinished(unfinished: &Unfinished) -> String {
    let Unfinished { unheld, detached, still_paused } = unfinished;
    let mut parts: Vec<String> = unheld.iter().take(MANY).map(invariant).collect();
    if let Some(more) = unheld.get(MANY..).filter(|more| !more.is_empty()) {
        parts.push(format!(
            "{} more background invariants did not hold: {}",
            more.len(),
            names(more.iter().map(Unmet::label), LIST)
        ));
    }
    if !detached.is_empty() {
        parts.push(format!(
            "these observers were stopped and left code running that blocks its thread: {}; move that into \
             spawn_blocking",
            listed(detached)
        ));
    }
    if !still_paused.is_empty() {
        parts.push(format!(
            "these observers of the suite were paused or resumed, and did not confirm that this was undone: {}; undo it \
             before the scenario ends",
            listed(still_paused)
        ));
    }
    parts.join("\n")
}
