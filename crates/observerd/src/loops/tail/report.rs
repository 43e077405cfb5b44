//! What the tail publishes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is at the path of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileState {
    /// It was not opened yet.
    #[default]
    Starting,
    /// It is open. Ends when the path is another file's, or nobody's, and this one was read to its end.
    Reading,
    /// There is no file. Ends when there is one.
    Missing,
    /// A directory, a FIFO, or something else that is no regular file. The polls fail until it is one.
    NotAFile,
    /// It cannot be opened. The polls fail until it can.
    Unreadable,
}

/// The tail of the file of corrections. It counts since the loop was started, or had to begin again after a panic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TailReport {
    /// What is at the path.
    pub file: FileState,
    /// Why the file, or what is at its path, cannot be read; empty if it can.
    pub problem: String,
    /// The byte of the file from which the next line is read.
    pub offset: u64,
    /// Whether every complete line was read.
    pub caught_up: bool,
    /// How many lines were read, empty ones not counted.
    pub lines: u64,
    /// How many of them were recorded.
    pub recorded: u64,
    /// How many of them were skipped.
    pub skipped: u64,
    /// The last skipped line.
    pub last_skipped: Option<SkippedLine>,
    /// How often another file has taken the place of the one that was read.
    pub rotations: u64,
    /// How often the file was truncated.
    pub truncations: u64,
    /// Why the position was not saved; empty if it was. Then a start has to search the journal.
    pub checkpoint_problem: String,
}

impl TailReport {
    /// What a person should know though each poll succeeds: the text before a colon has no detail.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.file == FileState::Missing {
            warnings.push("the file of corrections is missing".to_owned());
        }
        if let Some(SkippedLine { offset, reason }) = &self.last_skipped {
            let skipped = self.skipped;
            warnings.push(format!(
                "corrections were skipped: {skipped}, the last one at byte {offset}, {reason}"
            ));
        }
        if !self.checkpoint_problem.is_empty() {
            warnings.push(format!(
                "the position in the file of corrections is not saved: {}",
                self.checkpoint_problem
            ));
        }
        warnings
    }
}

/// A line that is no correction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SkippedLine {
    /// The byte of the file where it begins.
    pub offset: u64,
    /// Why it was skipped. It shows nothing of the line.
    pub reason: String,
}

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum TailEvent {
    /// The file was opened, and is read from this byte.
    Appeared {
        /// The byte.
        offset: u64,
    },
    /// Another file has taken its place. It was read to its end, and the new one is read from the begin.
    Rotated {
        /// The byte where it ended.
        offset: u64,
    },
    /// The file has become shorter, or has other bytes than were read: it is read from the begin.
    Truncated {
        /// The byte up to which it had been read.
        offset: u64,
    },
    /// There is no file any more, or not yet. What was open was read to its end.
    Missing,
    /// What is at the path cannot be read.
    Unusable {
        /// What it is, and what to do.
        problem: String,
    },
    /// Lines were recorded.
    Recorded {
        /// How many.
        count: u64,
        /// The number of the first one in the journal; the others follow it.
        first_sequence: u64,
    },
    /// Lines were skipped.
    Skipped {
        /// How many.
        count: u64,
        /// The last one.
        last: SkippedLine,
    },
}
