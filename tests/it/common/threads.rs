//! For tests on real threads.

use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

/// Holds the thread that comes to it until it is opened.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    inner: Arc<(Mutex<Place>, Condvar)>,
}

#[derive(Debug, Default)]
struct Place {
    reached: bool,
    open: bool,
}

impl Gate {
    /// Blocks this thread until the gate is open.
    pub fn pass(&self) {
        let (place, changed) = &*self.inner;
        let mut place = place.lock().unwrap();
        place.reached = true;
        changed.notify_all();
        drop(changed.wait_while(place, |place| !place.open).unwrap());
    }

    /// Blocks this thread until somebody stands at the gate.
    pub fn wait_until_reached(&self) {
        let (place, changed) = &*self.inner;
        drop(changed.wait_while(place.lock().unwrap(), |place| !place.reached).unwrap());
    }

    pub fn open(&self) {
        let (place, changed) = &*self.inner;
        place.lock().unwrap().open = true;
        changed.notify_all();
    }
}

/// The smallest executor: it knows nothing of tokio.
pub fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Polls once and drops the future: a wait that is cancelled at its first await.
pub fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// An executor of the given flavour, on the real clock.
pub fn executor(flavour: Flavour) -> tokio::runtime::Runtime {
    let mut builder = match flavour {
        Flavour::CurrentThread => tokio::runtime::Builder::new_current_thread(),
        Flavour::MultiThread => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.worker_threads(2).enable_all().build().unwrap()
}

#[derive(Clone, Copy, Debug)]
pub enum Flavour {
    CurrentThread,
    MultiThread,
}
