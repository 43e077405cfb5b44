//! Why a step failed.

use std::fmt::Write as _;
use std::sync::Arc;

use watchkeeper::{ControlError, GroupError, ObservationFailure, StateKind, Unmet, UnmetOutcome};

/// Why a step failed. Its text is what the scenario's report shows.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// No observer has this name.
    #[error(
        "no observer is called {name:?}; {}",
        known_or_none(
            known,
            "the scenario's observers are",
            "the scenario has none: add one in a Given step, or share the suite's"
        )
    )]
    UnknownObserver {
        /// What the step says.
        name: String,
        /// The observers that there are.
        known: Vec<Arc<str>>,
    },
    /// The observer was not taken in.
    #[error(transparent)]
    Refused(#[from] GroupError),
    /// The time is not one, or zero, or over 24 h.
    #[error(
        "{given:?} is no time to wait: it must be more than zero and at most 24 h, such as \"5 seconds\", \
         \"500 ms\" or \"1 minute\""
    )]
    Duration {
        /// What the step says.
        given: String,
    },
    /// The count is out of range.
    #[error("{given} {what} cannot be waited for: the count must be at least {least} and fit into 64 bits")]
    Count {
        /// What the step says.
        given: String,
        /// What is counted.
        what: &'static str,
        /// The smallest count that makes sense.
        least: u64,
    },
    /// No state has this name.
    #[error("no state is called {name:?}; the states are {}", states())]
    UnknownState {
        /// What the step says.
        name: String,
    },
    /// A source cannot be waited to be this.
    #[error("a source cannot be waited to be {name:?}; it can be fresh, stale or failing")]
    UnknownCondition {
        /// What the step says.
        name: String,
    },
    /// No source had this name until the window was over.
    #[error(
        "no source of the observer {observer:?} is called {name:?}; {}\n{report}",
        known_or_none(known, "its sources are", "it has none")
    )]
    UnknownSource {
        /// Whose sources.
        observer: String,
        /// What the step says.
        name: String,
        /// The sources that there were at the end.
        known: Vec<Arc<str>>,
        /// The wait.
        report: Unmet,
    },
    /// The text is no JSON pointer.
    #[error("{pointer:?} is no JSON pointer: it must be empty or begin with a slash, such as \"/nodes/n1\"")]
    InvalidPointer {
        /// What the step says.
        pointer: String,
    },
    /// The observer was not given a way to show JSON.
    #[error(
        "the observer {observer:?} has no JSON to look into: add it with `add_with_json`, or have its group do so"
    )]
    NoJson {
        /// Which one.
        observer: String,
    },
    /// The pointer led nowhere when the window was over.
    #[error("there is nothing at {pointer:?}; {nearest}\n{report}")]
    NoSuchPath {
        /// What the step says.
        pointer: String,
        /// What there is: the nearest part of the path that exists, and what is in it.
        nearest: String,
        /// The wait.
        report: Unmet,
    },
    /// Something else stood at the pointer when the window was over.
    #[error("{found} is at {pointer:?}\n{report}")]
    OtherValue {
        /// What the step says.
        pointer: String,
        /// What is there, as JSON.
        found: String,
        /// The wait.
        report: Unmet,
    },
    /// There were fewer events.
    #[error("the observer {observer:?} has seen {} since the scenario began\n{report}", events(*seen))]
    TooFewEvents {
        /// Which one.
        observer: String,
        /// How many there were.
        seen: u64,
        /// The wait.
        report: Unmet,
    },
    /// The observer is paused, or has stopped.
    #[error("the observer {observer:?} is {how}")]
    NotRunning {
        /// Which one.
        observer: String,
        /// What it is instead, and what to do.
        how: String,
    },
    /// The observer has failed.
    #[error("the observer {observer:?} has recorded failures since the scenario began:{}", listed(failures))]
    HasFailed {
        /// Which one.
        observer: String,
        /// The newest, oldest first.
        failures: Vec<Arc<ObservationFailure>>,
    },
    /// What was waited for was not seen.
    #[error(transparent)]
    Unmet(Unmet),
    /// A background invariant was violated while, or before, the step waited.
    #[error("a background invariant was violated\n{0}")]
    Violated(Unmet),
    /// The observer did not take the control.
    #[error("the observer {observer:?} was not {asked}: {source}")]
    Control {
        /// Which one.
        observer: String,
        /// What it was asked to be.
        asked: &'static str,
        /// Why.
        source: ControlError,
    },
    /// The observer stopped, and code of the app went on.
    #[error(
        "the observer {observer:?} was stopped and left code behind that blocks its thread: \
         move that into spawn_blocking"
    )]
    Detached {
        /// Which one.
        observer: String,
    },
}

/// What a scenario left undone.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", unfinished(unheld, detached))]
#[non_exhaustive]
pub struct Unfinished {
    /// The invariants that were violated, or of which nothing can be said.
    pub unheld: Vec<Unmet>,
    /// Observers that stopped and left code behind that blocks its thread.
    pub detached: Vec<Arc<str>>,
}

impl Unfinished {
    pub(crate) fn of(unheld: Vec<Unmet>, detached: Vec<Arc<str>>) -> Result<(), Self> {
        if unheld.is_empty() && detached.is_empty() { Ok(()) } else { Err(Self { unheld, detached }) }
    }
}

fn known_or_none(known: &[Arc<str>], some: &str, none: &str) -> String {
    if known.is_empty() { none.to_owned() } else { format!("{some} {}", known.join(", ")) }
}

fn events(count: u64) -> String {
    if count == 1 { "1 event".to_owned() } else { format!("{count} events") }
}

fn states() -> String {
    StateKind::ALL.map(|state| state.to_string()).join(", ")
}

fn listed(failures: &[Arc<ObservationFailure>]) -> String {
    failures.iter().fold(String::new(), |mut list, failure| {
        let _ = write!(list, "\n  {failure}");
        list
    })
}

fn unfinished(unheld: &[Unmet], detached: &[Arc<str>]) -> String {
    let invariant = |unmet: &Unmet| match unmet.outcome() {
        UnmetOutcome::Violated => format!("a background invariant was violated\n{unmet}"),
        UnmetOutcome::GaveUp => format!("a background invariant gave up\n{unmet}"),
        _ => format!("nothing can be said of a background invariant\n{unmet}"),
    };
    let mut said: Vec<String> = unheld.iter().map(invariant).collect();
    if !detached.is_empty() {
        said.push(format!(
            "these observers were stopped and left code behind that blocks its thread: {}; move that into \
             spawn_blocking",
            detached.join(", ")
        ));
    }
    said.join("\n")
}
