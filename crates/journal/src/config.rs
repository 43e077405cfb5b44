//! The settings of a journal.

use std::fmt;
use std::time::Duration;

use crate::error::JournalError;

/// What the answer to an append promises.
///
/// | level | answered after | a crash of the process loses | a power cut loses |
/// |---|---|---|---|
/// | `Memory` | the record is in memory | everything | everything |
/// | `Buffered` | the write to the operating system | nothing | what the system had not written, often the last 30 s |
/// | `Group` | a sync that several appends share | nothing | nothing |
/// | `Always` | a sync of its own | nothing | nothing |
///
/// A disk that loses what it has confirmed (`fdatasync`) loses it here too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// The record is in memory alone: the journal has no directory, or `Buffered` could not write it yet.
    Memory,
    /// The operating system has it.
    Buffered,
    /// It is durable. One sync covers what came during the one before.
    Group,
    /// It is durable, by a sync of its own.
    Always,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Memory => "memory",
            Self::Buffered => "buffered",
            Self::Group => "group",
            Self::Always => "always",
        })
    }
}

/// The settings of a journal.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// What an append waits for. Default: [`Durability::Group`]. A journal [in memory](crate::Journal::in_memory) has
    /// `Memory`; a journal in a directory may not.
    pub durability: Durability,
    /// The size of a segment: the next record goes into a new one. Default: 64 MiB; at least 4 KiB. A record or a batch that is larger
    /// than a segment has a segment of its own.
    pub segment_bytes: u64,
    /// The number of segments, the newest included; the oldest is removed when another one begins. Default: 8; at least 2.
    /// Segments that a failure has cut short in this process come on top, up to three times as many, as long as all of them
    /// together are not larger than that many whole ones.
    pub segments: u64,
    /// The age at which the newest segment is ended, by the first append after it: on tokio's clock, since the segment was
    /// begun or opened by this process. Default: none.
    pub segment_age: Option<Duration>,
    /// The size of the file `reserve`. It is removed when the disk is full, and records are accepted again when there is
    /// room to make it again. Default: 16 MiB; 0 for none.
    pub reserve: u64,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            durability: Durability::Group,
            segment_bytes: 64 * 1024 * 1024,
            segments: 8,
            segment_age: None,
            reserve: 16 * 1024 * 1024,
        }
    }
}

impl JournalConfig {
    pub(crate) fn validate(&self) -> Result<(), JournalError> {
        let wrong = |field, value: u64, range| {
            Err(JournalError::InvalidConfig { field, value: value.to_string(), range })
        };
        if self.segment_bytes < MIN_SEGMENT {
            return wrong("segment_bytes", self.segment_bytes, "at least 4,096");
        }
        if self.segments < 2 {
            return wrong("segments", self.segments, "at least 2");
        }
        if self.segment_age.is_some_and(|age| age.is_zero()) {
            return wrong("segment_age", 0, "more than zero, or None");
        }
        Ok(())
    }
}

const MIN_SEGMENT: u64 = 4_096;
