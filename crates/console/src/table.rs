//! A table that refreshes.

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until, timeout};
use watchkeeper::group::AnyHandle;
use watchkeeper::{ObservationHandle, Observer};

use crate::collect::{Observations, Polling, Seen, Sources, Watched};
use crate::frame::Frame;
use crate::news::Printed;
use crate::render::lines;
use crate::screen::{InPlace, Look, Screen, Stdout, inner};
use crate::timeline::{Lines, Style};

/// A frame that is drawn so much later than planned says so.
const LATE: Duration = Duration::from_millis(500);

/// For so long later frames say that one was late.
const REMEMBERED: Duration = Duration::from_secs(10);

/// How long the end waits for a terminal that takes no more.
const LAST: Duration = Duration::from_secs(1);

/// Shows an observation, or a group of them, until something ends it: in place on a terminal, as plain lines elsewhere.
///
/// On top are the machine and the freshness of its data, then comes a row a source: its state, the age of its last
/// answer, its value, its last error, and how long its newest answers took, as far as the table saw them. A source shows
/// as fresh only while it is [answering](watchkeeper::source::SourceHealth::is_answering) at the moment of drawing: one
/// whose probe hangs does not.
///
/// A frame is drawn every 250 ms, and each age in it is of that moment. A frame that is drawn late, because the
/// executor was blocked, the process suspended or the terminal slow, says by how much. In a pipe a line is printed when
/// something other than an age has changed.
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
        Self::new(Sources { handle: handle.clone(), show: Some(show), seen: Seen::default() })
    }

    /// A row an observation of a group: `members` is `move || group.handles()`, and is called for each frame.
    pub fn of_group(name: &str, members: impl Fn() -> Vec<AnyHandle> + Send + Sync + 'static) -> Self {
        Self::new(Observations {
            members: Box::new(members),
            name: name.to_owned(),
            polling: Polling::default(),
        })
    }

    fn new(watched: impl Watched + 'static) -> Self {
        Self { watched: Box::new(watched), every: Duration::from_millis(250) }
    }

    /// Sets the time between two frames, at least 10 ms. Default: 250 ms.
    #[must_use]
    pub fn every(self, every: Duration) -> Self {
        Self { every: every.max(Duration::from_millis(10)), ..self }
    }

    /// What the table shows now.
    pub fn frame(&mut self) -> Frame {
        self.watched.frame(Instant::now())
    }

    /// Shows the table on standard output until `end`, or until nobody reads the pipe; the last frame stays.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] of standard output. A closed pipe is none.
    ///
    /// # Cancel safety
    ///
    /// The cursor is never hidden, so that a dropped future leaves whole lines and a usable terminal.
    pub async fn run(self, end: impl Future) -> io::Result<()> {
        self.run_on(Stdout::new(), Look::of_stdout(), end).await
    }

    /// Shows the table on `screen`: see [`run`](Self::run). Each frame is written by a thread for blocking work, so
    /// that a slow terminal does not hold the observation up.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub async fn run_on(self, screen: impl Screen, look: Look, end: impl Future) -> io::Result<()> {
        let ended = match look {
            Look::InPlace { colour } => self.in_place(screen, InPlace::new(colour), end).await,
            Look::Lines => self.lines(screen, end).await,
        };
        ended.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
    }

    async fn in_place<S: Screen>(
        mut self,
        screen: S,
        mut place: InPlace,
        end: impl Future,
    ) -> io::Result<()> {
        tokio::pin!(end);
        let began = Instant::now();
        let mut due = began;
        let mut was_late: Option<(Duration, Instant)> = None;
        let mut screen = Some(screen);
        let mut writing: Option<JoinHandle<(S, io::Result<()>)>> = None;
        loop {
            let now = Instant::now();
            if let Some(mut free) = screen.take() {
                let size = free.size();
                let mut frame = self.watched.frame(now);
                frame.at = now - began;
                frame.late = Some(now.saturating_duration_since(due)).filter(|late| *late >= LATE);
                frame.was_late =
                    was_late.map(|(late, at)| (late, now - at)).filter(|(_, ago)| *ago < REMEMBERED);
                was_late = frame.late.map(|late| (late, now)).or(was_late);
                let text = place.over(&lines(&frame, inner(size)), size);
                writing = Some(spawn_blocking(move || {
                    let written = free.write_all(text.as_bytes()).and_then(|()| free.flush());
                    (free, written)
                }));
            }
            due += self.every;
            if due <= now {
                due = now + self.every; // one frame for all that were missed
            }
            let mut is_due = false;
            while writing.is_some() || !is_due {
                let written = async {
                    match &mut writing {
                        Some(task) => task.await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    written = written => {
                        writing = None;
                        let (free, written) = written.map_err(io::Error::other)?;
                        written?;
                        screen = Some(free);
                    }
                    () = sleep_until(due), if !is_due => is_due = true,
                    _ = &mut end => {
                        // One more frame, so that the last state is what stays.
                        if let Some(task) = writing.take() {
                            let Ok(written) = timeout(LAST, task).await else { return Ok(()) };
                            let (free, written) = written.map_err(io::Error::other)?;
                            written?;
                            screen = Some(free);
                        }
                        return screen.map_or(Ok(()), |mut free| self.last(&mut free, place, began));
                    }
                }
            }
        }
    }

    fn last(mut self, screen: &mut impl Screen, mut place: InPlace, began: Instant) -> io::Result<()> {
        let (now, size) = (Instant::now(), screen.size());
        let frame = Frame { at: now - began, ..self.watched.frame(now) };
        let text = place.over(&lines(&frame, inner(size)), size);
        screen.write_all(text.as_bytes()).and_then(|()| screen.flush())
    }

    async fn lines(mut self, screen: impl Screen, end: impl Future) -> io::Result<()> {
        tokio::pin!(end);
        let (lines, mut printed) = (Lines::to(screen, Style::Plain), Printed::default());
        let mut due = Instant::now();
        loop {
            for (kind, text) in printed.news(&self.watched.frame(Instant::now())) {
                lines.text(kind, &text);
            }
            due = Instant::now().max(due + self.every);
            tokio::select! {
                biased;
                () = lines.closed() => return Ok(()),
                _ = &mut end => break,
                () = sleep_until(due) => {}
            }
        }
        for (kind, text) in printed.news(&self.watched.frame(Instant::now())) {
            lines.text(kind, &text);
        }
        Ok(())
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("every", &self.every).finish_non_exhaustive()
    }
}
