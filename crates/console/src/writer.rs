//! The thread that writes a table.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant as RealInstant};

use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::fit::age;
use crate::frame::Frame;
use crate::news::Printed;
use crate::render::lines;
use crate::screen::{InPlace, Look, Screen, inner};
use crate::timeline::{Lines, Style};

/// A frame that is drawn so much later than planned says so.
const LATE: Duration = Duration::from_millis(500);

/// For so long later frames say that one was late.
const REMEMBERED: Duration = Duration::from_secs(10);

/// How long the end waits for a screen that takes no more.
const LAST: Duration = Duration::from_secs(1);

/// A frame that is so much older than the next one was planned says so, once in this time.
const OLD: Duration = Duration::from_secs(1);

/// How often the clock is read. Where that takes much longer, the process stood still.
const LOOK: Duration = Duration::from_millis(100);

/// Gives frames to the thread. What it has not taken when the next frame comes is replaced. Dropping it ends the thread
/// before its next write.
///
/// The thread is detached: nothing waits for a write that never returns.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    ended: oneshot::Receiver<()>,
}

#[derive(Default)]
struct Shared {
    slot: Mutex<Slot>,
    changed: Condvar,
}

#[derive(Default)]
struct Slot {
    frame: Option<(Frame, Instant)>,
    /// No frame comes after the one in the slot.
    is_last: bool,
    cancelled: bool,
    result: Option<io::Result<()>>,
    /// When a thread last read the clock: one of the two never writes.
    looked: Option<RealInstant>,
    /// How long the process stood still, if the table has not said so.
    stood: Option<Duration>,
}

impl Slot {
    fn look(&mut self) {
        let now = RealInstant::now();
        let stood = self.looked.map_or(Duration::ZERO, |last| now - last).saturating_sub(LOOK);
        self.stood = Some(stood).filter(|stood| *stood >= LATE).or(self.stood);
        self.looked = Some(now);
    }
}

/// What the thread does next.
enum Next {
    Draw(Box<Frame>, Instant),
    Look,
    End,
}

fn named(name: &str) -> thread::Builder {
    thread::Builder::new().name(name.to_owned())
}

impl Writer {
    /// Starts the thread. Frames are planned one each `every`.
    pub(crate) fn start(screen: impl Screen, look: Look, every: Duration) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (done, ended) = oneshot::channel();
        let pen = Pen { shared: Arc::clone(&shared), done: Some(done) };
        let write: Box<dyn FnOnce() -> io::Result<()> + Send> = match look {
            Look::InPlace { colour } => {
                let (place, pen) = (InPlace::new(colour), Arc::clone(&shared));
                let drawing = Drawing {
                    screen,
                    place,
                    every,
                    drawn: None,
                    was_late: None,
                    written: RealInstant::now(),
                };
                Box::new(move || drawing.run(&pen))
            }
            Look::Lines => {
                // Here, so that times count on the clock of the runtime.
                let (lines, pen) = (Lines::to(screen, Style::Plain), Arc::clone(&shared));
                Box::new(move || print(&lines, &pen))
            }
        };
        let watching = Arc::clone(&shared);
        named("watchkeeper-table").spawn(move || {
            let result = write();
            pen.shared.slot().result = Some(result);
        })?;
        // A write that takes long is no suspension: so another thread looks, too.
        named("watchkeeper-look").spawn(move || watching.look())?;
        Ok(Self { shared, ended })
    }

    /// Replaces the frame that is not written yet.
    pub(crate) fn show(&self, frame: Frame, made: Instant) {
        self.shared.slot().frame = Some((frame, made));
        self.shared.changed.notify_all();
    }

    /// Waits until the thread has ended by itself.
    pub(crate) async fn ended(&mut self) -> io::Result<()> {
        let _ = (&mut self.ended).await;
        self.result()
    }

    fn result(&self) -> io::Result<()> {
        self.shared.slot().result.take().unwrap_or_else(|| Err(io::Error::other("the screen has panicked")))
    }

    /// Shows the last frame, and waits for at most [`LAST`] until it is written.
    pub(crate) async fn last(self, frame: Frame, made: Instant) -> io::Result<()> {
        {
            let mut slot = self.shared.slot();
            (slot.frame, slot.is_last) = (Some((frame, made)), true);
        }
        self.shared.changed.notify_all();
        let shared = Arc::clone(&self.shared);
        // On the real clock, and bounded: a runtime that is dropped waits for this.
        let ended = spawn_blocking(move || shared.wait_for_the_end()).await;
        if ended.unwrap_or(false) { self.result() } else { Ok(()) }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.slot().cancelled = true;
        self.shared.changed.notify_all();
    }
}

/// Reports the end of the thread, also if it panics.
struct Pen {
    shared: Arc<Shared>,
    done: Option<oneshot::Sender<()>>,
}

impl Drop for Pen {
    fn drop(&mut self) {
        let mut slot = self.shared.slot();
        let panicked = || Err(io::Error::other("the screen has panicked"));
        slot.result = Some(slot.result.take().unwrap_or_else(panicked));
        drop(slot);
        self.shared.changed.notify_all();
        self.done.take().map(|done| done.send(()));
    }
}

impl Shared {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Next {
        let idle = |slot: &mut Slot| slot.frame.is_none() && !slot.is_last && !slot.cancelled;
        let waited = self.changed.wait_timeout_while(self.slot(), LOOK, idle);
        let (mut slot, _) = waited.unwrap_or_else(PoisonError::into_inner);
        slot.look();
        match slot.frame.take() {
            _ if slot.cancelled => Next::End,
            Some((frame, made)) => Next::Draw(Box::new(frame), made),
            None if slot.is_last => Next::End,
            None => Next::Look,
        }
    }

    fn look(&self) {
        let mut slot = self.slot();
        while slot.result.is_none() && !slot.cancelled {
            slot = self.changed.wait_timeout(slot, LOOK).unwrap_or_else(PoisonError::into_inner).0;
            slot.look();
        }
    }

    fn wait_for_the_end(&self) -> bool {
        let goes_on = |slot: &mut Slot| slot.result.is_none();
        let waited = self.changed.wait_timeout_while(self.slot(), LAST, goes_on);
        waited.unwrap_or_else(PoisonError::into_inner).0.result.is_some()
    }
}

struct Drawing<S> {
    screen: S,
    place: InPlace,
    every: Duration,
    /// The newest frame, when it was made, and when it came.
    drawn: Option<(Box<Frame>, Instant, RealInstant)>,
    was_late: Option<(Duration, Instant)>,
    /// When the last write began.
    written: RealInstant,
}

impl<S: Screen> Drawing<S> {
    fn run(mut self, shared: &Shared) -> io::Result<()> {
        loop {
            let next = shared.next();
            if let Some(stood) = shared.slot().stood.take() {
                // A shell has printed below the table: up from here is no longer where it is.
                self.place.begin_below(&format!("this process stood still for {}", age(stood)));
            }
            match next {
                Next::Draw(frame, made) => self.draw(frame, made)?,
                Next::Look => self.look()?,
                Next::End => return Ok(()),
            }
        }
    }

    /// Both instants are of the runtime's clock: the distance of two frames says what was missed, for any reason.
    fn draw(&mut self, mut frame: Box<Frame>, made: Instant) -> io::Result<()> {
        let planned = self.drawn.as_ref().map(|(_, last, _)| *last + self.every);
        let late = planned.map(|planned| made.saturating_duration_since(planned));
        frame.late = late.filter(|late| *late >= LATE);
        frame.was_late = self.was_late.map(|(late, at)| (late, made.saturating_duration_since(at)));
        frame.was_late = frame.was_late.filter(|(_, ago)| *ago < REMEMBERED);
        self.was_late = frame.late.map(|late| (late, made)).or(self.was_late);
        self.write(&frame)?;
        self.drawn = Some((frame, made, RealInstant::now()));
        Ok(())
    }

    /// A frame that nothing replaces says so.
    fn look(&mut self) -> io::Result<()> {
        let Some((frame, _, came)) = &self.drawn else { return Ok(()) };
        let old = came.elapsed();
        if old >= self.every + OLD && self.written.elapsed() >= OLD {
            let frame = Frame { old: Some(old), ..Frame::clone(frame) };
            self.write(&frame)?;
        }
        Ok(())
    }

    fn write(&mut self, frame: &Frame) -> io::Result<()> {
        self.written = RealInstant::now();
        let size = self.screen.size();
        let text = self.place.over(&lines(frame, inner(size)), size);
        self.screen.write_all(text.as_bytes()).and_then(|()| self.screen.flush())
    }
}

/// Prints what has changed since the last frame that was printed.
fn print(lines: &Lines, shared: &Shared) -> io::Result<()> {
    let mut printed = Printed::default();
    loop {
        match shared.next() {
            Next::Draw(frame, made) => {
                for (kind, text) in printed.news(&frame) {
                    lines.line(made, kind, &text, |_| "");
                    lines.error()?;
                    if shared.slot().cancelled {
                        return Ok(());
                    }
                }
            }
            Next::Look => {}
            Next::End => return Ok(()),
        }
    }
}
