//! The tail of the overseer's file of corrections.
//!
//! No public description of the file exists: its format is defined here. It has one JSON object a line, an operation as `POST event`
//! takes it, with these differences: `endpoint` may be missing (`/overseer/correction`), and `source` is always
//! `overseer_correction`; another one stays as `line_source`. As everywhere, a missing `success` is `false`, and a missing
//! `timestamp` is the time at which the line is read. All other fields stay as they came.
//!
//! A line is read when its line feed is there. A carriage return before it, a byte order mark at the begin of the file and empty
//! lines are ignored. A line of over 1 MiB, or one that is no UTF-8, no JSON object or no valid operation, is skipped and counted.
//!
//! # The file
//!
//! A file is known by its inode, the sum of its first 1,024 bytes, and that of the 256 bytes before the position; while it is open
//! also by its device. If these bytes have changed, the file was truncated, and is read from its begin. If the path leads to
//! another file, or to none, the open one is read until it has not grown between two polls; then the other one is read from its
//! begin. A last line without its line feed is read then, if it is complete; if not, it is skipped when another file is opened, and
//! read from its begin if the same file comes back. A path that cannot be examined, because its directory may not be read or its
//! disk fails, leads nowhere else: the open file is read on.
//!
//! # The position
//!
//! Each record has the position after its line (`_wk_p`), so that a crash neither doubles nor loses a line. The lines of a poll are
//! one batch. `tail.json` in the data directory has the position too, with the cursor up to which the journal need not be searched
//! for a newer one. Without it, or with one of another journal, the journal is searched from its end. A file that was renamed while
//! the service was stopped is found in its directory if its name still begins as before, and is read to its end.
//!
//! In memory there is no position after a restart: the file is read from its begin.
//!
//! An append that fails moves nothing on: its lines are read again. Bytes of a failed write or sync are removed by the journal
//! before it takes another append; if the process ends before, the newest position shows whether they survived.
//!
//! # Limits
//!
//! Lines that no poll saw are lost: those of a file that is truncated, or is renamed and replaced twice, between two polls, or is
//! removed while the service is stopped. A writer must open the new file within a poll after a renaming; a file that still grows is
//! left after 20 polls. A file that was copied has another inode, and is read from its begin.

mod checkpoint;
mod lines;
mod look;
mod mark;
mod observer;
mod place;
mod report;
mod search;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use watchkeeper::{ObservationConfig, ObservationRuntime, ObservationRuntimeError, StaticSourceProvider};

use crate::config::CorrectionsConfig;
use crate::store::Store;

pub use observer::{CorrectionsTail, TailError, TailState};
pub use report::{FileState, SkippedLine, TailEvent, TailReport};

/// The loop's name.
pub const NAME: &str = "corrections";

/// In which time a search of the whole journal must end.
const SEARCH: Duration = Duration::from_hours(1);

/// In which time a poll must end, or fails; what it has begun goes on.
const POLL: Duration = Duration::from_secs(30);

/// The shortest time between two polls while there are more lines.
const GAP: Duration = Duration::from_millis(1);

/// How the tail is observed: give it a `parent`, and what it resumes from, before [`start`]. `None` if no path is set.
#[must_use]
pub fn observation(config: &CorrectionsConfig) -> Option<ObservationConfig> {
    let is_set = !config.path.as_os_str().is_empty();
    is_set.then(|| ObservationConfig {
        name: Some(NAME.to_owned()),
        interval: config.every,
        init_timeout: SEARCH,
        poll_timeout: POLL,
        wake: Some(Arc::new(Notify::new())),
        min_gap: GAP,
        ..ObservationConfig::default()
    })
}

/// Starts the tail, and returns at once: a missing file or a long search delays nothing.
///
/// `directory` is the data directory; `None` for a store in memory.
///
/// # Errors
///
/// [`ObservationRuntimeError`]: `every` is out of range, or there is no tokio runtime.
pub fn start(
    store: &Store,
    config: &CorrectionsConfig,
    directory: Option<&Path>,
    observation: ObservationConfig,
) -> Result<ObservationRuntime<CorrectionsTail>, ObservationRuntimeError> {
    let wake = observation.wake.clone().unwrap_or_default();
    let observer = CorrectionsTail::new(store.clone(), directory, wake);
    let sources =
        StaticSourceProvider::new(vec![watchkeeper::ObservedSource::new(NAME, config.path.clone())]);
    ObservationRuntime::start_in_background(sources, observer, observation)
}
