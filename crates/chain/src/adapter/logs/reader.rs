//! Logs of long ranges, piece by piece.

use std::collections::VecDeque;
use std::fmt;
use std::ops::RangeInclusive;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::{Id, JoinError, JoinSet};
use watchkeeper::report::debug_as_text;

use super::{Log, LogFilter, LogScope, RangeSize, width};
use crate::Height;
use crate::adapter::{ChainClient, ChainError};

/// Reads logs of long ranges from one node, and remembers how many blocks that node answers at once.
///
/// Keep one for each node. Clones share what is remembered. By default it begins with 1,000 blocks at once
/// ([`with_size`](Self::with_size)), and has 4 questions in flight ([`with_in_flight`](Self::with_in_flight)).
///
/// A range is of the node's own branch. A reorg between two pieces goes unnoticed, and if several backends answer at one
/// address, one that is behind may return fewer logs of a range near the head without an error. So read up to a final
/// block, and ask for the logs of newer blocks one by one, by their hash ([`LogScope::Block`]).
#[derive(Clone, Debug)]
pub struct LogReader<C> {
    client: C,
    size: Arc<Mutex<RangeSize>>,
    in_flight: usize,
}

impl<C: ChainClient> LogReader<C> {
    /// A reader that has asked nothing yet.
    pub fn new(client: C) -> Self {
        Self { client, size: Arc::default(), in_flight: 4 }
    }

    /// Begins with this size.
    #[must_use]
    pub fn with_size(self, size: RangeSize) -> Self {
        Self { size: Arc::new(Mutex::new(size)), ..self }
    }

    /// Sends so many questions at a time; at least 1.
    #[must_use]
    pub fn with_in_flight(self, questions: usize) -> Self {
        Self { in_flight: questions.max(1), ..self }
    }

    /// How many blocks are asked at once by now.
    #[must_use]
    pub fn size(&self) -> RangeSize {
        self.lock().clone()
    }

    /// Reads the logs of a range, lowest first. Nothing is asked before [`LogWalk::next`] is called.
    #[must_use]
    pub fn walk(&self, filter: LogFilter, range: RangeInclusive<Height>) -> LogWalk<C> {
        let (next, last) = (*range.start(), *range.end());
        let pieces = VecDeque::new();
        let (reader, filter, tasks) = (self.clone(), Arc::new(filter), JoinSet::new());
        LogWalk { reader, filter, next, last, head: Head::Unknown, pieces, tasks }
    }

    fn lock(&self) -> MutexGuard<'_, RangeSize> {
        self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The logs of a part of a range: all that match, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPiece {
    /// The heights.
    pub range: RangeInclusive<Height>,
    /// Their logs.
    pub logs: Vec<Log>,
}

/// Why logs cannot be read. What was returned before stays complete, and the next call asks again.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LogsError {
    /// The node did not answer, or not as it should.
    #[error(transparent)]
    Node(#[from] ChainError),
    /// The node refuses a single block for its size.
    #[error(
        "the logs of block {height} alone are too many for this node: ask another node, or with a narrower filter"
    )]
    OneBlock {
        /// Its height.
        height: Height,
        /// The refusal.
        source: ChainError,
    },
    /// The node has no blocks there, though its head is above.
    #[error(
        "the node does not have blocks {from} to {to} now, though its head is not below: ask again, or another node"
    )]
    Missing {
        /// The lowest that was asked for.
        from: Height,
        /// The highest that was asked for.
        to: Height,
    },
}

debug_as_text!(LogsError);

impl LogsError {
    /// Whether the same question may succeed a little later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Node(error) => error.is_retryable(),
            Self::OneBlock { .. } => false,
            Self::Missing { .. } => true,
        }
    }
}

/// The logs of a range, piece by piece.
pub struct LogWalk<C> {
    reader: LogReader<C>,
    filter: Arc<LogFilter>,
    /// The lowest height that was not returned.
    next: Height,
    last: Height,
    head: Head,
    /// What follows `next` without a gap, up to the lower of `last` and the head; empty before it is known.
    pieces: VecDeque<Piece>,
    /// The questions in flight, one for each piece that is asked.
    tasks: JoinSet<Answer>,
}

/// The answer of a client.
type Answer = Result<Option<Vec<Log>>, ChainError>;

/// What a node has.
#[derive(Clone, Copy, Debug)]
enum Head {
    Unknown,
    Asked(Height),
    Given(Height),
}

struct Piece {
    range: RangeInclusive<Height>,
    state: PieceState,
}

enum PieceState {
    /// To be asked, in as many parts as the size wants.
    Waits,
    Asked(Id),
    Answered(Vec<Log>),
    Failed(LogsError),
}

impl<C: ChainClient> LogWalk<C> {
    /// Does not ask the node for its head: it has a block at this height, and no higher one is asked for.
    #[must_use]
    pub fn with_head(self, head: Height) -> Self {
        Self { head: Head::Given(head), ..self }
    }

    /// The lowest height that was not returned: all logs of the range below it were.
    #[must_use]
    pub fn next_height(&self) -> Height {
        self.next
    }

    /// The next piece, right above the one before; `None` at the end of the range or above the head of the node.
    ///
    /// The head is asked for by the first call, and by each call that finds all returned up to the head that it knows, if
    /// the range goes on above it. A refusal for the size is asked again in smaller parts. Another failure, such as a
    /// limited rate, is returned once every piece below it was, and changes no size; the next call asks again, so wait
    /// before it.
    ///
    /// Questions are tasks of the Tokio runtime that calls this: they go on between two calls, however long the caller
    /// takes, and end when the walk is dropped.
    ///
    /// # Errors
    ///
    /// [`LogsError`].
    ///
    /// # Cancel safety
    ///
    /// A dropped call loses nothing: questions in flight are kept, and the next call continues.
    pub async fn next(&mut self) -> Option<Result<LogPiece, LogsError>> {
        if let Err(error) = self.begin().await {
            return Some(Err(error.into()));
        }
        loop {
            match &self.pieces.front()?.state {
                PieceState::Answered(_) => {
                    return self.pieces.pop_front().and_then(|piece| self.returned(piece));
                }
                PieceState::Failed(error) => {
                    let error = error.clone();
                    self.forget_failures();
                    return Some(Err(error));
                }
                PieceState::Waits | PieceState::Asked(_) => {}
            }
            self.ask_more();
            let mut joined = self.tasks.join_next_with_id().await;
            while let Some(answer) = joined {
                self.joined(answer);
                joined = self.tasks.try_join_next_with_id();
            }
        }
    }

    /// Finds out how far the node goes, if nothing is left to ask for.
    async fn begin(&mut self) -> Result<(), ChainError> {
        if !self.pieces.is_empty() || self.next > self.last {
            return Ok(());
        }
        let head = match self.head {
            Head::Given(head) | Head::Asked(head) if head >= self.next => head,
            Head::Given(head) => head,
            Head::Unknown | Head::Asked(_) => self.reader.client.head().await?.height,
        };
        if !matches!(self.head, Head::Given(_)) {
            self.head = Head::Asked(head);
        }
        let range = self.next..=self.last.min(head);
        if !range.is_empty() {
            self.pieces.push_back(Piece { range, state: PieceState::Waits });
        }
        Ok(())
    }

    fn returned(&mut self, piece: Piece) -> Option<Result<LogPiece, LogsError>> {
        let PieceState::Answered(logs) = piece.state else { return None };
        // Above the greatest height there is nothing.
        (self.next, self.last) =
            piece.range.end().checked_add(1).map_or((Height::MAX, 0), |next| (next, self.last));
        Some(Ok(LogPiece { range: piece.range, logs }))
    }

    /// Asks for the lowest pieces that wait, within bounds, and not beyond a failure.
    fn ask_more(&mut self) {
        let is_failed = |piece: &Piece| matches!(piece.state, PieceState::Failed(_));
        let waits = |piece: &Piece| matches!(piece.state, PieceState::Waits);
        while self.pieces.iter().filter(|piece| !waits(piece)).count() < self.reader.in_flight
            && let Some(nth) = self.pieces.iter().position(|piece| waits(piece) || is_failed(piece))
            && waits(&self.pieces[nth])
        {
            let (from, to) = (*self.pieces[nth].range.start(), *self.pieces[nth].range.end());
            let end = to.min(from.saturating_add(self.reader.lock().blocks() - 1));
            if end < to {
                self.pieces.insert(nth + 1, Piece { range: end + 1..=to, state: PieceState::Waits });
            }
            let (client, filter) = (self.reader.client.clone(), Arc::clone(&self.filter));
            let scope = LogScope::Range(from..=end);
            let asked = self.tasks.spawn(async move { client.logs(&filter, &scope).await });
            self.pieces[nth] = Piece { range: from..=end, state: PieceState::Asked(asked.id()) };
        }
    }

    /// A question has ended.
    fn joined(&mut self, answer: Result<(Id, Answer), JoinError>) {
        let id = answer.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let is_asked = |piece: &Piece| matches!(piece.state, PieceState::Asked(asked) if asked == id);
        let Some(nth) = self.pieces.iter().position(is_asked) else { return };
        match answer {
            Ok((_, answer)) => self.answered(nth, answer),
            Err(error) => {
                self.pieces[nth].state = PieceState::Waits;
                if error.is_panic() {
                    resume_unwind(error.into_panic());
                }
            }
        }
    }

    fn answered(&mut self, nth: usize, answer: Result<Option<Vec<Log>>, ChainError>) {
        let (from, to) = (*self.pieces[nth].range.start(), *self.pieces[nth].range.end());
        let blocks = width(&(from..=to));
        self.pieces[nth].state = match answer {
            Ok(Some(logs)) => {
                self.reader.lock().answered(blocks);
                PieceState::Answered(logs)
            }
            Ok(None) => PieceState::Failed(LogsError::Missing { from, to }),
            Err(source @ ChainError::RangeTooLarge { at_most, .. }) => {
                match self.reader.lock().refused(blocks, at_most) {
                    Ok(()) => PieceState::Waits,
                    Err(_) => PieceState::Failed(LogsError::OneBlock { height: from, source }),
                }
            }
            Err(error) => PieceState::Failed(error.into()),
        };
    }

    /// The lowest piece failed: it is asked again, and with it those above whose failure may have passed.
    fn forget_failures(&mut self) {
        for (piece, nth) in self.pieces.iter_mut().zip(0..) {
            if let PieceState::Failed(error) = &piece.state
                && (nth == 0 || error.is_retryable())
            {
                piece.state = PieceState::Waits;
            }
        }
    }
}

impl<C> fmt::Debug for LogWalk<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { filter, next, last, head, .. } = self;
        let (filter, rest) = (&**filter, next..=last);
        f.debug_struct("LogWalk").field("filter", filter).field("rest", &rest).field("head", head).finish()
    }
}
