//! Where a stage reads its items.

mod readers;

use std::any::{Any, TypeId, type_name};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use watchkeeper::ObservationBatch;
use watchkeeper::report::{debug_as_text, one_line};
use watchkeeper::subscription::{Cursor, CursorError};
use watchkeeper::{ObservationHandle, Observer};

use crate::item::Item;
use crate::link::{Link, NotThere};
use crate::position::UpstreamPosition;
use crate::stage::caught::discard;

use readers::{Linked, Logged, Mapped, Streamed, Subscribed};

/// Ready with a reader that begins at the position.
pub(crate) type Opening<'a, T> =
    Pin<Box<dyn Future<Output = Result<Box<dyn Reader<T>>, UpstreamErrorKind>> + Send + 'a>>;
type Open<T> = Box<dyn FnMut(Option<LinkPlace>, Option<UpstreamPosition>) -> OpeningNow<T> + Send>;
type OpeningNow<T> = Opening<'static, T>;
/// Returns how much the upstream has published: see [`StageMetrics::lag`](crate::StageMetrics::lag).
pub(crate) type Head = Box<dyn Fn() -> Option<u64> + Send + Sync>;

/// The output of a stage, as its consumers find it.
pub(crate) struct LinkPlace {
    pub(crate) link: Arc<dyn Any + Send + Sync>,
    pub(crate) consumer: usize,
}

/// What an upstream that is a stage must be.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) output: TypeId,
    pub(crate) output_name: &'static str,
    pub(crate) head: fn(Arc<dyn Any + Send + Sync>) -> Option<Head>,
}

/// Where a stage reads its items: an observation, another stage, a log, or a stream. A stage may have several, which it reads in
/// turn as they have something.
///
/// A slow stage makes its upstream stages wait. It never makes an observation wait: what its history loses meanwhile
/// comes as [`Item::Lagged`].
pub struct Upstream<T> {
    name: Arc<str>,
    open: Open<T>,
    /// If it is a stage.
    wanted: Option<Wanted>,
    head: Option<Head>,
}

impl<T: Send + Sync + 'static> Upstream<T> {
    /// The events of an observation, under a name that is unique in the stage. Without a committed position it begins
    /// with what is published after this call.
    ///
    /// The observation's end is the upstream's end. A position of an earlier process needs an observation that
    /// [resumes](watchkeeper::ObservationConfig::resume): the gap between both is then [`Item::Lagged`], and after it
    /// comes [`Item::Rebuilt`]. A position after the point from which it resumes is refused: record that point before each
    /// commit, as [the crate's documentation](crate#restarts-of-the-process) shows.
    pub fn observation<O: Observer<Event = T>>(
        name: impl Into<Arc<str>>,
        handle: &ObservationHandle<O>,
    ) -> Self {
        let (handle, head) = (handle.clone(), handle.clone());
        let mut from_now = Some(handle.subscribe());
        Self {
            name: name.into(),
            open: Box::new(move |_, from| {
                let opened = match from {
                    None => {
                        let begun = from_now.take().unwrap_or_else(|| handle.subscribe());
                        Ok(Subscribed::new(begun, 0))
                    }
                    Some(UpstreamPosition::Batch { cursor, done }) => handle
                        .subscribe_from(cursor)
                        .map(|begun| Subscribed::new(begun, done))
                        .map_err(UpstreamErrorKind::Cursor),
                    Some(UpstreamPosition::Count(_)) => Err(UpstreamErrorKind::OtherKind),
                };
                Box::pin(async move { Ok(Box::new(opened?) as Box<dyn Reader<T>>) })
            }),
            wanted: None,
            head: Some(Box::new(move || Some(head.latest_snapshot()?.cursor.seq()))),
        }
    }

    /// The outputs of the stage `name` of the same pipeline. `T` is that stage's [`Output`](crate::Handler::Output).
    ///
    /// Nothing is lost between two stages: outputs are kept until the stages after it have committed them, also in the
    /// store. Without a committed position it begins with the oldest one kept.
    pub fn stage(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            open: Box::new(|place, from| {
                Box::pin(async move {
                    let Some(LinkPlace { link, consumer }) = place else {
                        return Err(UpstreamErrorKind::NotStarted);
                    };
                    let link = link.downcast::<Link<T>>().map_err(|_| UpstreamErrorKind::NotStarted)?;
                    let (cursor, done) = match from {
                        None => (None, 0),
                        Some(UpstreamPosition::Batch { cursor, done }) => (Some(cursor), done),
                        Some(UpstreamPosition::Count(_)) => return Err(UpstreamErrorKind::OtherKind),
                    };
                    let begin =
                        std::future::poll_fn(|context| link.poll_start(consumer, cursor, context)).await;
                    let begin = begin.map_err(|not_there| match not_there {
                        NotThere::Foreign => UpstreamErrorKind::OtherOutputs,
                        NotThere::Future { newest } => UpstreamErrorKind::Cursor(CursorError::Future {
                            seq: cursor.map_or(0, |cursor| cursor.seq()),
                            published: newest,
                        }),
                        NotThere::Gone { oldest } => UpstreamErrorKind::Gone { oldest },
                        NotThere::NotStarted => UpstreamErrorKind::NotStarted,
                    })?;
                    Ok(Box::new(Linked::new(link, consumer, begin, done)) as Box<dyn Reader<T>>)
                })
            }),
            wanted: Some(Wanted {
                output: TypeId::of::<T>(),
                output_name: type_name::<T>(),
                head: |link| {
                    let link = link.downcast::<Link<T>>().ok()?;
                    Some(Box::new(move || link.head()) as Head)
                },
            }),
            head: None,
        }
    }

    /// The items of a stream, each once. Its end is the upstream's end.
    ///
    /// A stream cannot go back: items that were read and not committed come again after a failure or a restart of the
    /// stage, but not after the process. For that, see [`seekable`](Self::seekable).
    pub fn stream<S>(name: impl Into<Arc<str>>, stream: S) -> Self
    where
        S: Stream<Item = T> + Send + 'static,
    {
        let mut stream = Some(Box::pin(stream) as Pin<Box<dyn Stream<Item = T> + Send>>);
        Self::streamed(name, move |_| stream.take().ok_or(UpstreamErrorKind::StreamIsGone))
    }

    /// The items of a stream that can begin at any item: `from` gets the number of items that are committed, and returns
    /// the stream of those after them.
    ///
    /// # Examples
    ///
    /// ```
    /// use watchkeeper_pipeline::Upstream;
    ///
    /// let lines = ["first", "second", "third"];
    /// let upstream = Upstream::seekable("lines", move |committed| {
    ///     let committed = usize::try_from(committed).unwrap_or(usize::MAX);
    ///     futures_util::stream::iter(lines.into_iter().skip(committed))
    /// });
    /// # let _ = upstream;
    /// ```
    pub fn seekable<S, F>(name: impl Into<Arc<str>>, mut from: F) -> Self
    where
        S: Stream<Item = T> + Send + 'static,
        F: FnMut(u64) -> S + Send + 'static,
    {
        Self::streamed(name, move |committed| {
            Ok(Box::pin(from(committed)) as Pin<Box<dyn Stream<Item = T> + Send>>)
        })
    }

    /// The items of a log whose positions are cursors, such as a journal. `from` gets the position after what is committed,
    /// and returns a stream of what comes after it, each item with the position after it: one number for each event, and
    /// for a gap as many as it has. Without a committed position it gets `None`.
    ///
    /// A cursor that `from` refuses ends the stage's start with its error.
    pub fn log<S, F>(name: impl Into<Arc<str>>, mut from: F) -> Self
    where
        S: Stream<Item = (Item<T>, Cursor)> + Send + 'static,
        F: FnMut(Option<Cursor>) -> Result<S, CursorError> + Send + 'static,
    {
        Self {
            name: name.into(),
            open: Box::new(move |_, position| {
                let cursor = match position {
                    None => Ok(None),
                    Some(UpstreamPosition::Batch { cursor, done: 0 }) => Ok(Some(cursor)),
                    Some(_) => Err(UpstreamErrorKind::OtherKind),
                };
                let opened = cursor.and_then(|cursor| {
                    let stream = from(cursor).map_err(UpstreamErrorKind::Cursor)?;
                    Ok(Logged::new(Box::pin(stream), cursor))
                });
                Box::pin(async move { Ok(Box::new(opened?) as Box<dyn Reader<T>>) })
            }),
            wanted: None,
            head: None,
        }
    }

    fn streamed<F>(name: impl Into<Arc<str>>, mut begin: F) -> Self
    where
        F: FnMut(u64) -> Result<Pin<Box<dyn Stream<Item = T> + Send>>, UpstreamErrorKind> + Send + 'static,
    {
        Self {
            name: name.into(),
            open: Box::new(move |_, from| {
                let opened = match from {
                    None => begin(0).map(|stream| Streamed::new(stream, 0)),
                    Some(UpstreamPosition::Count(count)) => {
                        begin(count).map(|stream| Streamed::new(stream, count))
                    }
                    Some(UpstreamPosition::Batch { .. }) => Err(UpstreamErrorKind::OtherKind),
                };
                Box::pin(async move { Ok(Box::new(opened?) as Box<dyn Reader<T>>) })
            }),
            wanted: None,
            head: None,
        }
    }

    /// The same items as another type, one for one: so that upstreams of several types can be merged, and events can be
    /// stored. The function must return the same for the same event, also in another process. If it panics, the stage fails.
    pub fn map<U, F>(self, function: F) -> Upstream<U>
    where
        U: Send + Sync + 'static,
        F: Fn(&T) -> U + Send + Sync + 'static,
    {
        let Self { name, mut open, wanted, head } = self;
        let function: Arc<dyn Fn(&T) -> U + Send + Sync> = Arc::new(function);
        Upstream {
            name,
            open: Box::new(move |place, from| {
                let (opening, function) = (open(place, from), Arc::clone(&function));
                Box::pin(
                    async move { Ok(Box::new(Mapped::new(opening.await?, function)) as Box<dyn Reader<U>>) },
                )
            }),
            wanted,
            head,
        }
    }

    pub(crate) fn open(&mut self, place: Option<LinkPlace>, from: Option<UpstreamPosition>) -> OpeningNow<T> {
        (self.open)(place, from)
    }
}

impl<T> Upstream<T> {
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn wanted(&self) -> Option<Wanted> {
        self.wanted
    }

    pub(crate) fn take_head(&mut self) -> Option<Head> {
        self.head.take()
    }
}

impl<T> fmt::Debug for Upstream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why a stage cannot read one of its upstreams from where it was.
#[derive(thiserror::Error)]
#[error("upstream {}: {kind}", one_line(.upstream, 100))]
pub struct UpstreamError {
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// What is wrong.
    pub kind: UpstreamErrorKind,
}

debug_as_text!(UpstreamError, UpstreamErrorKind);

/// What is wrong with a position.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamErrorKind {
    /// The observation or the stage does not know the cursor: it is of another run, or of the future.
    #[error(
        "the committed position cannot be read from: {0}; resume the observation with ObservationConfig::resume, from a \
         point that was recorded before the commit; keep the store of a stage before this one; put back the log that was \
         read, with the records up to there; or begin with a store without a position"
    )]
    Cursor(CursorError),
    /// The stage before has another store than it had.
    #[error(
        "the outputs of that stage are not those from which this stage has committed: its store is gone, or is in memory; \
         put it back, give that stage a store as durable as this one's, or begin with a store without a position"
    )]
    OtherOutputs,
    /// The stage before has already dropped the outputs: all its consumers had committed them.
    #[error(
        "the committed position is from before batch {oldest}, the oldest that the stage has kept: an older copy of the \
         store was put back; put back both stores of one moment, or begin with a store without a position"
    )]
    Gone {
        /// The oldest batch.
        oldest: u64,
    },
    /// The position is a count for an upstream with a cursor, or a cursor for a stream.
    #[error(
        "the committed position is of another kind of upstream: give the upstream its old name back, or a new one, or \
         begin with a store without a position"
    )]
    OtherKind,
    /// There is a position for an upstream that the stage does not have.
    #[error(
        "there is a committed position and no such upstream: give the upstream its old name back, or name it in \
         StageBuilder::forget"
    )]
    Unknown,
    /// The stage before has not started.
    #[error("the stage that it reads has not started: restart that stage first")]
    NotStarted,
    /// The stream was read by an earlier start that failed.
    #[error("its stream was taken by an earlier start: build the pipeline again, or use Upstream::seekable")]
    StreamIsGone,
}

/// Reads one upstream in pieces.
pub(crate) trait Reader<T>: Send {
    /// The next piece; `None` after the end.
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Chunk<T>>>;

    /// The number of its position, before anything was read.
    fn start(&self) -> u64;

    /// Whether it ends by itself when the stages before it have drained.
    fn is_stage(&self) -> bool {
        false
    }

    /// Everything before `position` is committed.
    fn committed(&mut self, position: UpstreamPosition) {
        let _ = position;
    }
}

/// Some consecutive items, which are committed together.
pub(crate) struct Chunk<T> {
    pub(crate) items: Items<T>,
    /// The position of the first item.
    pub(crate) start: UpstreamPosition,
    /// How many items of it are committed already.
    pub(crate) done: usize,
    /// The position after the last item.
    pub(crate) end: UpstreamPosition,
    /// Each item has a number of its own in the upstream.
    pub(crate) is_numbered: bool,
}

pub(crate) enum Items<T> {
    Batch(Arc<ObservationBatch<T>>),
    Owned(OwnedItems<T>),
    /// One item without an event.
    Mark(Item<std::convert::Infallible>),
}

/// Items that are dropped one by one: two destructors that panic in one drop would abort the process.
pub(crate) struct OwnedItems<T>(pub(crate) Vec<T>);

impl<T> Drop for OwnedItems<T> {
    fn drop(&mut self) {
        if std::mem::needs_drop::<T>() {
            self.0.drain(..).for_each(|item| discard(item, "an item"));
        }
    }
}

impl<T> Items<T> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Batch(batch) => batch.events.len(),
            Self::Owned(items) => items.0.len(),
            Self::Mark(_) => 1,
        }
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<Item<&T>> {
        match self {
            Self::Batch(batch) => batch.events.get(index).map(Item::Event),
            Self::Owned(items) => items.0.get(index).map(Item::Event),
            Self::Mark(_) if index > 0 => None,
            Self::Mark(mark) => match *mark {
                Item::Lagged { missed } => Some(Item::Lagged { missed }),
                Item::Rebuilt { generation } => Some(Item::Rebuilt { generation }),
                Item::Event(never) => match never {},
            },
        }
    }
}

impl<T> Chunk<T> {
    /// The position before item `index`.
    pub(crate) fn position(&self, index: usize) -> UpstreamPosition {
        if index >= self.items.len() { self.end } else { self.start.of_item(index as u64, self.is_numbered) }
    }
}
