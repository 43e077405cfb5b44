//! What was published in time is judged, however late the wait reads the clock.

use std::future::Future;
use std::pin::pin;
use std::sync::mpsc::{self, TryRecvError};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use tokio::time::advance;
use watchkeeper::ObservationHandle;
use watchkeeper::wait::UnmetOutcome;

use crate::common::{App, each_second, ms};

type Hook = Box<dyn FnOnce() + Send>;

/// A waker that does something when it is dropped: when a wait is polled with another one, right after the wait has
/// emptied its queue.
struct WhenReplaced(Mutex<Option<Hook>>);

impl Wake for WhenReplaced {
    fn wake(self: Arc<Self>) {}
}

impl Drop for WhenReplaced {
    fn drop(&mut self) {
        if let Some(hook) = self.0.get_mut().unwrap().take() {
            hook();
        }
    }
}

/// What the runtime's thread is asked to do, and where it reports the end.
type Ask = (u64, u64, mpsc::Sender<()>);

/// Observes on the paused clock. For each ask it lets so many milliseconds pass, polls so many times, and lets five
/// seconds pass if that was the last.
fn observing(asked: mpsc::Receiver<Ask>, handles: mpsc::Sender<ObservationHandle<App>>) {
    let executor =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    executor.block_on(async {
        let runtime = App::new().start(each_second()).await;
        handles.send(runtime.handle()).unwrap();
        loop {
            let (millis, polls, done) = match asked.try_recv() {
                Ok(ask) => ask,
                Err(TryRecvError::Disconnected) => return,
                // Never idle: the paused clock would go on by itself.
                Err(TryRecvError::Empty) => {
                    tokio::task::yield_now().await;
                    continue;
                }
            };
            advance(ms(millis)).await;
            for _ in 0..polls {
                runtime.poll_now_and_wait().await.unwrap();
            }
            if millis > 0 {
                advance(ms(5_000)).await;
            }
            done.send(()).unwrap();
        }
    });
}

//   0 s         0.502 s     1 s
//   15 polls    violation   the end; the wait was about to read the clock all the while
#[test]
fn a_violation_that_comes_between_the_queue_and_the_clock_is_seen() {
    let (asks, asked) = mpsc::channel();
    let (sender, handles) = mpsc::channel();
    let executor = thread::spawn(move || observing(asked, sender));
    let ask = {
        let asks = asks.clone();
        move |millis, polls| {
            let (done, is_done) = mpsc::channel();
            asks.send((millis, polls, done)).unwrap();
            is_done.recv().unwrap();
        }
    };
    let handle = handles.recv().unwrap();
    let mut wait = pin!(handle.never("many polls", |seen| seen.polls > 15).during(ms(1_000)));
    // More publications than a wait judges at once: it lets others have their turn before it reads the clock, so
    // that only its queue holds this waker.
    ask(0, 15);
    let hook = move || ask(502, 1);
    let first = Waker::from(Arc::new(WhenReplaced(Mutex::new(Some(Box::new(hook))))));
    assert!(wait.as_mut().poll(&mut Context::from_waker(&first)).is_pending());
    drop(first);
    let Poll::Ready(ended) = wait.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("its window is over")
    };
    let unmet = ended.expect_err("the sixteenth poll was seen at 502 ms");
    assert_eq!((unmet.outcome(), unmet.first_violation()), (UnmetOutcome::Violated, Some(16)));
    drop(asks);
    executor.join().unwrap();
}
