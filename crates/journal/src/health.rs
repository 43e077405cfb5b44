//! What an operator must know of a journal.

use std::fmt;
use std::time::SystemTime;

use watchkeeper::report::one_line;

/// The health of a journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalHealth {
    /// The problem that stands now. A full disk, a failed write or a failed sync stands until an append is written as
    /// promised; what was lost, damaged or not removed stands until the journal is opened again.
    pub problem: Option<JournalProblem>,
    /// The last problem, also one that has passed.
    pub last_problem: Option<JournalProblem>,
    /// How many problems were found so far, those that have passed included. While the disk stays full, it is one.
    pub problems: u64,
    /// Records that wait in memory for a disk that cannot be written, with
    /// [`Durability::Buffered`](crate::Durability::Buffered).
    pub in_memory: u64,
    /// What stays, and what passes with the next write.
    standing: Option<JournalProblem>,
    passing: Option<JournalProblem>,
}

impl JournalHealth {
    /// A problem was found.
    pub(crate) fn found(&mut self, problem: JournalProblem) {
        self.problems += 1;
        self.last_problem = Some(problem.clone());
        let place = if problem.stays() { &mut self.standing } else { &mut self.passing };
        *place = Some(problem);
        self.show();
    }

    /// An append was written as promised.
    pub(crate) fn written(&mut self) {
        self.passing = None;
        self.show();
    }

    fn show(&mut self) {
        self.problem = self.passing.clone().or_else(|| self.standing.clone());
    }

    /// Whether nothing is wrong now.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.problem.is_none()
    }
}

/// Something that is wrong with a journal. It shows its kind with what can be done.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalProblem {
    /// When it was found.
    pub at: SystemTime,
    /// What it is.
    pub kind: JournalProblemKind,
    /// The file, or the text of the error, on one line.
    pub detail: String,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JournalProblemKind {
    /// The disk is full.
    Full,
    /// A write has failed.
    Write,
    /// A sync has failed: what was not confirmed may be lost.
    Sync,
    /// The newest segment was removed by somebody; its records are lost, and a new segment was begun.
    Deleted,
    /// The reserve could not be made when the journal was opened: a full disk is not survived.
    Reserve,
    /// Somebody has appended to the newest segment, or cut it; a new segment was begun.
    Altered,
    /// A segment was damaged by the time it was complete.
    Damaged,
    /// A segment that is no longer wanted could not be removed.
    Retention,
}

impl JournalProblem {
    /// Whether a write that succeeds says nothing about it.
    fn stays(&self) -> bool {
        use JournalProblemKind::{Altered, Damaged, Deleted, Reserve, Retention};
        matches!(self.kind, Altered | Damaged | Deleted | Reserve | Retention)
    }

    pub(crate) fn new(kind: JournalProblemKind, detail: &str) -> Self {
        Self { at: SystemTime::now(), kind, detail: one_line(detail, 300) }
    }
}

impl fmt::Display for JournalProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, detail, .. } = self;
        let (what, then) = match kind {
            JournalProblemKind::Full => ("the disk is full", "free space"),
            JournalProblemKind::Write => ("a write failed", "make the directory writable"),
            JournalProblemKind::Sync => ("a sync failed", "check the disk"),
            JournalProblemKind::Deleted => ("the newest segment was removed", "find out by whom"),
            JournalProblemKind::Reserve => {
                ("the reserve cannot be made", "free its size, or make it smaller")
            }
            JournalProblemKind::Altered => ("the newest segment was changed by somebody", "find out by whom"),
            JournalProblemKind::Damaged => {
                ("a segment is damaged", "check the disk, and run `journal check`")
            }
            JournalProblemKind::Retention => {
                ("an old segment could not be removed", "make the directory writable")
            }
        };
        write!(f, "{what} ({detail}): {then}")
    }
}

impl fmt::Debug for JournalProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
