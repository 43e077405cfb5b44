//! The observer of the file.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;
use watchkeeper::report::{debug_as_text, one_line};
use watchkeeper::{DynError, ObservedSource, Observer, async_trait};
use watchkeeper_journal::{AppendError, Appended, Cursor, Durability};

use super::checkpoint::Checkpoint;
use super::look::{Look, Reading};
use super::report::{FileState, TailEvent, TailReport};
use super::search;
use crate::store::{Store, TailTurn};

/// After how many records of the journal a checkpoint is written.
const RECORDS: u64 = 50_000;

/// After which time a checkpoint is written if something has changed.
const SAVED: Duration = Duration::from_mins(1);

/// Reads a file of corrections, and records each line.
///
/// Its state moves on only with what was recorded: the position is in the same append as the operations.
pub struct CorrectionsTail {
    store: Store,
    directory: Option<Arc<Path>>,
    /// The end of the journal before this service has answered any request.
    begin: Cursor,
    /// Starts the next cycle at once.
    wake: Arc<Notify>,
    /// What the last state knew: it is not searched for again.
    known: Mutex<Option<Checkpoint>>,
}

/// What the tail keeps between two polls.
#[derive(Debug)]
pub struct TailState {
    reading: Reading,
    report: TailReport,
    /// What has happened since the last poll that succeeded.
    events: Vec<TailEvent>,
    /// What an interrupted poll has begun. The next one goes on with it.
    work: Option<Work>,
    saved: Option<Saved>,
    /// The number after the last records, which may wait in memory.
    recorded: u64,
    /// It is not known what became of an append: the journal knows.
    is_lost: bool,
}

/// The work of a poll.
#[derive(Debug)]
enum Work {
    Looking(JoinHandle<std::io::Result<Look>>),
    Appending(JoinHandle<Result<Appended, AppendError>>, Box<Look>),
}

/// The last checkpoint that was to be saved.
#[derive(Clone, Copy, Debug)]
struct Saved {
    checkpoint: Checkpoint,
    oldest: u64,
    at: Instant,
}

impl CorrectionsTail {
    pub(super) fn new(store: Store, directory: Option<&Path>, wake: Arc<Notify>) -> Self {
        let begin = store.journal().cursor();
        Self { store, directory: directory.map(Arc::from), begin, wake, known: Mutex::new(None) }
    }

    /// The newest position, and the checkpoint that is in the directory.
    async fn find(&self) -> Result<(Option<Checkpoint>, Checkpoint), DynError> {
        let journal = self.store.journal();
        let _turn: TailTurn = self.store.tail_turn().await;
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let saved = match (&self.directory, known) {
            (_, Some(known)) => Some(known),
            (Some(directory), None) => {
                let (directory, begin) = (Arc::clone(directory), self.begin);
                let saved = spawn_blocking(move || Checkpoint::load(&directory)).await?;
                // One of another journal, or of records that a power cut has taken, says nothing, though others have their numbers.
                saved.filter(|saved| saved.cursor.at(0) == begin.at(0) && saved.cursor.seq() <= begin.seq())
            }
            (None, None) => None,
        };
        let cursor = journal.cursor();
        let position = match saved {
            Some(saved) => search::newest_since(journal, saved.cursor).await?.or(saved.position),
            None => search::newest(journal).await?,
        };
        Ok((saved.filter(|_| known.is_none()), Checkpoint { position, cursor }))
    }

    /// The state moves on.
    fn done(&self, state: &mut TailState, look: Look, appended: Option<Appended>) {
        let Look { reading, taken, mut events, has_more, is_end, is_opened: _ } = look;
        let report = &mut state.report;
        for event in &events {
            match event {
                TailEvent::Rotated { .. } => report.rotations += 1,
                TailEvent::Truncated { .. } => report.truncations += 1,
                _ => {}
            }
        }
        if let Some(Appended { number, count, .. }) = appended {
            report.recorded += count;
            state.recorded = number + count;
            events.push(TailEvent::Recorded { count, first_sequence: number });
        }
        if let Some(last) = taken.last_skipped {
            tracing::warn!(
                count = taken.skipped,
                offset = last.offset,
                reason = last.reason,
                "lines skipped"
            );
            events.push(TailEvent::Skipped { count: taken.skipped, last: last.clone() });
            report.last_skipped = Some(last);
        }
        report.lines += taken.lines;
        report.skipped += taken.skipped;
        report.file = reading.state;
        report.problem.clone_from(&reading.problem);
        report.offset = reading.offset();
        report.caught_up = is_end && reading.state == FileState::Reading;
        state.reading = reading;
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.checkpoint(state));
        if has_more {
            self.wake.notify_one();
        }
        state.events.append(&mut events);
    }

    fn checkpoint(&self, state: &TailState) -> Checkpoint {
        Checkpoint { position: state.reading.position(), cursor: self.store.journal().cursor() }
    }

    /// Saves a checkpoint if the journal has grown by much, has lost a segment, or after a time.
    async fn save(&self, state: &mut TailState) {
        let Some(directory) = self.directory.clone() else { return };
        let checkpoint = self.checkpoint(state);
        if state.recorded > checkpoint.cursor.seq() {
            // With `buffered`, records wait in memory for the disk: a crash loses them.
            return;
        }
        let (oldest, at) = (self.store.journal().oldest().seq(), Instant::now());
        if state.saved.is_some_and(|saved| !saved.is_due(checkpoint, oldest, at)) {
            return;
        }
        let is_synced = self.store.journal().durability() != Durability::Buffered;
        let saving = spawn_blocking(move || checkpoint.save(&directory, is_synced));
        let problem = match saving.await {
            Ok(Ok(())) => String::new(),
            Ok(Err(error)) => one_line(&error.to_string(), 200),
            Err(error) => one_line(&error.to_string(), 200),
        };
        if !problem.is_empty() && state.report.checkpoint_problem.is_empty() {
            tracing::warn!(
                problem,
                "the position of the tail is not saved: make the data directory writable"
            );
        }
        state.report.checkpoint_problem = problem;
        state.saved = Some(Saved { checkpoint, oldest, at });
    }
}

impl Saved {
    fn is_due(self, checkpoint: Checkpoint, oldest: u64, now: Instant) -> bool {
        let last = self.checkpoint;
        checkpoint.cursor.seq().saturating_sub(last.cursor.seq()) >= RECORDS
            || oldest != self.oldest
            // The file of the saved position was removed.
            || checkpoint.position.is_none() && last.position.is_some()
            || checkpoint != last && now.duration_since(self.at) >= SAVED
    }
}

#[async_trait]
impl Observer for CorrectionsTail {
    type Source = PathBuf;
    type State = TailState;
    type Snapshot = TailReport;
    type Event = TailEvent;

    async fn init(&self, _: &[ObservedSource<PathBuf>]) -> Result<TailState, DynError> {
        let (saved, Checkpoint { position, cursor }) = self.find().await?;
        let oldest = self.store.journal().oldest().seq();
        let saved = saved.map(|checkpoint| Saved { checkpoint, oldest, at: Instant::now() });
        Ok(TailState {
            reading: Reading::new(position),
            report: TailReport::default(),
            events: Vec::new(),
            work: None,
            saved,
            recorded: cursor.seq(),
            is_lost: false,
        })
    }

    async fn poll(
        &self,
        sources: &[ObservedSource<PathBuf>],
        state: &mut TailState,
    ) -> Result<Vec<TailEvent>, DynError> {
        let path = &sources.first().ok_or(TailError::NoPath)?.source;
        if state.is_lost {
            let (_, found) = self.find().await?;
            (state.reading, state.is_lost) = (Reading::new(found.position), false);
        }
        self.save(state).await;
        loop {
            match &mut state.work {
                None => {
                    let (reading, path) = (state.reading.clone(), path.clone());
                    let looking = spawn_blocking(move || reading.look(&path, Timestamp::now()));
                    state.work = Some(Work::Looking(looking));
                }
                Some(Work::Looking(looking)) => {
                    // Nobody else appends meanwhile: what is read here is appended before anything else is read.
                    let turn = self.store.tail_turn().await;
                    let looked = looking.await;
                    state.work = None;
                    let mut look = looked?.map_err(TailError::Read)?;
                    if look.taken.operations.is_empty() {
                        let is_opened = look.is_opened;
                        self.looked(state, look)?;
                        if is_opened {
                            continue;
                        }
                        return Ok(std::mem::take(&mut state.events));
                    }
                    let operations = std::mem::take(&mut look.taken.operations);
                    let appending = self.store.record_tailed(turn, operations);
                    state.work = Some(Work::Appending(appending, Box::new(look)));
                }
                Some(Work::Appending(appending, _)) => {
                    let appended = appending.await;
                    let Some(Work::Appending(_, look)) = state.work.take() else { continue };
                    state.is_lost = appended.is_err();
                    let appended = appended?.map_err(TailError::Append)?;
                    self.done(state, *look, Some(appended));
                    return Ok(std::mem::take(&mut state.events));
                }
            }
        }
    }

    fn snapshot(&self, state: &TailState) -> TailReport {
        state.report.clone()
    }

    /// What an interrupted poll has begun is finished by the next one.
    fn poll_is_cancel_safe(&self) -> bool {
        true
    }
}

impl CorrectionsTail {
    /// A look that has found no lines. What cannot be read is published once, and then fails.
    fn looked(&self, state: &mut TailState, look: Look) -> Result<(), DynError> {
        let is_unusable = matches!(look.reading.state, FileState::NotAFile | FileState::Unreadable);
        if is_unusable
            && (look.reading.state, &look.reading.problem) == (state.reading.state, &state.reading.problem)
        {
            return Err(TailError::Unusable(look.reading.problem).into());
        }
        self.done(state, look, None);
        Ok(())
    }
}

impl std::fmt::Debug for CorrectionsTail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CorrectionsTail").field("store", &self.store).finish_non_exhaustive()
    }
}

/// Why a poll of the tail has failed. The next one tries it again.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum TailError {
    /// The runtime has no source.
    #[error("the tail has no path: start it with `tail::start`")]
    NoPath,
    /// What is at the path is no file that can be read.
    #[error("{0}")]
    Unusable(String),
    /// The file cannot be read further.
    #[error("the file of corrections cannot be read: make sure that its disk is sound")]
    Read(#[source] std::io::Error),
    /// The journal did not take the lines. They are read again.
    #[error("corrections are not recorded, and are read again: see to the journal")]
    Append(#[source] AppendError),
}

debug_as_text!(TailError);
