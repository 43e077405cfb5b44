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
mod newest;
#[cfg(test)]
mod power_cut;
mod reader;
mod record;
mod recovery;
mod report;
pub mod run;
mod scan;
mod segment;
mod thread;
#[cfg(feature = "pipeline")]
mod upstream;
mod view;
mod writer;

pub use check::{CheckReport, Finding, FindingKind, MAX_FINDINGS, SegmentReport, check, runs};
pub use config::{Durability, JournalConfig};
pub use entry::{Entry, EntryError};
pub use error::{AppendError, CloseError, JournalError, ReadError, ReadFromError};
pub use health::{JournalHealth, JournalProblem, JournalProblemKind};
pub use import::{ImportError, ImportReport, SkippedLines, import};
pub use journal::{Appended, Journal};
pub use line::{Batch, MAX_BATCH, MAX_BATCH_BYTES, MAX_KEY, MAX_POSITION, MAX_RECORD};
pub use reader::{JournalReader, ReadFrom};
pub use record::{Gap, GapCause, ReadItem, Record};
pub use report::{Damage, MissingRecords, Recovery};
pub use view::{JournalView, ViewReader};
pub use watchkeeper::subscription::Cursor;
