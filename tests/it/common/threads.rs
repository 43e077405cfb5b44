//! For tests on real threads.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use watchkeeper::{
    DynError, ObservationConfig, ObservationRuntime, ObservedSource, Observer, StaticSourceProvider,
    async_trait,
};

/// Blocks the thread that passes it until it is opened.
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

    /// Blocks this thread until another thread is blocked at the gate.
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

/// Opens a gate also when the test fails, so that the thread ends.
pub struct Opens(pub Gate);

impl Drop for Opens {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// The smallest executor, without tokio.
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

/// Counts: the `n`th poll that succeeds finds the event `n` and shows `n`.
#[derive(Debug)]
pub struct Tally {
    /// After so many events there is nothing more to find.
    pub at_most: u64,
    /// Whether each third poll fails.
    pub each_third_fails: bool,
    pub polls: AtomicU64,
}

impl Default for Tally {
    fn default() -> Self {
        Self { at_most: u64::MAX, each_third_fails: false, polls: AtomicU64::new(0) }
    }
}

#[async_trait]
impl Observer for Tally {
    type Source = ();
    type State = u64;
    type Snapshot = u64;
    type Event = u64;

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<u64, DynError> {
        Ok(0)
    }

    async fn poll(&self, _: &[ObservedSource<()>], successes: &mut u64) -> Result<Vec<u64>, DynError> {
        let nth = self.polls.fetch_add(1, Ordering::Relaxed) + 1;
        if self.each_third_fails && nth.is_multiple_of(3) {
            return Err(format!("poll {nth} fails").into());
        }
        if *successes == self.at_most {
            return Ok(vec![]);
        }
        *successes += 1;
        Ok(vec![*successes])
    }

    fn snapshot(&self, successes: &u64) -> u64 {
        *successes
    }
}

impl Tally {
    /// Observes no sources, as fast as possible.
    pub async fn start(self, history_limit: usize) -> ObservationRuntime<Self> {
        let config = ObservationConfig {
            interval: Duration::from_nanos(1),
            history_limit,
            ..ObservationConfig::default()
        };
        ObservationRuntime::start(StaticSourceProvider::new(vec![]), self, config).await.unwrap()
    }
}
