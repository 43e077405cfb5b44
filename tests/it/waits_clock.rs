//! What was published in time is judged, however late the wait looks at the clock.

use std::future::Future;
use std::pin::pin;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use tokio::sync::mpsc as to_async;
use tokio::time::advance;
use watchkeeper::UnmetOutcome;

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

//   0 s    0.502 s     1 s
//   made   violation   the end; the wait was about to look at the clock all the while
#[test]
fn a_violation_that_comes_between_the_queue_and_the_clock_is_seen() {
    let (commands, mut heard) = to_async::unbounded_channel::<mpsc::Sender<()>>();
    let (tell, told) = mpsc::channel();
    let executor = thread::spawn(move || {
        let executor =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        executor.block_on(async {
            let runtime = App::new().start(each_second()).await;
            tell.send(runtime.handle()).unwrap();
            let done = heard.recv().await.unwrap();
            advance(ms(502)).await;
            runtime.control().poll_now().await.unwrap();
            while runtime.handle().latest_snapshot().unwrap().cycle == 0 {
                tokio::task::yield_now().await;
            }
            advance(ms(490)).await;
            advance(ms(5_000)).await;
            done.send(()).unwrap();
            // Until the wait has ended.
            let _ = heard.recv().await;
        });
    });
    let handle = told.recv().unwrap();
    let mut wait = pin!(handle.never("a poll", |seen| seen.polls == 1).during(ms(1_000)));

    let ask = commands.clone();
    let hook = move || {
        let (done, is_done) = mpsc::channel();
        ask.send(done).unwrap();
        is_done.recv().unwrap();
    };
    let first = Waker::from(Arc::new(WhenReplaced(Mutex::new(Some(Box::new(hook))))));
    assert!(wait.as_mut().poll(&mut Context::from_waker(&first)).is_pending());
    drop(first); // The wait holds the last one.
    let Poll::Ready(ended) = wait.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("its window is over")
    };
    let unmet = ended.expect_err("a poll was seen at 502 ms");
    assert_eq!((unmet.outcome(), unmet.first_violation()), (UnmetOutcome::Violated, Some(1)));
    drop(commands);
    executor.join().unwrap();
}
