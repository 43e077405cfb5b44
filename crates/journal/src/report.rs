//! What an opening has found.

/// What an opening has found and done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// Whether the journal is new.
    pub is_new: bool,
    /// The bytes at the end of the last segment that were no record, and were cut.
    pub torn_bytes: u64,
    /// How many whole lines they were. They may have been answered: a copy of them is in `quarantine/`, and their numbers are
    /// a gap.
    pub torn_lines: u64,
    /// The records of a batch without its commit mark, at the end of the last segment; they were cut too.
    pub uncommitted: u64,
    /// Damaged places of the last segment, with valid records after them: at most 1,000, and the last one covers all further
    /// ones. Their bytes are in `quarantine/`.
    pub damage: Vec<Damage>,
    /// Missing numbers between two segments.
    pub gaps: Vec<MissingRecords>,
    /// The records of the last segment: the only one that an opening reads as a whole.
    pub records: u64,
}

/// Bytes of a segment that are no record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The segment's file.
    pub segment: String,
    /// Where they begin.
    pub offset: u64,
    /// How many there are.
    pub bytes: u64,
    /// The number of records that are missing there.
    pub records: u64,
}

/// Numbers without records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissingRecords {
    /// The first missing number.
    pub first: u64,
    /// The last one.
    pub last: u64,
}

impl Recovery {
    /// Whether nothing had to be mended, and nothing is missing.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.torn_bytes == 0 && self.uncommitted == 0 && self.damage.is_empty() && self.gaps.is_empty()
    }

    pub(crate) fn log(&self, place: &str) {
        if self.torn_bytes > 0 || self.uncommitted > 0 {
            let (bytes, uncommitted) = (self.torn_bytes, self.uncommitted);
            tracing::warn!(place, bytes, uncommitted, "the journal's torn end was cut");
        }
        for Damage { segment, offset, bytes, records } in &self.damage {
            tracing::error!(place, segment, offset, bytes, records, "a part of the journal is damaged");
        }
        for MissingRecords { first, last } in &self.gaps {
            tracing::error!(place, first, last, "records of the journal are missing");
        }
    }
}
