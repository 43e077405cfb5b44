//! Pauses, and concurrent actions that undo them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, kill_process};
use watchkeeper_process::{Process, Signal};

use crate::common::{SOON, line, start, state};

async fn busy() -> Process {
    let (process, ready) = start("echo up; while :; do :; done", "up");
    assert_eq!(line(ready).await.as_deref(), Ok("up"));
    process
}

/// Runs `work` on a thread, and fails the test if it blocks.
async fn ends(what: &str, work: impl FnOnce() + Send + 'static) {
    let (done, ended) = tokio::sync::oneshot::channel();
    thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    let ended = tokio::time::timeout(SOON, ended).await;
    assert!(matches!(ended, Ok(Ok(()))), "{what} blocks its thread, or panicked");
}

#[tokio::test]
async fn a_paused_process_has_stopped_and_can_be_killed() {
    let process = busy().await;
    assert!(!process.is_paused());
    process.pause().unwrap();
    assert_eq!(state(process.pid()), Some('T'));
    process.pause().expect("a second pause is allowed");
    assert!(process.exit().is_running() && process.is_paused());
    process.signal(Signal::CONT).unwrap();
    assert!(!process.is_paused());
    process.pause().unwrap();
    let mut exit = process.exit();
    drop(process);
    assert!(!exit.is_running());
    assert!(exit.wait().await.is_some_and(|status| !status.success()));
}

#[tokio::test]
async fn an_ended_process_accepts_no_signal() {
    let (process, ready) = start("echo up", "up");
    assert!(line(ready).await.is_ok());
    process.exit().wait().await.expect("an exit status");
    assert!(process.pause().is_err() && !process.is_paused());
    assert!(process.signal(Signal::TERM).is_err());
}

/// A `CONT` before the kernel has acted on the `STOP` undoes it without a trace.
#[tokio::test]
async fn a_pause_during_resumes_does_not_block_its_thread() {
    let process = busy().await;
    ends("a pause during resumes", move || {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    process.signal(Signal::CONT).unwrap();
                    thread::sleep(Duration::from_micros(20));
                }
            });
            for _ in 0..500 {
                process.pause().unwrap();
            }
            over.store(true, Ordering::Relaxed);
        });
        // The last call decides.
        process.pause().unwrap();
        assert!(process.is_paused());
    })
    .await;
}

/// As another program would send it, without our lock.
#[tokio::test]
async fn a_pause_during_a_sigcont_from_outside_does_not_block_its_thread() {
    let process = busy().await;
    ends("a pause during a SIGCONT from outside", move || {
        let pid = Pid::from_raw(process.pid().cast_signed()).unwrap();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    kill_process(pid, Signal::CONT).unwrap();
                    thread::sleep(Duration::from_micros(20));
                }
            });
            for _ in 0..500 {
                process.pause().unwrap();
            }
            over.store(true, Ordering::Relaxed);
        });
    })
    .await;
}

/// The result is right in either order.
#[tokio::test]
async fn a_pause_of_a_process_that_ends_meanwhile_is_an_error() {
    for _ in 0..500 {
        let (process, ready) = start("echo up; exit 0", "up");
        assert!(line(ready).await.is_ok());
        match process.pause() {
            Ok(()) => assert!(process.is_paused()),
            Err(error) => assert!(!process.exit().is_running(), "{error}"),
        }
    }
}
