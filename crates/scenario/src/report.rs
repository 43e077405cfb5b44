//! What happened in a run.

use std::fmt;
use std::time::Duration;

use crate::ObserverTimeline;
use crate::text::seconds;

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
    /// Workloads work; expectations are checked each second.
    Workloads,
    /// The nodes settle; expectations are still checked.
    Cooldown,
    /// Workloads that still work are cancelled, then aborted.
    Drain,
    /// Expectations judge.
    Evaluate,
    /// Observers stop, then the nodes go down.
    Cleanup,
}

/// What happened in a run: how long each phase took, how the workloads ended, what the observers saw.
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
    /// The workloads that were started, in the order they ended.
    pub workloads: Vec<WorkloadReport>,
    /// What the observers saw, in the order they were started.
    pub observers: Vec<ObserverTimeline>,
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

impl fmt::Display for RunReport {
    /// Phases, workloads and observers; what it is about stands in the caller's own line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phases = self.phases.iter().map(|(phase, took)| format!("{phase} {}", seconds(*took)));
        writeln!(f, "phases: {}", phases.collect::<Vec<_>>().join(", "))?;
        for WorkloadReport { name, took, end } in &self.workloads {
            writeln!(f, "workload {name:?}: {end} after {}", seconds(*took))?;
        }
        for observer in &self.observers {
            write!(f, "\n{observer}\n")?;
        }
        Ok(())
    }
}
