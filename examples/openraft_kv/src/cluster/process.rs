//! One child process: started, signalled and reaped without a race.

use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc;
use std::thread::JoinHandle;

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use tokio::sync::{oneshot, watch};

/// A child process. Dropping it kills it with `SIGKILL`, stopped or not, and reaps it.
///
/// A thread of its own starts the child, reads its first line and waits for its end. To Linux the
/// parent is a thread, and the child dies with it: this one lives exactly as long as the child.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    /// Signals go here and not to the number, which the system may give to another process.
    pidfd: OwnedFd,
    first_line: Option<oneshot::Receiver<String>>,
    exit: Exit,
    thread: Option<JoinHandle<()>>,
}

/// Tells when and how a process ended.
#[derive(Clone, Debug)]
pub(super) struct Exit(watch::Receiver<Option<ExitStatus>>);

impl Exit {
    pub(super) fn is_running(&self) -> bool {
        // The sender goes away with the thread, which ends after the process.
        self.0.borrow().is_none() && self.0.has_changed().is_ok()
    }

    /// Waits for the end; `None` if nobody could learn how it ended.
    pub(super) async fn wait(&mut self) -> Option<ExitStatus> {
        match self.0.wait_for(Option::is_some).await {
            Ok(status) => *status,
            Err(_) => None,
        }
    }
}

impl Process {
    /// Starts `command`, whose standard output must be piped.
    pub(super) fn start(mut command: Command) -> io::Result<Self> {
        let (started, start) = mpsc::sync_channel(1);
        let (line, first_line) = oneshot::channel();
        let (ended, exit) = watch::channel(None);
        let thread =
            std::thread::Builder::new().name("node-parent".to_owned()).spawn(move || {
                match launch(&mut command) {
                    Ok((child, pidfd)) => {
                        let _ = started.send(Ok((child.id(), pidfd)));
                        attend(child, line, &ended);
                    }
                    Err(error) => {
                        let _ = started.send(Err(error));
                    }
                }
            })?;
        let (pid, pidfd) =
            start.recv().unwrap_or_else(|_| Err(io::Error::other("the starting thread died")))?;
        Ok(Self { pid, pidfd, first_line: Some(first_line), exit: Exit(exit), thread: Some(thread) })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn exit(&self) -> Exit {
        self.exit.clone()
    }

    /// The first line it writes, or `None` if it ends before.
    pub(super) async fn first_line(&mut self) -> Option<String> {
        self.first_line.take()?.await.ok()
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

fn attend(mut child: Child, line: oneshot::Sender<String>, ended: &watch::Sender<Option<ExitStatus>>) {
    if let Some(stdout) = child.stdout.take() {
        let mut stdout = BufReader::new(stdout);
        let mut first = Vec::new();
        if stdout.read_until(b'\n', &mut first).is_ok_and(|bytes| bytes > 0) {
            let _ = line.send(String::from_utf8_lossy(&first).into_owned());
        }
        // Read on, or a child that writes more would block on a full pipe.
        let _ = io::copy(&mut stdout, &mut io::sink());
    }
    if let Ok(status) = child.wait() {
        ended.send_replace(Some(status));
    }
}
