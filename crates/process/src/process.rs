//! A child process, from its start to its end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::{oneshot, watch};

use crate::group::Group;
use crate::output::{self, Printed, ReadyLine};
use crate::signal;

/// How long a killed child may take to be gone. It takes milliseconds, unless something holds it.
const REAPED_WITHIN: Duration = Duration::from_secs(3);

/// A child process. Dropping it kills it with `SIGKILL`, stopped or not, and reaps it.
///
/// # Its children
///
/// It leads a process group of its own, so that Ctrl-C in a terminal reaches this process alone. Whatever of the
/// group is left when it ends, by itself or not, is killed: the children of a shell that does not `exec`, too. What
/// leaves the group (by `setsid` or `setpgid`) outlives it.
///
/// Signals and pauses go to the process itself and not to its children: a shell that only starts a program should
/// `exec` it.
///
/// # When this process is killed
///
/// By itself this value does nothing then. [`while_parent_lives`](crate::while_parent_lives) makes a command of which
/// nothing is left.
///
/// # How it works
///
/// A thread of its own starts the child and waits for its end. To Linux the parent is a thread, and a child may have
/// asked to die with it: this one lives exactly as long as the child.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    group: Arc<Group>,
    exit: Exit,
    /// Held while the child is stopped: one that is resumed meanwhile is resumed after it.
    stopping: Mutex<()>,
    thread: Option<JoinHandle<()>>,
    /// Disconnected at the end of the thread.
    living: Mutex<mpsc::Receiver<()>>,
}

/// When and how a process ended.
#[derive(Clone, Debug)]
pub struct Exit {
    status: watch::Receiver<Option<ExitStatus>>,
    /// Signals go here and not to the number, which the system may give to another process.
    pidfd: Arc<OwnedFd>,
}

impl Exit {
    /// Whether it has not ended; a paused process has not.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !signal::has_ended(&self.pidfd)
    }

    /// Waits for the end and returns how it ended; `None` if something else has reaped it, or `SIGCHLD` is ignored
    /// since it was started.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing; it can be asked again.
    pub async fn wait(&mut self) -> Option<ExitStatus> {
        match self.status.wait_for(Option::is_some).await {
            Ok(status) => *status,
            Err(_) => None,
        }
    }
}

/// What the starting thread hands over.
struct Started {
    pid: u32,
    group: Arc<Group>,
    pidfd: Arc<OwnedFd>,
}

impl Process {
    /// Starts `command` in a process group of its own.
    ///
    /// Its standard output is read to its end, and so is standard error if it is a pipe: the child never blocks on
    /// them. The first line of standard output with `mark` in it is handed to [`ReadyLine`]. A line that has no end
    /// yet, such as a prompt, counts when nothing more of it comes for 100 ms, or 2 s after its mark.
    ///
    /// Blocks its thread until the program runs, which takes milliseconds.
    ///
    /// # Errors
    ///
    /// - The system cannot start it: there is no such program, or no room for a process or a thread. The kind is the
    ///   system's; the text names the program.
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput): `mark` holds a line break, so that no line can have it.
    /// - [`Unsupported`](io::ErrorKind::Unsupported): `SIGCHLD` is ignored here, so that a child's end would be lost.
    pub fn start(mut command: Command, mark: &str) -> io::Result<(Self, ReadyLine)> {
        if mark.contains('\n') {
            let reason =
                format!("the mark {mark:?} has a line break, and no line has one: give a part of one line");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        signal::refuse_ignored_sigchld()?;
        command.stdout(Stdio::piped()).process_group(0);
        let program = command.get_program().to_owned();
        let mark = mark.to_owned();
        let (hand_over, start) = mpsc::sync_channel(1);
        let (line_sender, ready) = oneshot::channel();
        let (ended, status) = watch::channel(None);
        let parent = Builder::new().name("process-parent".to_owned());
        let (alive, living) = mpsc::channel();
        let thread = parent.spawn(move || {
            live(command, mark, &hand_over, line_sender, &ended);
            drop(alive);
        })?;
        let started = start.recv().unwrap_or_else(|_| Err(io::Error::other("the starting thread died")));
        let Started { pid, group, pidfd } = started.map_err(|error| {
            let kind = error.kind();
            let program = program.display();
            io::Error::new(
                kind,
                format!("cannot start {program} ({error}): check that it is there and may run"),
            )
        })?;
        let exit = Exit { status, pidfd };
        let (thread, living) = (Some(thread), Mutex::new(living));
        let process = Self { pid, group, exit, stopping: Mutex::new(()), thread, living };
        Ok((process, ReadyLine::new(ready)))
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its end, to be waited for.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit.clone()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// It has ended; or it runs as another user and the kernel refuses.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let _order =
            (signal == Signal::CONT).then(|| self.stopping.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(pidfd_send_signal(&self.exit.pidfd, signal)?)
    }

    /// Stops all its threads until it gets [`Signal::CONT`]: when this returns, none runs.
    ///
    /// Blocks its thread until then, which takes microseconds, and a second at the most. A `CONT` sent by
    /// [`signal`](Self::signal) meanwhile takes effect after it.
    ///
    /// # Errors
    ///
    /// It has ended, before or meanwhile; the kernel refuses; or it did not stop within a second, because something
    /// else continues it all the time or the kernel holds it.
    pub fn pause(&self) -> io::Result<()> {
        let _order = self.stopping.lock().unwrap_or_else(PoisonError::into_inner);
        signal::stop(self.exit.pidfd.as_fd())
    }

    /// Whether it is stopped, by [`pause`](Self::pause) or by anything else.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        signal::is_stopped(self.exit.pidfd.as_fd())
    }
}

/// Kills it and its group and waits for its end. One that may not be killed, since it has become another user's, is
/// left and logged: nothing is waited for then. One that was killed and cannot be reaped within 3 s, since the kernel
/// holds it or another process traces it, is left to its thread and logged.
impl Drop for Process {
    fn drop(&mut self) {
        let rest = self.group.kill();
        if let Err(error) = self.signal(Signal::KILL).and(rest)
            && self.exit.is_running()
        {
            tracing::warn!(pid = self.pid, %error, "a child process is left: it may not be killed");
            return;
        }
        let Some(thread) = self.thread.take() else { return };
        let living = self.living.get_mut().unwrap_or_else(PoisonError::into_inner);
        if living.recv_timeout(REAPED_WITHIN) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::warn!(pid = self.pid, "a child process is left: it was killed, and something holds it");
            return;
        }
        let _ = thread.join();
    }
}

/// The thread of one child, as long as that lives.
fn live(
    mut command: Command,
    mark: String,
    hand_over: &mpsc::SyncSender<io::Result<Started>>,
    ready: oneshot::Sender<Result<String, String>>,
    ended: &watch::Sender<Option<ExitStatus>>,
) {
    let (mut child, pidfd) = match launch(&mut command) {
        Ok(launched) => launched,
        Err(error) => return drop(hand_over.send(Err(error))),
    };
    let group = Arc::new(Group::of(&child));
    let started = Started { pid: child.id(), group: Arc::clone(&group), pidfd: Arc::clone(&pidfd) };
    let _ = hand_over.send(match read_output(&mut child, mark, ready) {
        Ok(()) => Ok(started),
        Err(error) => {
            let _ = child.kill();
            Err(error)
        }
    });
    signal::wait_for_end(&pidfd);
    if let Ok(status) = group.reap(&mut child) {
        ended.send_replace(Some(status));
    }
    group.wait_until_gone();
}

fn launch(command: &mut Command) -> io::Result<(Child, Arc<OwnedFd>)> {
    let mut child = command.spawn()?;
    match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
        Ok(pidfd) => Ok((child, Arc::new(pidfd))),
        Err(errno) => {
            let group = Group::of(&child);
            child.kill()?;
            group.reap(&mut child)?;
            Err(errno.into())
        }
    }
}

/// In threads of their own: what has left the group may hold the output open for longer than the child lives.
fn read_output(
    child: &mut Child,
    mark: String,
    ready: oneshot::Sender<Result<String, String>>,
) -> io::Result<()> {
    let thread = || Builder::new().name("process-output".to_owned());
    let printed = Arc::new(Mutex::new(Printed::default()));
    // Disconnected when there is nothing more to come from standard error.
    let (reading, errors_ended) = mpsc::channel::<()>();
    if let Some(stderr) = child.stderr.take() {
        let printed = Arc::clone(&printed);
        thread().spawn(move || {
            output::keep(stderr, &printed);
            drop(reading);
        })?;
    } else {
        drop(reading);
    }
    if let Some(stdout) = child.stdout.take() {
        thread().spawn(move || output::look_for(&mark, stdout, &printed, &errors_ended, ready))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A killed process that another one traces, or that the kernel holds, cannot be reaped until that lets go of it.
    /// Its thread then does not end.
    #[test]
    fn a_killed_child_that_cannot_be_reaped_does_not_block_the_drop() {
        let mut command = Command::new("sleep");
        command.arg("1000");
        let (mut process, _ready) = Process::start(command, "").unwrap();
        let (alive, living) = mpsc::channel();
        let (release, held) = mpsc::channel::<()>();
        process.living = Mutex::new(living);
        process.thread = Some(std::thread::spawn(move || {
            let _ = held.recv();
            drop(alive);
        }));
        let exit = process.exit();
        let (dropped, is_dropped) = mpsc::channel();
        let dropping = std::thread::spawn(move || {
            drop(process);
            let _ = dropped.send(());
        });
        is_dropped.recv_timeout(Duration::from_secs(20)).expect("the drop does not block");
        assert!(!exit.is_running(), "it was killed");
        drop(release);
        dropping.join().unwrap();
    }
}
