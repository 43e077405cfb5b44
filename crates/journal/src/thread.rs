//! The thread that writes.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tokio::time::Instant;

use crate::chunk::{ChunkReader, Piece};
use crate::config::Durability;
use crate::entry::Entry;
use crate::error::CloseError;
use crate::health::{JournalHealth, JournalProblem, JournalProblemKind};
use crate::line::MAX_BATCH_BYTES;
use crate::medium::Medium;
use crate::segment::{Frontier, Segment};
use crate::writer::{Event, Request, Writer, Written};

/// What waits for the thread.
pub(crate) struct Queue {
    pub(crate) waiting: Mutex<Waiting>,
    pub(crate) changed: Condvar,
}

#[derive(Default)]
pub(crate) struct Waiting {
    pub(crate) requests: VecDeque<Submitted>,
    pub(crate) is_closed: bool,
}

pub(crate) struct Submitted {
    pub(crate) request: Request,
    pub(crate) answer: oneshot::Sender<Written>,
    pub(crate) room: OwnedSemaphorePermit,
}

impl Queue {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Waits for requests, and takes as many as one group may have; none at the end.
    fn take(
        &self,
        takes_one: bool,
        requests: &mut Vec<Request>,
        answers: &mut Vec<(oneshot::Sender<Written>, OwnedSemaphorePermit)>,
    ) {
        let mut waiting = self.lock();
        while waiting.requests.is_empty() && !waiting.is_closed {
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        let mut bytes = 0;
        let most = if takes_one { 1 } else { MAX_BATCH_BYTES };
        while bytes < most {
            let Some(Submitted { request, answer, room }) = waiting.requests.pop_front() else {
                break;
            };
            bytes += request.entries.iter().map(Entry::weight).sum::<usize>();
            requests.push(request);
            answers.push((answer, room));
        }
    }
}

/// Refuses what comes, and what waits, when the thread has ended.
struct CloseQueue(Arc<Queue>, Arc<watch::Sender<JournalHealth>>);

impl Drop for CloseQueue {
    fn drop(&mut self) {
        self.0.close();
        // Their answers are dropped with them.
        let waiting = std::mem::take(&mut self.0.lock().requests);
        drop(waiting);
        if thread::panicking() {
            let problem =
                JournalProblem::new(JournalProblemKind::Write, "the thread that writes has panicked");
            self.1.send_modify(|health| health.found(problem));
        }
    }
}

/// The thread that writes.
pub(crate) struct Thread {
    pub(crate) queue: Arc<Queue>,
    pub(crate) medium: Arc<dyn Medium>,
    pub(crate) writer: Writer,
    pub(crate) frontier: watch::Sender<Frontier>,
    pub(crate) health: Arc<watch::Sender<JournalHealth>>,
    pub(crate) closing: watch::Sender<Option<Result<(), CloseError>>>,
    /// The thread that reads complete segments again, once there was one.
    pub(crate) verifier: Option<mpsc::Sender<(Segment, u64)>>,
    /// With `always`, an answer waits for its own sync alone.
    pub(crate) takes_one: bool,
    pub(crate) is_memory: bool,
}

impl Thread {
    pub(crate) fn run(mut self) {
        // A medium of an app's own may panic.
        let _guard = CloseQueue(Arc::clone(&self.queue), Arc::clone(&self.health));
        let (mut requests, mut answers) = (Vec::new(), Vec::new());
        loop {
            self.queue.take(self.takes_one, &mut requests, &mut answers);
            if requests.is_empty() {
                break;
            }
            let written = self.writer.commit(&requests);
            // A reader never waits for what was answered.
            self.frontier.send_replace(self.writer.frontier());
            let is_kept = |written: &Written| matches!(written, Ok((_, level)) if self.is_kept(*level));
            self.report(written.last().is_some_and(is_kept));
            for ((answer, _room), written) in answers.drain(..).zip(written) {
                let _ = answer.send(written);
            }
            requests.clear();
        }
        let result = self.writer.close(Instant::now());
        self.frontier.send_replace(self.writer.frontier());
        self.report(result.is_ok());
        if let Err((lost, error)) = &result {
            tracing::error!(place = %self.medium.place(), lost, %error, "the journal did not close cleanly");
        }
        // The directory is free before anybody learns of the end.
        let Self { writer, closing, frontier, .. } = self;
        drop(writer);
        drop(frontier);
        closing.send_replace(Some(result.map_err(|(lost, source)| CloseError::Write { lost, source })));
    }

    fn is_kept(&self, level: Durability) -> bool {
        level != Durability::Memory || self.is_memory
    }

    /// Has a complete segment read again, by a thread that ends after this one.
    fn verify(&mut self, segment: Segment, from: u64) {
        if self.is_memory {
            return;
        }
        let (medium, health) = (Arc::clone(&self.medium), Arc::clone(&self.health));
        let verifier = self.verifier.get_or_insert_with(|| {
            let (verifier, segments) = mpsc::channel::<(Segment, u64)>();
            let run = move || {
                while let Ok((segment, from)) = segments.recv() {
                    verify(&*medium, segment, from, &health);
                }
            };
            if let Err(error) = thread::Builder::new().name("journal-check".to_owned()).spawn(run) {
                tracing::debug!(%error, "segments are not verified");
            }
            verifier
        });
        let _ = verifier.send((segment, from));
    }

    /// Publishes what has happened besides the answers.
    fn report(&mut self, is_written: bool) {
        let in_memory = self.writer.backlog();
        let mut problems = Vec::new();
        for event in std::mem::take(&mut self.writer.events) {
            match event {
                Event::Sealed(segment, from) => self.verify(segment, from),
                event => problems.extend(problem_of(event, &*self.medium)),
            }
        }
        self.health.send_if_modified(|health| {
            let before = (health.problem.is_some(), health.in_memory, health.problems);
            health.in_memory = in_memory;
            for problem in problems {
                health.found(problem);
            }
            if is_written {
                health.written();
            }
            before != (health.problem.is_some(), in_memory, health.problems)
        });
    }
}

/// The problem that an event is, as it is logged and published.
pub(crate) fn problem_of(event: Event, medium: &dyn Medium) -> Option<JournalProblem> {
    let (kind, detail) = match event {
        Event::Full => (JournalProblemKind::Full, medium.place()),
        Event::WriteFailed(error) => (JournalProblemKind::Write, error),
        Event::SyncFailed(error) => (JournalProblemKind::Sync, error),
        Event::Deleted(name) => (JournalProblemKind::Deleted, name),
        Event::NoReserve(error) => (JournalProblemKind::Reserve, error),
        Event::Altered(name) => (JournalProblemKind::Altered, name),
        Event::RetentionFailed(error) => (JournalProblemKind::Retention, error),
        Event::Sealed(..) => return None,
    };
    let problem = JournalProblem::new(kind, &detail);
    tracing::error!(place = %medium.place(), %problem, "the journal has a problem");
    Some(problem)
}

/// Reads a complete segment once more, so that damage is found early.
fn verify(medium: &dyn Medium, segment: Segment, from: u64, health: &watch::Sender<JournalHealth>) {
    let problem = match is_whole(medium, segment, from) {
        Ok(true) => return,
        Ok(false) => JournalProblem::new(JournalProblemKind::Damaged, &segment.name()),
        // Retention has removed it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            JournalProblem::new(JournalProblemKind::Damaged, &format!("{}: {error}", segment.name()))
        }
    };
    tracing::error!(place = %medium.place(), %problem, "the journal has a problem");
    health.send_modify(|health| health.found(problem));
}

/// Whether the segment has nothing but records, with numbers that grow. What was there when it was opened was judged then.
fn is_whole(medium: &dyn Medium, segment: Segment, from: u64) -> io::Result<bool> {
    let mut reader = ChunkReader::new(medium.open(&segment.name(), false)?, from);
    let mut next = segment.first;
    while let Some(chunk) = reader.next(segment.end)? {
        for piece in &chunk.pieces {
            match piece {
                Piece::Record(record) if record.number >= next => next = record.number + 1,
                _ => return Ok(false),
            }
        }
        reader.reuse(chunk);
    }
    Ok(reader.open_line() == segment.end)
}
