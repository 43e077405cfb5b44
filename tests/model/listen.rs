//! Listeners of the runtime, each beside its model.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_core::Stream;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use watchkeeper::runtime::ObservationStatus;
use watchkeeper::subscription::{Cursor, Subscription};
use watchkeeper::wait::{Watch, WatchError};

use crate::app::App;
use crate::life::How;
use crate::play::Checked;
use crate::read::{self, Judged};
use crate::reference::{Model, Position};
use crate::waiting::{Following, Item, Reading, Verdict, Waiting};

/// Remembers that it was woken. A listener that was not woken reads nothing, so that a missed wake-up
/// is noticed.
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

    /// Until it is ready, or waits for something else: one that has only let others have their turn is
    /// polled again.
    pub(crate) fn poll(&mut self) -> Option<T> {
        let waker = Waker::from(Arc::clone(&self.flag));
        loop {
            self.flag.take();
            if let Poll::Ready(output) = self.future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Some(output);
            }
            if !self.flag.0.load(Ordering::Relaxed) {
                return None;
            }
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

    /// A stream reads everything that it was woken for, and was woken for everything that there is to read.
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
            let item = match self.how {
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
            let item = item.map(|item| read::item(item, began));
            prop_assert_eq!(&item, &self.model.next(model), "read by {:?}", self.how);
            let closed = matches!(item, Some(Item::Closed(_)));
            // Each later call returns the end again, except on a stream.
            if item.is_none() || (closed && self.closed) {
                break;
            }
            self.closed = closed;
        }
        Ok(())
    }
}

/// A wait.
pub(crate) struct Waiter {
    real: Awaited,
    /// Its place in the model.
    place: usize,
    judged: bool,
}

enum Awaited {
    /// By a separate task, which returns when it had the verdict.
    ByTask(AbortOnDropHandle<(Instant, Verdict)>),
    /// When a step says so.
    ByHand(Probe<Verdict>),
}

impl Waiter {
    pub(crate) fn new(model: &mut Model, real: Judged, eager: bool, waiting: Waiting) -> Self {
        model.waits.push(waiting);
        let real = if eager {
            let task = tokio::spawn(async move {
                let verdict = real.await;
                (Instant::now(), verdict)
            });
            Awaited::ByTask(AbortOnDropHandle::new(task))
        } else {
            Awaited::ByHand(Probe::new(real))
        };
        Self { real, place: model.waits.len() - 1, judged: false }
    }

    /// A wait that is awaited has its verdict at the very moment it is due.
    pub(crate) fn check(&mut self, model: &mut Model, began: Instant) -> Checked {
        let Awaited::ByTask(task) = &mut self.real else { return Ok(()) };
        if self.judged {
            return Ok(());
        }
        let waiting = &mut model.waits[self.place];
        let expected = waiting.look(model.now).map(|(at, verdict)| {
            // A task that cannot run gets the verdict when it can.
            let stall = model.stalls.iter().find(|(from, until)| (*from..*until).contains(&at) && at > *from);
            (stall.map_or(at, |(_, until)| *until), verdict)
        });
        let got = match Pin::new(task).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(ended) => {
                let (at, verdict) = ended.map_err(|error| TestCaseError::fail(error.to_string()))?;
                Some((u64::try_from((at - began).as_millis()).unwrap(), verdict))
            }
            Poll::Pending => None,
        };
        prop_assert_eq!(got, expected, "the verdict on {:?}", waiting.want);
        self.judged = got.is_some();
        Ok(())
    }

    pub(crate) fn look(&mut self, model: &mut Model) -> Checked {
        let Awaited::ByHand(probe) = &mut self.real else { return Ok(()) };
        if !self.judged {
            let waiting = &mut model.waits[self.place];
            let expected = waiting.look(model.now).map(|(_, verdict)| verdict);
            let got = probe.poll();
            prop_assert_eq!(got, expected, "the verdict on {:?}, which was left alone", waiting.want);
            self.judged = got.is_some();
        }
        Ok(())
    }
}

type Changed = (Watch<App>, Result<ObservationStatus<App>, WatchError>);

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
                prop_assert!(expected, "the watch reported what was known");
                prop_assert_eq!(&read::status(&status, began), &model.status, "reported by the watch");
                self.real = Self::next(watch);
                // Registers for the next news; there is none yet, or only the end again.
                let again = self.real.poll().map(|(watch, changed)| (watch, changed.err()));
                let over = model.stopped().map(WatchError::Closed);
                prop_assert_eq!(again.as_ref().and_then(|(_, closed)| *closed), over);
                prop_assert_eq!(again.is_some(), over.is_some(), "the watch reported it twice");
                if let Some((watch, _)) = again {
                    self.real = Self::next(watch);
                    self.real.flag.take();
                }
            }
            Some((_, Err(closed))) => prop_assert!(false, "reported twice: {closed}"),
            None => prop_assert!(!expected, "the watch was not woken"),
        }
        Ok(())
    }
}
