//! The report of a run.

use std::fmt;
use std::time::Duration;

use crate::ObserverTimeline;
use crate::text::{SECTION, limited, listed, quoted, seconds};

/// A phase of a run, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// The deployer brings the nodes up.
    Deploy,
    /// Factories build; workloads and expectations get ready.
    Prepare,
    /// Expectations begin to observe.
    StartCapture,
    /// Workloads run; expectations are checked each second, and once when the last workload has ended.
    Workloads,
    /// The nodes settle; expectations are still checked.
    Cooldown,
    /// Workloads that still run are cancelled, then aborted; if nothing has failed, expectations are checked once more.
    Drain,
    /// Expectations judge.
    Evaluate,
    /// Observers stop, then the nodes go down.
    Cleanup,
}

/// What happened in a run: how long each phase took, how the workloads ended, how often expectations were
/// checked, what the observers saw. It shows how much a run that passed has proved.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunReport {
    /// The scenario's name.
    pub scenario: String,
    /// The deployer's name.
    pub deployer: String,
    /// How long the run took.
    pub elapsed: Duration,
    /// The phases that it reached, and how long each took.
    pub phases: Vec<(Phase, Duration)>,
    /// The nodes that the deployer brought up. `None` if the deployment failed.
    pub nodes: Option<Vec<String>>,
    /// The workloads that were started, in the order of their ends.
    pub workloads: Vec<WorkloadReport>,
    /// The expectations, in the order in which they were added.
    pub expectations: Vec<ExpectationReport>,
    /// What the observers saw, in the order of their starts.
    pub observers: Vec<ObserverTimeline>,
    /// The observers whose start was cut off: they saw nothing.
    pub cut_off: Vec<String>,
}

/// How one workload ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkloadReport {
    /// Its name.
    pub name: String,
    /// How long it ran.
    pub took: Duration,
    /// How it ended.
    pub end: WorkloadEnd,
    /// Whether it passed its first await. An endless workload that was cancelled before that has done
    /// nothing that takes time: the others ended too soon.
    pub got_to_work: bool,
}

/// How a workload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkloadEnd {
    /// It returned.
    Done,
    /// It returned after it was cancelled.
    Cancelled,
    /// It did not return after it was cancelled, so its future was dropped.
    Aborted,
    /// It failed with an error or a panic: see the failures.
    Failed,
}

/// How one expectation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExpectationReport {
    /// Its name.
    pub name: String,
    /// How many times it was checked, from the start of the workloads to the end of their drain. `None` if it never was:
    /// it has no checks, as waits and expectations with the default `check_during_capture`, or the run ended before.
    pub checks: Option<u64>,
    /// How many snapshots it has judged, if its wait returned an
    /// [`InvariantReport`](watchkeeper::wait::InvariantReport), as an invariant does.
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
            f.write_str(", and had not passed its first await: give it time with `run_for`")?;
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
    /// Phases, nodes, workloads, expectations and observers, truncated at 64 KiB, without the name of the scenario.
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
            Some([]) => writeln!(f, "nodes: NONE, so every statement about all nodes holds")?,
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
