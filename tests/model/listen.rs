//! Those who listen to the runtime, each beside its model.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_core::Stream;
use proptest::prelude::*;
use tokio::time::Instant;
use watchkeeper::{Cursor, InvalidWait, ObservationStatus, Subscription, Watch, WatchClosed};

use crate::app::App;
use crate::life::How;
use crate::play::Checked;
use crate::read;
use crate::reference::{Model, Position};
use crate::waiting::{Following, Item, Reading, Verdict, Waiting, Want};

/// Remembers that it was woken. Whoever was not looks at nothing: so no wake-up can be missed
/// without notice.
struct Flag(AtomicBool);

impl Flag {
    fn raised() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A future that is polled by hand.
pub(crate) struct Probe<T> {
    future: Pin<Box<dyn Future<Output = T>>>,
    flag: Arc<Flag>,
}

impl<T> Probe<T> {
    pub(crate) fn new(future: impl Future<Output = T> + 'static) -> Self {
        Self { future: Box::pin(future), flag: Flag::raised() }
    }

    pub(crate) fn poll(&mut self) -> Option<T> {
        self.flag.take();
        let waker = Waker::from(Arc::clone(&self.flag));
        match self.future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    pub(crate) fn poll_if_woken(&mut self) -> Option<T> {
        if self.flag.0.load(Ordering::Relaxed) { self.poll() } else { None }
    }
}

/// A subscription.
pub(crate) struct Listener {
    real: Subscription<u64>,
    model: Reading,
    how: How,
    flag: Arc<Flag>,
    closed: bool,
}

impl Listener {
    pub(crate) fn new(real: Subscription<u64>, model: Reading, how: How) -> Self {
        Self { real, model, how, flag: Flag::raised(), closed: false }
    }

    pub(crate) fn cursor(&self) -> (Cursor, Position) {
        (self.real.cursor(), self.model.at)
    }

    /// A stream reads whatever it was woken for, and was woken for whatever there is to read.
    pub(crate) fn check(&mut self, model: &Model, began: Instant) -> Checked {
        prop_assert_eq!(read::position(self.real.cursor()), self.model.at, "where {:?} stands", self.how);
        if self.how != How::Stream {
            return Ok(());
        }
        if self.flag.take() {
            return self.read(usize::MAX, model, began);
        }
        let missed = if self.closed { None } else { self.model.next(model) };
        prop_assert_eq!(missed, None, "a stream was not woken");
        Ok(())
    }

    /// Reads up to so many items.
    pub(crate) fn read(&mut self, items: usize, model: &Model, began: Instant) -> Checked {
        for _ in 0..items {
            let told = match self.how {
                How::TryRecv => self.real.try_recv(),
                How::Recv => {
                    let mut context = Context::from_waker(Waker::noop());
                    match pin!(self.real.recv()).poll(&mut context) {
                        Poll::Ready(item) => Some(item),
                        Poll::Pending => None,
                    }
                }
                How::Stream => {
                    let waker = Waker::from(Arc::clone(&self.flag));
                    let mut context = Context::from_waker(&waker);
                    match Pin::new(&mut self.real).poll_next(&mut context) {
                        Poll::Ready(None) => {
                            prop_assert!(self.closed, "a stream ended too early");
                            return Ok(());
                        }
                        Poll::Ready(item) => item,
                        Poll::Pending => None,
                    }
                }
            };
            let told = told.map(|item| read::item(item, began));
            prop_assert_eq!(&told, &self.model.next(model), "read by {:?}", self.how);
            let closed = matches!(told, Some(Item::Closed(_)));
            // The end is told again to whoever asks again, but not by a stream.
            if told.is_none() || (closed && self.closed) {
                break;
            }
            self.closed = closed;
        }
        Ok(())
    }
}

/// A wait.
pub(crate) struct Waiter {
    real: Probe<Verdict>,
    /// Its place in the model.
    place: usize,
    eager: bool,
    judged: bool,
}

impl Waiter {
    pub(crate) fn new(
        model: &mut Model,
        real: Pin<Box<dyn Future<Output = Verdict>>>,
        eager: bool,
        (want, counts_from, window, invalid): (Want, u64, u64, Option<InvalidWait>),
    ) -> Self {
        let waiting = Waiting::new(model, want, counts_from, window, invalid);
        model.waits.push(waiting);
        Self { real: Probe::new(real), place: model.waits.len() - 1, eager, judged: false }
    }

    /// An eager wait is polled when it was woken, and was woken when it has a verdict.
    pub(crate) fn check(&mut self, model: &mut Model) -> Checked {
        if !self.eager || self.judged {
            return Ok(());
        }
        let expected = model.waits[self.place].look(model.now);
        let got = self.real.poll_if_woken();
        prop_assert_eq!(got, expected, "the verdict of a wait");
        self.judged = got.is_some();
        Ok(())
    }

    pub(crate) fn look(&mut self, model: &mut Model) -> Checked {
        if !self.judged {
            let expected = model.waits[self.place].look(model.now);
            let got = self.real.poll();
            prop_assert_eq!(got, expected, "the verdict of a wait that was left alone");
            self.judged = got.is_some();
        }
        Ok(())
    }
}

type Changed = (Watch<App>, Result<ObservationStatus<App>, WatchClosed>);

/// A watch that follows from the beginning.
pub(crate) struct Follower {
    real: Probe<Changed>,
    model: Following,
}

impl Follower {
    pub(crate) fn new(watch: Watch<App>, model: &Model) -> Self {
        Self { real: Self::next(watch), model: Following::new(model) }
    }

    fn next(mut watch: Watch<App>) -> Probe<Changed> {
        Probe::new(async move {
            let changed = watch.changed().await;
            (watch, changed)
        })
    }

    pub(crate) fn check(&mut self, model: &Model, began: Instant) -> Checked {
        let expected = self.model.changed(model);
        match self.real.poll_if_woken() {
            Some((watch, Ok(status))) => {
                prop_assert!(expected, "the watch told what was known");
                prop_assert_eq!(&read::status(&status, began), &model.status, "told by the watch");
                self.real = Self::next(watch);
                // Registers for the next news; there is none yet, or only the end again.
                let again = self.real.poll().map(|(watch, changed)| (watch, changed.err()));
                let over = model.stopped().map(WatchClosed);
                prop_assert_eq!(again.as_ref().and_then(|(_, closed)| *closed), over);
                prop_assert_eq!(again.is_some(), over.is_some(), "the watch told it twice");
                if let Some((watch, _)) = again {
                    self.real = Self::next(watch);
                    self.real.flag.take();
                }
            }
            Some((_, Err(closed))) => prop_assert!(false, "told twice: {closed}"),
            None => prop_assert!(!expected, "the watch was not woken"),
        }
        Ok(())
    }
}
