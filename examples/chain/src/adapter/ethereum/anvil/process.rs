//! The process of a node: started, signalled and reaped without a race.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;

/// Runs a program as long as its parent lives: `$1` is the parent's id, the rest is the program.
///
/// What it says of errors is read too. `setpriv` has asked the kernel for the signal before the shell looks who the parent is, so that one that
/// died in between is seen.
const WHILE_PARENT_LIVES: &str = r#"[ "$PPID" = "$1" ] && shift && exec "$@" 2>&1"#;

/// A child process. Dropping it kills it with `SIGKILL`, stopped or not, and reaps it.
///
/// A thread of its own starts the child, reads what it prints and waits for its end. To Linux the parent is
/// a thread, and the child dies with it: this one lives exactly as long as the child.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    /// Signals go here and not to the number, which the system may give to another process.
    pidfd: OwnedFd,
    exit: watch::Receiver<Option<ExitStatus>>,
    thread: Option<JoinHandle<()>>,
}

/// What a process prints before it is ready: the first line with `mark` in it, or all lines if it ends before.
pub(super) type Ready = oneshot::Receiver<Result<String, String>>;

impl Process {
    /// Starts a program; nothing of it outlives this process, however that ends.
    pub(super) fn start(program: &Command, mark: &'static str) -> io::Result<(Self, Ready)> {
        let mut command = bound_to_parent(program);
        let (started, start) = mpsc::sync_channel(1);
        let (tell_ready, ready) = oneshot::channel();
        let (ended, exit) = watch::channel(None);
        let thread =
            std::thread::Builder::new().name("anvil-parent".to_owned()).spawn(move || {
                match launch(&mut command) {
                    Ok((mut child, pidfd)) => {
                        let _ = started.send(Ok((child.id(), pidfd)));
                        if let Some(stdout) = child.stdout.take() {
                            read(stdout, mark, tell_ready);
                        }
                        if let Ok(status) = child.wait() {
                            ended.send_replace(Some(status));
                        }
                    }
                    Err(error) => {
                        let _ = started.send(Err(error));
                    }
                }
            })?;
        let (pid, pidfd) =
            start.recv().unwrap_or_else(|_| Err(io::Error::other("the starting thread died")))?;
        Ok((Self { pid, pidfd, exit, thread: Some(thread) }, ready))
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.pidfd, signal)?)
    }

    /// Stops all its threads until it is told to go on.
    pub(super) fn pause(&self) -> io::Result<()> {
        self.signal(Signal::STOP)?;
        // The signal is on its way: the kernel tells the parent when the last thread has stopped.
        let halted = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::PidFd(self.pidfd.as_fd()), halted)?;
        Ok(())
    }

    /// Asks it to end in order, and waits for that; also if it is paused.
    pub(super) async fn end(&mut self) {
        // They fail for one that has ended by itself, which is as well.
        let _ = self.signal(Signal::CONT);
        // It answers before it handles the signal, which would kill it until then, and nothing tells when.
        while !self.handles(Signal::TERM) {
            sleep(Duration::from_millis(5)).await;
        }
        let _ = self.signal(Signal::TERM);
        self.ended().await;
    }

    /// Whether it has a handler for a signal; true for one that is gone.
    fn handles(&self, signal: Signal) -> bool {
        let Ok(status) = fs::read_to_string(format!("/proc/{}/status", self.pid)) else { return true };
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        caught.is_none_or(|mask| mask >> (signal.as_raw() - 1) & 1 == 1)
    }

    async fn ended(&mut self) {
        // The sender goes away with the thread, which ends after the process.
        let _ = self.exit.wait_for(Option::is_some).await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It fails for one that has ended, which is as well.
        let _ = self.signal(Signal::KILL);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn bound_to_parent(program: &Command) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "sh", "-c", WHILE_PARENT_LIVES, "sh"])
        .arg(std::process::id().to_string())
        .arg(program.get_program())
        .args(program.get_args())
        .envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

fn launch(command: &mut Command) -> io::Result<(Child, OwnedFd)> {
    let mut child = command.spawn()?;
    match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
        Ok(pidfd) => Ok((child, pidfd)),
        Err(errno) => {
            child.kill()?;
            child.wait()?;
            Err(errno.into())
        }
    }
}

/// Reads to the end, or a child that prints more would block on a full pipe.
fn read(stdout: ChildStdout, mark: &str, ready: oneshot::Sender<Result<String, String>>) {
    let mut stdout = BufReader::new(stdout);
    let mut printed = Vec::new();
    loop {
        let begin = printed.len();
        if !stdout.read_until(b'\n', &mut printed).is_ok_and(|bytes| bytes > 0) {
            let _ = ready.send(Err(String::from_utf8_lossy(&printed).into_owned()));
            return;
        }
        let line = String::from_utf8_lossy(&printed[begin..]);
        if line.contains(mark) {
            let _ = ready.send(Ok(line.into_owned()));
            let _ = io::copy(&mut stdout, &mut io::sink());
            return;
        }
    }
}
