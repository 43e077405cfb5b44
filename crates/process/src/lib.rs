//! Child processes for clusters in tests, on Linux: started, signalled, paused and reaped without a race.
//!
//! ```
//! use std::process::Command;
//! use watchkeeper_process::{Process, while_parent_lives};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut program = Command::new("sh");
//! program.args(["-c", "echo starting; echo listening on 1234; exec sleep 60"]);
//! let (process, ready) = Process::start(while_parent_lives(&program), "listening on ")?;
//! assert_eq!(ready.line().await.as_deref(), Ok("listening on 1234"));
//! process.pause()?;
//! # Ok(())
//! # }
//! ```

use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};
use tokio::sync::{oneshot, watch};

pub use rustix::process::Signal;

/// Runs a program as long as its parent lives: `$1` is the parent's id, the rest is the program.
///
/// What it says of errors is read too. `setpriv` has asked the kernel for the signal before the shell looks who the
/// parent is, so that one that died in between is seen.
const WHILE_PARENT_LIVES: &str = r#"[ "$PPID" = "$1" ] && shift && exec "$@" 2>&1"#;

/// How much of what a program prints before its line is kept, in bytes.
const KEPT: usize = 64 * 1024;

/// A child process. Dropping it kills it with `SIGKILL`, stopped or not, and reaps it.
///
/// A thread of its own starts the child and waits for its end. To Linux the parent is a thread, and a child may be
/// told to die with it: this one lives exactly as long as the child.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    /// Signals go here and not to the number, which the system may give to another process.
    pidfd: OwnedFd,
    exit: Exit,
    thread: Option<JoinHandle<()>>,
}

/// The line by which a program says that it serves.
#[derive(Debug)]
pub struct ReadyLine(oneshot::Receiver<Result<String, String>>);

impl ReadyLine {
    /// Waits for the line; it comes without its end, and without its beginning where it is longer than 64 KiB.
    ///
    /// # Errors
    ///
    /// The program closed its standard output before: the last 64 KiB that it had printed there.
    pub async fn line(self) -> Result<String, String> {
        self.0.await.unwrap_or_else(|_| Err(String::new()))
    }
}

/// Tells when and how a process ended.
#[derive(Clone, Debug)]
pub struct Exit(watch::Receiver<Option<ExitStatus>>);

impl Exit {
    /// Whether it has not ended; a paused process has not.
    #[must_use]
    pub fn is_running(&self) -> bool {
        // The sender goes away with the thread, which ends after the process.
        self.0.borrow().is_none() && self.0.has_changed().is_ok()
    }

    /// Waits for the end; `None` if nobody could learn how it ended.
    pub async fn wait(&mut self) -> Option<ExitStatus> {
        match self.0.wait_for(Option::is_some).await {
            Ok(status) => *status,
            Err(_) => None,
        }
    }
}

impl Process {
    /// Starts `command`. Its standard output is read, to its end and unseen but for the first line with `mark` in
    /// it, of which [`ReadyLine`] tells.
    ///
    /// # Errors
    ///
    /// The system cannot start it: there is no such program, or no room for a process or a thread.
    pub fn start(mut command: Command, mark: &str) -> io::Result<(Self, ReadyLine)> {
        command.stdout(Stdio::piped());
        let mark = mark.to_owned();
        let (started, start) = mpsc::sync_channel(1);
        let (tell, ready) = oneshot::channel();
        let (ended, exit) = watch::channel(None);
        let parent = std::thread::Builder::new().name("process-parent".to_owned());
        let thread = parent.spawn(move || match launch(&mut command) {
            Ok((mut child, pidfd)) => {
                // Not here: a child's own child may hold the output open for longer.
                let reader = std::thread::Builder::new().name("process-output".to_owned());
                if let Some(stdout) = child.stdout.take()
                    && let Err(error) = reader.spawn(move || read(stdout, &mark, tell))
                {
                    let _ = started.send(Err(error));
                    let _ = child.kill();
                } else {
                    let _ = started.send(Ok((child.id(), pidfd)));
                }
                if let Ok(status) = child.wait() {
                    ended.send_replace(Some(status));
                }
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        })?;
        let (pid, pidfd) =
            start.recv().unwrap_or_else(|_| Err(io::Error::other("the starting thread died")))?;
        Ok((Self { pid, pidfd, exit: Exit(exit), thread: Some(thread) }, ReadyLine(ready)))
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Tells of its end.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit.clone()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.pidfd, signal)?)
    }

    /// Stops all its threads until it gets [`Signal::CONT`]: when this returns, none runs.
    /// Blocks its thread until then, which takes microseconds.
    ///
    /// # Errors
    ///
    /// It has ended, before or meanwhile.
    pub fn pause(&self) -> io::Result<()> {
        stop(self.pidfd.as_fd())
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

/// Runs `program` by way of `setpriv`, so that the kernel kills it when this process ends, however it ends.
///
/// For programs that do not see to that themselves. Its arguments, its directory and the variables that are set or
/// removed one by one are kept; where it has a directory, a relative path to the program begins there. Standard input
/// is empty, and errors go where the output goes. All else is not kept, since a [`Command`] does not tell: that
/// [`env_clear`](Command::env_clear) was called, other streams, and what `CommandExt` adds.
#[must_use]
pub fn while_parent_lives(program: &Command) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "sh", "-c", WHILE_PARENT_LIVES, "sh"])
        .arg(std::process::id().to_string())
        .arg(program.get_program())
        .args(program.get_args())
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    if let Some(directory) = program.get_current_dir() {
        command.current_dir(directory);
    }
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

fn stop(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    pidfd_send_signal(pidfd, Signal::STOP)?;
    // The signal is on its way: the kernel tells the parent when the last thread has stopped.
    let halted = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    match waitid(WaitId::PidFd(pidfd), halted)? {
        Some(status) if status.stopped() => Ok(()),
        // It has ended, and nobody has asked yet how: until then it takes signals.
        _ => Err(Errno::SRCH.into()),
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

/// Reads to the end, or a child that prints more would block on a full pipe.
fn read(stdout: ChildStdout, mark: &str, ready: oneshot::Sender<Result<String, String>>) {
    const PIECE: usize = 8 * 1024;
    let mut stdout = BufReader::new(stdout);
    let mut printed = Vec::new();
    let mut begin = 0_usize;
    loop {
        // A line has an end, but perhaps not soon.
        let piece = stdout.by_ref().take(PIECE as u64).read_until(b'\n', &mut printed).unwrap_or_default();
        if piece == 0 {
            let _ = ready.send(Err(String::from_utf8_lossy(&printed).into_owned()));
            return;
        }
        let excess = printed.len().saturating_sub(KEPT);
        printed.drain(..excess);
        begin = begin.saturating_sub(excess);
        if piece == PIECE && !printed.ends_with(b"\n") {
            continue;
        }
        let line = String::from_utf8_lossy(&printed[begin..]);
        if line.contains(mark) {
            let _ = ready.send(Ok(line.trim_end().to_owned()));
            let _ = io::copy(&mut stdout, &mut io::sink());
            return;
        }
        begin = printed.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    /// One letter of `/proc/PID/stat`: R runs, S sleeps, T is stopped.
    fn state(process: &Process) -> String {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid())).expect("it is there");
        let (_, rest) = stat.rsplit_once(") ").expect("a state");
        rest[..1].to_owned()
    }

    #[tokio::test]
    async fn the_line_with_the_mark_is_told_and_the_rest_is_read_on() {
        let script = "echo one; echo two: 2; yes | head -c 1000000; exit 7";
        let (process, ready) = Process::start(shell(script), "two").expect("it starts");
        assert_eq!(ready.line().await.as_deref(), Ok("two: 2"));
        let status = process.exit().wait().await.expect("how it ended");
        assert_eq!(status.code(), Some(7));
        assert!(!process.exit().is_running());
    }

    #[tokio::test]
    async fn one_that_ends_too_early_says_what_it_printed() {
        let failing = while_parent_lives(&shell("echo some; echo trouble >&2; exit 1"));
        let (_process, ready) = Process::start(failing, "ready").expect("it starts");
        assert_eq!(ready.line().await, Err("some\ntrouble\n".to_owned()));
    }

    #[tokio::test]
    async fn of_much_output_the_last_is_kept() {
        let much = "yes | head -c 1000000; echo; echo trouble; exit 1";
        let (_process, ready) = Process::start(shell(much), "ready").expect("it starts");
        let printed = ready.line().await.expect_err("it has no such line");
        assert!(printed.ends_with("y\n\ntrouble\n"), "{}", &printed[printed.len() - 20..]);
        assert_eq!(printed.len(), 64 * 1024);
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_told_by_its_last_part() {
        let one_line = "yes | tr -d '\\n' | head -c 1000000; printf ready";
        let (_process, ready) = Process::start(shell(one_line), "ready").expect("it starts");
        let line = ready.line().await.expect("the line");
        assert!(line.ends_with("yready"), "{}", &line[line.len() - 20..]);
        assert_eq!(line.len(), 64 * 1024);
    }

    #[tokio::test]
    async fn a_program_runs_in_its_directory_with_its_variables() {
        // Cargo sets it.
        let inherited = "CARGO_MANIFEST_DIR";
        assert!(std::env::var_os(inherited).is_some());
        let mut program = shell(&format!("pwd; echo ${{GIVEN-}} ${{{inherited}-removed}} end"));
        program.current_dir("/").env("GIVEN", "given").env_remove(inherited);
        let (_process, ready) = Process::start(while_parent_lives(&program), "ready").expect("it starts");
        assert_eq!(ready.line().await, Err("/\ngiven removed end\n".to_owned()));
    }

    #[tokio::test]
    async fn a_paused_process_has_stopped_and_dies_all_the_same() {
        let (process, ready) =
            Process::start(shell("echo up; while :; do :; done"), "up").expect("it starts");
        assert_eq!(ready.line().await.as_deref(), Ok("up"));
        process.pause().expect("it runs");
        assert_eq!(state(&process), "T");
        process.pause().expect("once more is no harm");
        assert!(process.exit().is_running());
        process.signal(Signal::CONT).expect("it runs");
        process.pause().expect("it runs");
        let mut exit = process.exit();
        drop(process);
        assert!(!exit.is_running());
        assert!(exit.wait().await.is_some_and(|status| !status.success()));
    }

    /// The one who is left holds the output open until the test lets it go, which is after the drop.
    #[tokio::test]
    async fn a_child_of_a_child_holds_nobody_up() {
        let (stdin, held) = io::pipe().expect("a pipe");
        let mut command = shell("exec 3<&0; cat <&3 & echo up; wait");
        command.stdin(stdin);
        let (process, ready) = Process::start(command, "up").expect("it starts");
        assert!(ready.line().await.is_ok());
        let mut exit = process.exit();
        drop(process);
        assert!(exit.wait().await.is_some());
        drop(held);
    }

    #[tokio::test]
    async fn who_has_ended_takes_no_signal() {
        let (process, ready) = Process::start(shell("echo up"), "up").expect("it starts");
        assert!(ready.line().await.is_ok());
        process.exit().wait().await.expect("how it ended");
        assert!(process.pause().is_err());
        assert!(process.signal(Signal::TERM).is_err());
    }

    /// Nobody has asked how it ended, so that it still has its number.
    #[test]
    fn who_has_ended_cannot_be_stopped_before_it_is_reaped_either() {
        let mut child = shell("exit 0").spawn().expect("it starts");
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).expect("a handle");
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::PidFd(pidfd.as_fd()), ended).expect("it ends");
        let error = stop(pidfd.as_fd()).expect_err("it has ended");
        assert_eq!(error.raw_os_error(), Some(Errno::SRCH.raw_os_error()));
        child.wait().expect("it is ours");
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let missing = Process::start(Command::new("/no/such/program"), "").expect_err("it is not there");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
