//! What went wrong in a run.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use watchkeeper::DynError;

use crate::text::seconds;
use crate::{Phase, RunReport};

/// One thing that went wrong.
#[derive(Debug)]
#[non_exhaustive]
pub struct Failure {
    /// In which phase.
    pub phase: Phase,
    /// When, counted from the begin of the run.
    pub at: Duration,
    /// What failed.
    pub subject: Subject,
    /// How.
    pub problem: Problem,
}

/// What failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subject {
    /// The deployer, or the cluster it brought up.
    Deployer(String),
    /// A factory; for `with_observer` the observer's name.
    Factory(String),
    /// A workload.
    Workload(String),
    /// An expectation.
    Expectation(String),
    /// An observer.
    Observer(String),
    /// The run as a whole.
    Run,
}

/// How it failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Problem {
    /// With an error, whose text may have many lines.
    Error(DynError),
    /// With a panic that said this.
    Panicked(String),
    /// It had not ended within the phase's limit.
    TimedOut(Duration),
    /// It blocks its thread, so it cannot be cancelled; it was left behind.
    Blocked,
    /// The run was cancelled from outside.
    Cancelled,
}

/// Why a run failed: everything that went wrong, with what the observers saw and the nodes logged.
///
/// `Display` is for the person who reads a failed test; `Debug` is the same, so that `unwrap` shows it.
pub struct ScenarioFailure(Box<Failed>);

struct Failed {
    report: RunReport,
    failures: Vec<Failure>,
    logs: Vec<NodeLog>,
}

/// What a node has logged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeLog {
    /// The node's name.
    pub node: String,
    /// What the cluster kept of its log.
    pub text: String,
}

impl ScenarioFailure {
    pub(crate) fn new(report: RunReport, failures: Vec<Failure>, logs: Vec<NodeLog>) -> Self {
        Self(Box::new(Failed { report, failures, logs }))
    }

    /// Everything that went wrong, in order of time; never empty.
    #[must_use]
    pub fn failures(&self) -> &[Failure] {
        &self.0.failures
    }

    /// How far the run came, and what the observers saw.
    #[must_use]
    pub fn report(&self) -> &RunReport {
        &self.0.report
    }

    /// The logs of the nodes, as far as the cluster keeps them.
    #[must_use]
    pub fn logs(&self) -> &[NodeLog] {
        &self.0.logs
    }
}

impl fmt::Display for ScenarioFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failed { report, failures, logs } = &*self.0;
        let RunReport { scenario, deployer, elapsed, .. } = report;
        let count = match failures.len() {
            1 => "1 failure".to_owned(),
            many => format!("{many} failures"),
        };
        writeln!(f, "scenario {scenario:?} on the {deployer} deployer: {count} after {}", seconds(*elapsed))?;
        for (number, failure) in (1..).zip(failures) {
            write!(f, "\n{number}. ")?;
            write_indented(f, &failure.to_string(), "   ")?;
        }
        write!(f, "\n{report}")?;
        for log in logs {
            write!(f, "\n{log}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ScenarioFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for ScenarioFailure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { phase, at, subject, problem } = self;
        write!(f, "{subject} ")?;
        match problem {
            Problem::Error(_) => f.write_str("failed")?,
            Problem::Panicked(_) => f.write_str("panicked")?,
            Problem::TimedOut(limit) => write!(f, "was not done within {limit:?}")?,
            Problem::Blocked => f.write_str("blocks its thread, and was left behind")?,
            Problem::Cancelled => f.write_str("was cancelled from outside")?,
        }
        write!(f, " ({phase}, +{})", seconds(*at))?;
        match problem {
            Problem::Error(error) => write_indented_after(f, &with_causes(&**error)),
            Problem::Panicked(message) => write_indented_after(f, message),
            Problem::TimedOut(_) => write_indented_after(f, &self.more_time()),
            Problem::Blocked | Problem::Cancelled => Ok(()),
        }
    }
}

impl Failure {
    /// What to do about a time-out.
    fn more_time(&self) -> String {
        let limit = match (self.phase, &self.subject) {
            (Phase::Workloads | Phase::Cooldown, Subject::Expectation(_)) => "check",
            (Phase::Deploy, _) => "deploy",
            (Phase::Prepare, _) => "prepare",
            (Phase::StartCapture, _) => "start_capture",
            (Phase::Workloads | Phase::Cooldown, _) => "workloads",
            (Phase::Drain, _) => "drain",
            (Phase::Evaluate, _) => {
                return "it was cut off, and what it would have reported is lost: give its wait a shorter window, \
                        or set a longer Limits::evaluate with ScenarioBuilder::limits"
                    .to_owned();
            }
            (Phase::Cleanup, _) => "cleanup",
        };
        format!("if it only needs longer, set Limits::{limit} with ScenarioBuilder::limits")
    }
}

/// Each line on a line of its own, two spaces in.
fn write_indented_after(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    text.lines().try_for_each(|line| write!(f, "\n  {line}"))
}

/// The first line here, the others `indent` in; ends the line.
fn write_indented(f: &mut fmt::Formatter<'_>, text: &str, indent: &str) -> fmt::Result {
    for (number, line) in text.lines().enumerate() {
        let indent = if number == 0 { "" } else { indent };
        writeln!(f, "{indent}{line}")?;
    }
    Ok(())
}

/// An error, then a line for each cause that its text does not already end with.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    // An error may be its own cause.
    for error in std::iter::successors(error.source(), |cause| cause.source()).take(32) {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text.push_str("\ncaused by: ");
            text.push_str(&said);
        }
    }
    text
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deployer(name) => write!(f, "deployer {name:?}"),
            Self::Factory(name) => write!(f, "factory {name:?}"),
            Self::Workload(name) => write!(f, "workload {name:?}"),
            Self::Expectation(name) => write!(f, "expectation {name:?}"),
            Self::Observer(name) => write!(f, "observer {name:?}"),
            Self::Run => f.write_str("the run"),
        }
    }
}

impl fmt::Display for NodeLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// How many lines of a log a report shows.
        const LINES: usize = 40;
        let lines: Vec<_> = self.text.lines().collect();
        let cut = lines.len().saturating_sub(LINES);
        write!(f, "log of {}", self.node)?;
        match (lines.len(), cut) {
            (0, _) => f.write_str(": empty")?,
            (_, 0) => {}
            (all, _) => write!(f, " (the last {LINES} of {all} lines)")?,
        }
        writeln!(f)?;
        lines[cut..].iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}
