//! What happened in a run.

use std::fmt;
use std::time::Duration;

use crate::ObserverTimeline;
use crate::text::{SECTION, limited, listed, quoted, seconds};

/// A phase of a run, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// The deployer brings the nodes up.
    Deploy,
    /// Factories build; workloads and expectations get ready.
    Prepare,
    /// Expectations begin to look.
    StartCapture,
    /// Workloads work; expectations are checked each second, and once when the last workload has ended.
    Workloads,
    /// The nodes settle; expectations are still checked.
    Cooldown,
    /// Workloads that still work are cancelled, then aborted; if nothing has failed, expectations are checked once more.
    Drain,
    /// Expectations judge.
    Evaluate,
    /// Observers stop, then the nodes go down.
    Cleanup,
}

/// What happened in a run: how long each phase took, how the workloads ended, how often expectations were
/// checked, what the observers saw. What a run that passed rests on stands here, and what it does not.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunReport {
    /// The scenario's name.
    pub scenario: String,
    /// The deployer's name.
    pub deployer: String,
    /// How long the run took.
    pub elapsed: Duration,
    /// The phases it came to, and how long each took.
    pub phases: Vec<(Phase, Duration)>,
    /// The nodes there were when the deployer had brought them up. `None` if it had not.
    pub nodes: Option<Vec<String>>,
    /// The workloads that were started, in the order they ended.
    pub workloads: Vec<WorkloadReport>,
    /// The expectations, in the order they were added.
    pub expectations: Vec<ExpectationReport>,
    /// What the observers saw, in the order they were started.
    pub observers: Vec<ObserverTimeline>,
    /// The observers whose start was cut off, since nobody waited for it any more: they saw nothing.
    pub cut_off: Vec<String>,
}

/// How one workload ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkloadReport {
    /// Its name.
    pub name: String,
    /// How long it worked.
    pub took: Duration,
    /// How it ended.
    pub end: WorkloadEnd,
    /// Whether it came past its first await. An endless workload that is cancelled before that has done
    /// nothing that takes time: the others ended too soon.
    pub got_to_work: bool,
}

/// How a workload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkloadEnd {
    /// By itself.
    Done,
    /// Soon after it was cancelled.
    Cancelled,
    /// It did not heed the cancellation, so its future was dropped.
    Aborted,
    /// With an error or a panic: see the failures.
    Failed,
}

/// How one expectation fared.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExpectationReport {
    /// Its name.
    pub name: String,
    /// How often it was checked from the start of the workloads to their end. `None` if it was never: it has no check, as
    /// waits, which look on by themselves, and expectations that leave `check_during_capture` at its default; or the
    /// run ended before.
    pub checks: Option<u64>,
    /// How many snapshots it has judged, if its wait has ended with a [`InvariantReport`](watchkeeper::wait::InvariantReport), as an invariant does.
    pub judged: Option<u64>,
    /// How it ended.
    pub end: ExpectationEnd,
}

/// How an expectation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExpectationEnd {
    /// It was judged, and holds.
    Held,
    /// One of its steps failed: see the failures.
    Failed,
    /// The run ended before it was judged.
    NotJudged,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Deploy => "deploy",
            Self::Prepare => "prepare",
            Self::StartCapture => "start_capture",
            Self::Workloads => "workloads",
            Self::Cooldown => "cooldown",
            Self::Drain => "drain",
            Self::Evaluate => "evaluate",
            Self::Cleanup => "cleanup",
        })
    }
}

impl fmt::Display for WorkloadEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Aborted => "aborted",
            Self::Failed => "failed",
        })
    }
}

impl fmt::Display for ExpectationEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Held => "held",
            Self::Failed => "failed",
            Self::NotJudged => "not judged",
        })
    }
}

impl fmt::Display for WorkloadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, took, end, got_to_work } = self;
        write!(f, "workload {}: {end} after {}", quoted(name), seconds(*took))?;
        if !got_to_work {
            f.write_str(", and had not come past its first await: give it time with `run_for`")?;
        }
        Ok(())
    }
}

impl fmt::Display for ExpectationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, checks, judged, end } = self;
        write!(f, "expectation {}: {end}", quoted(name))?;
        match checks {
            None => {}
            Some(1) => f.write_str(", checked once")?,
            Some(times) => write!(f, ", checked {times} times")?,
        }
        match judged {
            None => Ok(()),
            Some(1) => f.write_str(", judged 1 snapshot"),
            Some(snapshots) => write!(f, ", judged {snapshots} snapshots"),
        }
    }
}

impl fmt::Display for RunReport {
    /// Phases, nodes, workloads, expectations and observers, at most 64 KiB; the scenario's name stands in the
    /// caller's own line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        limited(f, SECTION, "the report", |out| self.write(out))
    }
}

impl RunReport {
    fn write(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        let phases = self.phases.iter().map(|(phase, took)| format!("{phase} {}", seconds(*took)));
        writeln!(f, "phases: {}", phases.collect::<Vec<_>>().join(", "))?;
        match self.nodes.as_deref() {
            None => {}
            Some([]) => writeln!(f, "nodes: NONE, so that whatever is said of all nodes holds")?,
            Some(nodes) => writeln!(f, "nodes: {}", listed(nodes))?,
        }
        self.workloads.iter().try_for_each(|workload| writeln!(f, "{workload}"))?;
        self.expectations.iter().try_for_each(|expectation| writeln!(f, "{expectation}"))?;
        for observer in &self.observers {
            write!(f, "\n{observer}\n")?;
        }
        for name in &self.cut_off {
            writeln!(f, "\nobserver {}\n  its start was CUT OFF: it saw nothing", quoted(name))?;
        }
        Ok(())
    }
}
