//! A stop may be asked for again, by several at once, and after a wait for it was given up.

use std::future::ready;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use watchkeeper::runtime::{StopOutcome, StopReason};
use watchkeeper::{ObservationControl, ObservationRuntime, StaticSourceProvider};

use crate::common::stateless::stateless;
use crate::common::threads::{Flavour, Gate, block_on, executor, poll_once};
use crate::common::{Act, App, Call, each_second, ms};

#[tokio::test(start_paused = true)]
async fn twice_and_by_several_at_once() {
    let app = App::new();
    app.then(Call::Poll, [Act::Hang]);
    let runtime = app.start(each_second()).await;
    let (one, other) = (runtime.control(), runtime.control());
    tokio::time::sleep(ms(1_500)).await;

    let outcomes = tokio::join!(one.stop(), other.stop(), runtime.stop(), one.stop());
    assert_eq!(
        outcomes,
        (StopOutcome::Stopped, StopOutcome::Stopped, StopOutcome::Stopped, StopOutcome::Stopped)
    );
    assert_eq!(poll_once(other.stop()), std::task::Poll::Ready(StopOutcome::Stopped), "again, at once");
    drop(runtime);
    assert_eq!(one.stop().await, StopOutcome::Stopped, "also after the runtime was dropped");
}

#[tokio::test(start_paused = true)]
async fn after_a_wait_that_was_given_up() {
    let app = App::new();
    app.then(Call::Poll, [Act::Hang]);
    let runtime = app.start(each_second()).await;
    tokio::time::sleep(ms(1_500)).await;
    let mut watch = runtime.handle().watch();

    assert!(poll_once(runtime.stop()).is_pending());
    // The stop was asked for nevertheless.
    watch.wait_for(|_| false).await.map(|_| ()).unwrap_err();
    assert_eq!(runtime.handle().stop_reason(), Some(StopReason::Requested));
    assert_eq!(runtime.stop().await, StopOutcome::Stopped);
    assert_eq!(app.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_was_never_polled_asks_for_nothing() {
    let app = App::new();
    let runtime = app.start(each_second()).await;
    drop(runtime.stop());
    tokio::time::sleep(ms(2_500)).await;
    assert_eq!(app.calls(Call::Poll), 2);
}

/// The deadline is that of the first request.
#[test]
fn a_later_stop_does_not_restart_the_deadline() {
    let executor = executor(Flavour::MultiThread);
    let gate = Gate::default();
    let app = App::new();
    app.then(Call::Poll, [Act::Held(gate.clone(), Box::new(Act::Ok(vec![])))]);
    let mut config = each_second();
    config.interval = ms(1);
    config.stop_timeout = ms(1_000);
    let runtime = executor.block_on(app.start(config));
    gate.wait_until_reached();

    let asked = Instant::now();
    assert!(poll_once(runtime.stop()).is_pending());
    std::thread::sleep(ms(800));
    assert_eq!(block_on(runtime.stop()), StopOutcome::Detached);
    let took = asked.elapsed();
    assert!(took >= ms(1_000) && took < ms(1_700), "{took:?}");
    gate.open();
}

/// Records, when its observer is dropped, whether the stop has been answered already.
struct LastWords {
    control: Arc<OnceLock<ObservationControl>>,
    answered: Arc<Mutex<Option<bool>>>,
}

impl Drop for LastWords {
    fn drop(&mut self) {
        let control = self.control.get().unwrap();
        *self.answered.lock().unwrap() = Some(poll_once(control.stop()).is_ready());
    }
}

#[test]
fn stopped_means_that_no_app_code_is_left_not_even_a_destructor() {
    for how in ["stopped", "shut down", "shut down before it ran"] {
        let executor = executor(Flavour::CurrentThread);
        let answered = Arc::new(Mutex::new(None));
        let control = Arc::new(OnceLock::new());
        let last_words = LastWords { control: Arc::clone(&control), answered: Arc::clone(&answered) };
        let observer = stateless(move || {
            let _held = &last_words;
            ready(Ok(()))
        });
        let runtime = {
            let _entered = executor.enter();
            let sources = StaticSourceProvider::<()>::new(vec![]);
            ObservationRuntime::start_in_background(sources, observer, each_second()).unwrap()
        };
        control.set(runtime.control()).unwrap();
        let handle = runtime.handle();
        match how {
            "stopped" => assert_eq!(executor.block_on(runtime.stop()), StopOutcome::Stopped),
            "shut down" => {
                let idle = |status: &watchkeeper::runtime::ObservationStatus<_>| status.snapshot.is_some();
                executor.block_on(handle.watch().wait_for(idle)).unwrap();
                drop(executor);
            }
            _ => drop(executor),
        }
        assert_eq!(block_on(runtime.stop()), StopOutcome::Stopped, "{how}");
        assert_eq!(*answered.lock().unwrap(), Some(false), "{how}: answered before the observer was dropped");
    }
}
