//! A table that refreshes.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use watchkeeper::group::AnyHandle;
use watchkeeper::{ObservationHandle, Observer};

use crate::collect::{Asked, Observations, Seen, Sources, Watched};
use crate::frame::Frame;
use crate::screen::{Look, Screen, Stdout};
use crate::writer::Writer;

/// Shows an observation, or a group of them, until something ends it: in place on a terminal, as plain lines elsewhere.
///
/// On top are the machine and the freshness of its data, then comes a row a source: its state, the age of its last
/// answer, its value, its last error, and how long its newest answers took, as far as the table saw them. A source shows
/// as fresh only while it is [answering](watchkeeper::source::SourceHealth::is_answering) at the moment of drawing: one
/// whose probe hangs does not.
///
/// A frame is drawn every 250 ms, and each age in it is of that moment. A frame that is drawn late, because the
/// executor was blocked, the process suspended or the terminal slow, says by how much; one that nothing replaces for 1 s
/// longer than planned says how old it is. In a pipe a line is printed when something other than an age or a count has
/// changed.
///
/// A thread of its own writes: a screen that takes no more holds up neither the observation nor the end. What could not
/// be written in time is left out, and the newest frame comes next.
///
/// A table samples, and shows the present. To see each change, use a
/// [subscription](watchkeeper::ObservationHandle::subscribe); to judge one, a [wait](watchkeeper::wait).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use watchkeeper::{DynError, ObservedSource, observe};
/// use watchkeeper_console::Table;
///
/// async fn height(node: ObservedSource<u64>) -> Result<u64, DynError> {
///     Ok(node.source)
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), DynError> {
/// let runtime = observe(Duration::from_secs(1), [("n1", 7), ("n2", 8)], height).await?;
/// let table = Table::of(&runtime.handle(), |nodes, name| nodes.answer(name).map(u64::to_string));
/// table.run(async { tokio::time::sleep(Duration::from_secs(2)).await }).await?; // usually `tokio::signal::ctrl_c()`
/// # Ok(())
/// # }
/// ```
pub struct Table {
    watched: Box<dyn Watched>,
    every: Duration,
    made: Instant,
}

impl Table {
    /// A row a source. `show` returns the value of the source of that name, if it has one to show; with
    /// [`PerSource`](watchkeeper::PerSource) that is
    /// [`answer`](watchkeeper::per_source::PerSourceSnapshot::answer).
    pub fn of<O: Observer>(
        handle: &ObservationHandle<O>,
        show: impl Fn(&O::Snapshot, &str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        let show: crate::collect::Show<O::Snapshot> = Box::new(show);
        Self::new(Sources {
            handle: handle.clone(),
            show: Some(show),
            seen: Seen::default(),
            asked: Asked::default(),
        })
    }

    /// A row an observation of a group: `members` is `move || group.handles()`, and is called for each frame.
    pub fn of_group(name: &str, members: impl Fn() -> Vec<AnyHandle> + Send + Sync + 'static) -> Self {
        Self::new(Observations { members: Box::new(members), name: name.to_owned(), asked: HashMap::new() })
    }

    fn new(watched: impl Watched + 'static) -> Self {
        Self { watched: Box::new(watched), every: Duration::from_millis(250), made: Instant::now() }
    }

    /// Sets the time between two frames, at least 10 ms. Default: 250 ms.
    #[must_use]
    pub fn every(self, every: Duration) -> Self {
        Self { every: every.max(Duration::from_millis(10)), ..self }
    }

    /// What the table shows now.
    pub fn frame(&mut self) -> Frame {
        let now = Instant::now();
        Frame { at: now.saturating_duration_since(self.made), ..self.watched.frame(now) }
    }

    /// Shows the table on standard output until `end`, or until nobody reads the pipe; the last frame stays.
    ///
    /// A terminal or a pipe that takes no more delays the end by at most 1 s.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] of standard output. A closed pipe is none.
    ///
    /// # Cancel safety
    ///
    /// The cursor is never hidden, so that a dropped future leaves whole lines and a usable terminal. No write begins
    /// after the drop; one that has begun goes on.
    pub async fn run(self, end: impl Future) -> io::Result<()> {
        self.run_on(Stdout::new(), Look::of_stdout(), end).await
    }

    /// Shows the table on `screen`: see [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run); also if no thread can be started, or `screen` panics.
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    pub async fn run_on(mut self, screen: impl Screen, look: Look, end: impl Future) -> io::Result<()> {
        let ended = self.show(Writer::start(screen, look, self.every)?, end).await;
        ended.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
    }

    async fn show(&mut self, mut writer: Writer, end: impl Future) -> io::Result<()> {
        tokio::pin!(end);
        let mut due = Instant::now();
        loop {
            let now = Instant::now();
            writer.show(self.frame(), now);
            due += self.every;
            if due <= now {
                due = now + self.every; // one frame for all that were missed
            }
            tokio::select! {
                biased;
                ended = writer.ended() => return ended,
                _ = &mut end => break,
                () = sleep_until(due) => {}
            }
        }
        // One more frame, so that the last state is what stays.
        writer.last(self.frame(), Instant::now()).await
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("every", &self.every).finish_non_exhaustive()
    }
}
