//! Stops a child and reads its state, by its pidfd.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

/// How long a child may take to stop. It takes microseconds, unless something continues it or the kernel holds it.
const STOP_WITHIN: Duration = Duration::from_secs(1);
/// How long to wait for the stop before the signal is sent again.
const SEND_AGAIN: Duration = Duration::from_millis(5);
/// The longest pause between two reads of the state.
const READ_AGAIN: Duration = Duration::from_micros(500);

/// Stops the child and returns when none of its threads runs.
///
/// A `SIGCONT` from elsewhere may undo the signal before the kernel has acted on it, and leaves no trace: waiting for
/// the stop without sending the signal again could last for ever.
pub(crate) fn stop(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    let deadline = Instant::now() + STOP_WITHIN;
    while Instant::now() < deadline {
        pidfd_send_signal(pidfd, Signal::STOP)?;
        let again = Instant::now() + SEND_AGAIN;
        let mut pause = Duration::from_micros(5);
        while Instant::now() < again {
            match state(pidfd)? {
                State::Stopped => return Ok(()),
                // It has ended and is not reaped: until then it accepts signals.
                State::Ended => return Err(Errno::SRCH.into()),
                State::Runs => sleep(pause),
            }
            pause = (pause * 2).min(READ_AGAIN);
        }
    }
    let reason = format!(
        "it did not stop within {STOP_WITHIN:?}: something else continues it, or the kernel holds it; try again"
    );
    Err(io::Error::new(io::ErrorKind::TimedOut, reason))
}

pub(crate) fn is_stopped(pidfd: BorrowedFd<'_>) -> bool {
    matches!(state(pidfd), Ok(State::Stopped))
}

enum State {
    Runs,
    Stopped,
    Ended,
}

/// Reads the state without reaping: the thread that waits for the end of the child still gets it.
fn state(pidfd: BorrowedFd<'_>) -> io::Result<State> {
    let options =
        WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    match waitid(WaitId::PidFd(pidfd), options) {
        Ok(None) => Ok(State::Runs),
        Ok(Some(status)) if status.stopped() => Ok(State::Stopped),
        // Reaped, in the second case.
        Ok(Some(_)) | Err(Errno::CHILD) => Ok(State::Ended),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether the process has ended, reaped or not. It need not be a child.
pub(crate) fn has_ended(pidfd: impl AsFd) -> bool {
    matches!(poll_end(&pidfd, Some(&Timespec::default())), Ok(true))
}

/// Blocks until the process has ended, and leaves it to be reaped.
pub(crate) fn wait_for_end(pidfd: impl AsFd) {
    // The only error is "no memory", and the reaping after this blocks until the end as well.
    let _ = poll_end(&pidfd, None);
}

fn poll_end(pidfd: &impl AsFd, timeout: Option<&Timespec>) -> Result<bool, Errno> {
    loop {
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], timeout) {
            Err(Errno::INTR) => {}
            ready => return ready.map(|ready| ready > 0),
        }
    }
}

/// Fails if `SIGCHLD` is ignored, which a program inherits from its parent.
///
/// The kernel then reaps children itself: the exit status is lost, a child that ends at once looks as if it had never
/// started, and its number is free for another process before we notice.
pub(crate) fn refuse_ignored_sigchld() -> io::Result<()> {
    // Without `/proc` it is unknown, which is no reason to fail.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    if ignored >> (Signal::CHILD.as_raw() - 1) & 1 == 0 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "SIGCHLD is ignored in this process, so the end of a child is lost: run this with \
         `env --default-signal=CHLD`",
    ))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;

    /// It is not reaped, so it still has its number.
    #[test]
    fn an_ended_child_cannot_be_stopped_before_it_is_reaped() {
        let mut child = Command::new("true").spawn().expect("it starts");
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).expect("a handle");
        wait_for_end(&pidfd);
        for _ in 0..2 {
            let error = stop(pidfd.as_fd()).expect_err("it has ended");
            assert_eq!(error.raw_os_error(), Some(Errno::SRCH.raw_os_error()));
            assert!(has_ended(&pidfd) && !is_stopped(pidfd.as_fd()));
            // Reaped, the second time.
            child.wait().expect("it is ours");
        }
    }
}
