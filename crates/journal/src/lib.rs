#![doc = include_str!("../README.md")]

mod check;
mod chunk;
mod config;
mod entry;
mod error;
mod health;
mod import;
mod journal;
mod line;
pub mod medium;
#[cfg(test)]
mod power_cut;
mod reader;
mod recovery;
pub mod run;
mod segment;
#[cfg(feature = "pipeline")]
mod upstream;
mod view;
mod writer;

pub use check::{CheckReport, Finding, FindingKind, MAX_FINDINGS, SegmentReport, check, runs};
pub use config::{Durability, JournalConfig};
pub use entry::{Entry, EntryError};
pub use error::{AppendError, JournalError, ReadError, ReadFromError};
pub use health::{JournalHealth, JournalProblem, JournalProblemKind};
pub use import::{ImportError, ImportReport, SkippedLines, import};
pub use journal::{Appended, CloseError, Journal};
pub use line::{Batch, MAX_BATCH, MAX_BATCH_BYTES, MAX_KEY, MAX_POSITION, MAX_RECORD};
pub use reader::{Gap, GapCause, JournalReader, ReadFrom, ReadItem, Record};
pub use recovery::{Damage, MissingRecords, Recovery};
pub use view::{JournalView, ViewReader};
pub use watchkeeper::subscription::Cursor;
