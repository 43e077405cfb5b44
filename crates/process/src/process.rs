//! A child process, from its start to its end.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::{oneshot, watch};

use crate::group::Group;
use crate::log::Log;
use crate::output::{self, Printed, ReadyLine};
use crate::signal;

/// How long a killed child may take to be gone. It takes milliseconds, unless something holds it.
const REAPED_WITHIN: Duration = Duration::from_secs(3);

/// A child process. Dropping it kills it with `SIGKILL`, stopped or not, and reaps it.
///
/// # Its children
///
/// It leads its own process group, so that Ctrl-C in a terminal reaches only this process. When it ends for any reason,
/// the rest of the group is killed, such as the children of a shell that does not `exec`. Processes that leave the group
/// (by `setsid` or `setpgid`) survive.
///
/// Signals and pauses go to the process itself and not to its children: a shell that only starts a program should
/// `exec` it.
///
/// # When this process is killed
///
/// A plain child survives. [`while_parent_lives`](crate::while_parent_lives) makes a command that does not.
///
/// # How it works
///
/// A separate thread starts the child and waits for its end. For Linux the parent is a thread, and a child may have
/// requested to die with its parent: this thread lives exactly as long as the child.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    group: Arc<Group>,
    exit: Exit,
    /// Closed when the output has ended and is written to its file.
    output: watch::Receiver<()>,
    /// Locked during a stop, so that a concurrent resume takes effect after it.
    stopping: Mutex<()>,
    thread: Option<JoinHandle<()>>,
    /// Disconnected at the end of the thread.
    living: Mutex<mpsc::Receiver<()>>,
}

/// When and how a process ended.
#[derive(Clone, Debug)]
pub struct Exit {
    status: watch::Receiver<Option<ExitStatus>>,
    /// Signals go here and not to the process number, which the system may give to another process.
    pidfd: Arc<OwnedFd>,
}

impl Exit {
    /// Whether it is running. A paused process is.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !signal::has_ended(&self.pidfd)
    }

    /// Waits for the end and returns the exit status; `None` if something else has reaped it, or if `SIGCHLD` has been
    /// ignored since the start.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing; it can be called again.
    pub async fn wait(&mut self) -> Option<ExitStatus> {
        match self.status.wait_for(Option::is_some).await {
            Ok(status) => *status,
            Err(_) => None,
        }
    }
}

/// What the starting thread returns.
struct Started {
    pid: u32,
    group: Arc<Group>,
    pidfd: Arc<OwnedFd>,
}

impl Process {
    /// Starts `command` in its own process group.
    ///
    /// Its standard output is read to the end, and so is standard error if it is a pipe: the child never blocks on
    /// them. [`ReadyLine`] returns the first line of standard output that contains `mark`. A line without a line break,
    /// such as a prompt, counts when it has not grown for 100 ms, or 2 s after its mark.
    ///
    /// Blocks the thread until the program runs, which takes milliseconds.
    ///
    /// # Errors
    ///
    /// - The system cannot start it: there is no such program, or no room for a process or a thread. The kind is that of
    ///   the system; the text names the program.
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput): `mark` has a line break, so no line can contain it; or the command
    ///   has a NUL byte.
    /// - [`Unsupported`](io::ErrorKind::Unsupported): `SIGCHLD` is ignored in this process, so the end of a child
    ///   would be lost.
    pub fn start(command: Command, mark: &str) -> io::Result<(Self, ReadyLine)> {
        Self::begin(command, mark, None)
    }

    /// Starts `command` as [`start`](Self::start) does, and also writes its output to `log` as it is read.
    ///
    /// [`while_parent_lives`](crate::while_parent_lives) has standard output and standard error in one stream, so that
    /// both are in the file, and both are searched for `mark`. Otherwise standard error is in it if it is a pipe. Open the
    /// file to append, so that it also has what an earlier process of the same node printed.
    ///
    /// Of one process the first 64 MiB are written, and once it has ended the last 64 KiB. What cannot be written, for
    /// example because the disk is full, is left out and logged. The output is still read.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::fs::File;
    /// use std::process::Command;
    /// use watchkeeper_process::{Process, RunDirectory, while_parent_lives};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let directory = RunDirectory::new("example-")?;
    /// let path = directory.path().join("log");
    /// let log = File::options().create(true).append(true).open(&path)?;
    /// let mut program = Command::new("sh");
    /// program.args(["-c", "echo up; echo 'no such key' >&2"]);
    /// let (process, ready) = Process::start_logged(while_parent_lives(&program), "up", log)?;
    /// assert_eq!(ready.line().await.as_deref(), Ok("up"));
    /// process.output_ended().await;
    /// assert_eq!(std::fs::read_to_string(&path)?, "up\nno such key\n");
    /// # Ok(())
    /// # }
    /// ```
    pub fn start_logged(command: Command, mark: &str, log: File) -> io::Result<(Self, ReadyLine)> {
        Self::begin(command, mark, Some(log))
    }

    fn begin(mut command: Command, mark: &str, log: Option<File>) -> io::Result<(Self, ReadyLine)> {
        if mark.contains('\n') {
            let reason =
                format!("the mark {mark:?} has a line break, and no line has one: use a part of one line");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        signal::refuse_ignored_sigchld()?;
        command.stdout(Stdio::piped()).process_group(0);
        let program = command.get_program().to_owned();
        let (reading, output) = watch::channel(());
        let printed = Wanted { mark: mark.to_owned(), log: Log::new(log), _reading: reading };
        let (sender, start) = mpsc::sync_channel(1);
        let (line_sender, ready) = oneshot::channel();
        let (ended, status) = watch::channel(None);
        let parent = Builder::new().name("process-parent".to_owned());
        let (alive, living) = mpsc::channel();
        let thread = parent.spawn(move || {
            live(command, printed, &sender, line_sender, &ended);
            drop(alive);
        })?;
        let started = start.recv().unwrap_or_else(|_| Err(io::Error::other("the starting thread died")));
        let Started { pid, group, pidfd } = started.map_err(|error| not_started(&program, &error))?;
        let exit = Exit { status, pidfd };
        let (thread, living) = (Some(thread), Mutex::new(living));
        let process = Self { pid, group, exit, output, stopping: Mutex::new(()), thread, living };
        Ok((process, ReadyLine::new(ready)))
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// A handle that waits for its end.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit.clone()
    }

    /// Waits until its output has ended: all of it is then in the file of [`start_logged`](Self::start_logged).
    ///
    /// The output of a process that has ended ends at once, unless a child of it has left its group and keeps the output
    /// open: use it with a time-out.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing; it can be called again.
    pub async fn output_ended(&self) {
        let mut output = self.output.clone();
        while output.changed().await.is_ok() {}
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// It has ended; or it runs as another user, and the kernel refuses.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let _order =
            (signal == Signal::CONT).then(|| self.stopping.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(pidfd_send_signal(&self.exit.pidfd, signal)?)
    }

    /// Stops all its threads until it gets [`Signal::CONT`]: when this returns, none runs.
    ///
    /// Blocks the thread until then, which takes microseconds, and a second at most. A `CONT` that is sent by
    /// [`signal`](Self::signal) meanwhile takes effect after it.
    ///
    /// # Errors
    ///
    /// It has ended, before or meanwhile; the kernel refuses; or it did not stop within a second, because something
    /// else always continues it or the kernel holds it.
    pub fn pause(&self) -> io::Result<()> {
        let _order = self.stopping.lock().unwrap_or_else(PoisonError::into_inner);
        signal::stop(self.exit.pidfd.as_fd())
    }

    /// Kills it and its group with `SIGKILL` and waits for its end, as dropping it does: for a process that several own.
    ///
    /// Blocks the thread until then, which takes milliseconds, and 3 s at most. Nothing happens to one that has ended. One
    /// that may not be killed, or that the kernel holds, is left and logged.
    pub fn kill_and_reap(&self) {
        self.is_gone();
    }

    /// Kills it, and returns whether its thread has ended too.
    fn is_gone(&self) -> bool {
        let rest = self.group.kill();
        if let Err(error) = self.signal(Signal::KILL).and(rest)
            && self.exit.is_running()
        {
            tracing::warn!(pid = self.pid, %error, "a child process is left: it may not be killed");
            return false;
        }
        let living = self.living.lock().unwrap_or_else(PoisonError::into_inner);
        if living.recv_timeout(REAPED_WITHIN) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::warn!(pid = self.pid, "a child process is left: it was killed, and something holds it");
            return false;
        }
        true
    }

    /// Whether it is stopped, by [`pause`](Self::pause) or by anything else.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        signal::is_stopped(self.exit.pidfd.as_fd())
    }
}

/// Kills it and its group and waits for its end. A process that runs as another user and may not be killed is left and
/// logged, without waiting. A killed process that cannot be reaped within 3 s, because the kernel holds it or another
/// process traces it, is left to its thread and logged.
impl Drop for Process {
    fn drop(&mut self) {
        if self.is_gone()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

/// The error of a start, with what to do.
fn not_started(program: &OsStr, error: &io::Error) -> io::Error {
    let kind = error.kind();
    let limits = [Errno::AGAIN, Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    let fix = match Errno::from_io_error(error) {
        Some(errno) if limits.contains(&errno) => {
            "see whether the limits on processes, open files and memory are reached"
        }
        None if kind == io::ErrorKind::InvalidInput => {
            "remove the NUL byte from its path, arguments, directory or variables"
        }
        _ => "check that it is there and may run",
    };
    io::Error::new(kind, format!("cannot start {} ({error}): {fix}", program.display()))
}

/// What is done with the output.
struct Wanted {
    mark: String,
    log: Log,
    /// Dropped when the output has ended.
    _reading: watch::Sender<()>,
}

/// The thread of one child; it ends with the child.
fn live(
    mut command: Command,
    wanted: Wanted,
    sender: &mpsc::SyncSender<io::Result<Started>>,
    ready: oneshot::Sender<Result<String, String>>,
    ended: &watch::Sender<Option<ExitStatus>>,
) {
    let (mut child, pidfd) = match launch(&mut command) {
        Ok(launched) => launched,
        Err(error) => return drop(sender.send(Err(error))),
    };
    let group = Arc::new(Group::of(&child));
    let started = Started { pid: child.id(), group: Arc::clone(&group), pidfd: Arc::clone(&pidfd) };
    let _ = sender.send(match read_output(&mut child, wanted, ready) {
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

/// Reads in separate threads, because a process that has left the group may keep the output open after the child has
/// ended.
fn read_output(
    child: &mut Child,
    wanted: Wanted,
    ready: oneshot::Sender<Result<String, String>>,
) -> io::Result<()> {
    let thread = || Builder::new().name("process-output".to_owned());
    let printed = Arc::new(Mutex::new(Printed::default()));
    // Disconnected at the end of standard error.
    let (reading, errors_ended) = mpsc::channel::<()>();
    if let Some(stderr) = child.stderr.take() {
        let printed = Arc::clone(&printed);
        let log = wanted.log.clone();
        thread().spawn(move || {
            output::keep(stderr, &printed, &log);
            // It may write the end of the output.
            drop(log);
            drop(reading);
        })?;
    } else {
        drop(reading);
    }
    if let Some(stdout) = child.stdout.take() {
        thread().spawn(move || {
            output::look_for(&wanted.mark, stdout, &printed, &wanted.log, &errors_ended, ready);
            // Until standard error has ended too.
            let _ = errors_ended.recv();
            drop(wanted);
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A killed process that another one traces, or that the kernel holds, cannot be reaped until it is released, so its
    /// thread does not end.
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
