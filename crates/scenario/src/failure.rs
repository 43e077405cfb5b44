//! The failures of a run.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use watchkeeper::DynError;
use watchkeeper::report::one_line;

use crate::panics::discard;
use crate::report::{Phase, RunReport};
use crate::subject::Subject;
use crate::text::{SECTION, bounded, limited, listed, name, quoted, seconds, with_causes};

/// One thing that went wrong.
#[derive(Debug)]
#[non_exhaustive]
pub struct Failure {
    /// In which phase it failed.
    pub phase: Phase,
    /// When it failed, counted from the beginning of the run.
    pub at: Duration,
    /// What failed.
    pub subject: Subject,
    /// How it failed.
    pub problem: Problem,
    /// The observers whose start was cut off by this failure: those that the part over its limit was starting, or all
    /// that were being started if the run was cancelled.
    pub starting: Vec<String>,
    /// How long after the limit a time-out was noticed. It is long when something blocked the thread.
    pub(crate) late: Duration,
}

/// How it failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Problem {
    /// It returned an error, whose text may have many lines.
    Error(DynError),
    /// It panicked with this message.
    Panicked(String),
    /// It did not end within the limit of the phase.
    TimedOut(Duration),
    /// An endless workload ended before it was cancelled.
    EndedEarly,
    /// It blocks its thread, so it cannot be cancelled; it was left running.
    Blocked,
    /// The run was cancelled.
    Cancelled,
}

/// Why a run failed: all failures, what the observers saw, and what the nodes logged.
///
/// `Display` shows failures, report and logs, each truncated at 64 KiB with a count of what was cut. `Debug` shows the
/// same, so that `unwrap` prints it.
pub struct ScenarioFailure(Box<Failed>);

struct Failed {
    report: RunReport,
    failures: Vec<Failure>,
    logs: Vec<NodeLog>,
}

/// The log of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeLog {
    /// The node's name.
    pub node: String,
    /// The newest 64 KiB of the log that the cluster kept, from the beginning of a line.
    pub text: String,
    /// How many older bytes were cut.
    pub cut: usize,
}

impl ScenarioFailure {
    pub(crate) fn new(report: RunReport, failures: Vec<Failure>, logs: Vec<NodeLog>) -> Self {
        Self(Box::new(Failed { report, failures, logs }))
    }

    /// All failures, in order of time; never empty.
    #[must_use]
    pub fn failures(&self) -> &[Failure] {
        &self.0.failures
    }

    /// What happened until the run ended, and what the observers saw.
    #[must_use]
    pub fn report(&self) -> &RunReport {
        &self.0.report
    }

    /// The logs of the nodes, if the cluster keeps them.
    #[must_use]
    pub fn logs(&self) -> &[NodeLog] {
        &self.0.logs
    }
}

impl NodeLog {
    pub(crate) fn new(node: String, text: String) -> Self {
        /// How many bytes are kept.
        const KEPT: usize = 64 * 1024;
        let from = text.len().saturating_sub(KEPT);
        let from = (from..=text.len()).find(|from| text.is_char_boundary(*from)).unwrap_or_default();
        let whole = if from == 0 { Some(0) } else { text[from..].find('\n').map(|line| from + line + 1) };
        let cut = whole.filter(|whole| *whole < text.len()).unwrap_or(from);
        let text = if cut == 0 { text } else { text[cut..].to_owned() };
        Self { node, text, cut }
    }
}

impl Drop for Failed {
    /// Errors are the app's, and so are their destructors.
    fn drop(&mut self) {
        self.failures.drain(..).for_each(discard);
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
        let (scenario, deployer) = (quoted(scenario), name(deployer));
        writeln!(f, "scenario {scenario} on the {deployer} deployer: {count} after {}", seconds(*elapsed))?;
        limited(f, SECTION, "failures", |out| {
            for (number, failure) in (1..).zip(failures) {
                write!(out, "\n{number}. ")?;
                write_indented(out, &failure.to_string(), "   ")?;
            }
            Ok(())
        })?;
        write!(f, "\n{report}")?;
        limited(f, SECTION, "logs", |out| logs.iter().try_for_each(|log| write!(out, "\n{log}")))
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
        let Self { phase, at, subject, problem, .. } = self;
        write!(f, "{subject} ")?;
        match problem {
            Problem::Error(_) => f.write_str("failed")?,
            Problem::Panicked(_) => f.write_str("panicked")?,
            Problem::TimedOut(limit) => write!(f, "was not done within {limit:?}")?,
            Problem::EndedEarly => f.write_str("is endless, and ended by itself")?,
            Problem::Blocked => f.write_str("blocks its thread, and was left running")?,
            Problem::Cancelled => f.write_str("was cancelled from outside")?,
        }
        write!(f, " ({phase}, +{})", seconds(*at))?;
        match problem {
            Problem::Error(error) => write_indented_after(f, &with_causes(&**error))?,
            Problem::Panicked(message) => write_indented_after(f, &bounded(message))?,
            Problem::TimedOut(_) => write_indented_after(f, &self.more_time())?,
            Problem::EndedEarly => write_indented_after(
                f,
                "the rest of its work was not done: let it run until it is cancelled, or let \
                 `Workload::is_endless` return false",
            )?,
            Problem::Blocked => write_indented_after(f, UNBLOCK)?,
            Problem::Cancelled => {}
        }
        if !self.starting.is_empty() {
            let text = format!(
                "these observers were still being started, and were cut off: {}",
                listed(&self.starting)
            );
            write_indented_after(f, &text)?;
        }
        Ok(())
    }
}

/// How to fix app code that blocks its thread.
pub(crate) const UNBLOCK: &str = "put what blocks into tokio::task::spawn_blocking";

/// A time-out that is noticed later than this says so. A busy machine causes shorter delays.
const LATE: Duration = Duration::from_millis(500);

impl Failure {
    /// How to fix a time-out.
    fn more_time(&self) -> String {
        let limit = match (self.phase, &self.subject) {
            (Phase::Workloads | Phase::Cooldown | Phase::Drain, Subject::Expectation(_)) => "check",
            (Phase::Deploy, _) => "deploy",
            (Phase::Prepare, _) => "prepare",
            (Phase::StartCapture, _) => "start_capture",
            (Phase::Workloads | Phase::Cooldown, _) => "workloads",
            (Phase::Drain, _) => "drain",
            (Phase::Evaluate, _) => {
                return "it was cut off, and its report is lost: give its wait a shorter window, or set a longer \
                        Limits::evaluate with ScenarioBuilder::limits"
                    .to_owned();
            }
            (Phase::Cleanup, _) => "cleanup",
        };
        let text = format!("if it needs more time, set Limits::{limit} with ScenarioBuilder::limits");
        if self.late <= LATE {
            return text;
        }
        let late = seconds(self.late);
        format!("{text}\na thread was blocked, and this was noticed {late} late: {UNBLOCK}")
    }
}

/// Each line on its own line, indented by two spaces.
fn write_indented_after(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    text.lines().try_for_each(|line| write!(f, "\n  {line}"))
}

/// The first line without an indent, the others with `indent`; ends the last line.
fn write_indented(f: &mut dyn fmt::Write, text: &str, indent: &str) -> fmt::Result {
    for (number, line) in text.lines().enumerate() {
        let indent = if number == 0 { "" } else { indent };
        writeln!(f, "{indent}{line}")?;
    }
    Ok(())
}

impl fmt::Display for NodeLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// How many lines of a log a report shows.
        const LINES: usize = 40;
        /// How many bytes of a line.
        const LINE: usize = 500;
        let all = self.text.lines().count();
        let cut = all.saturating_sub(LINES);
        write!(f, "log of {}", name(&self.node))?;
        match (all, cut, self.cut) {
            (0, _, _) => f.write_str(": empty")?,
            (_, 0, 0) => {}
            (_, _, 0) => write!(f, " (the last {LINES} of {all} lines)")?,
            _ => write!(f, " (the last {} lines; older ones were cut)", all - cut)?,
        }
        writeln!(f)?;
        self.text.lines().skip(cut).try_for_each(|line| writeln!(f, "  {}", one_line(line, LINE)))
    }
}
