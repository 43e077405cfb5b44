//! Commands that end in time, or are killed with what they have started.

use std::io;
use std::pin::pin;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::time::timeout;
use watchkeeper::report::one_line;

/// Bytes shown of the errors of a command.
const ERROR: usize = 4000;

/// How a command ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct Ended {
    /// Whether its exit code is 0.
    pub success: bool,
    /// What it wrote to standard output.
    pub output: String,
    error: Vec<String>,
}

impl Ended {
    /// What it wrote to standard error, as one line of at most 4,000 bytes.
    #[must_use]
    pub fn error(&self) -> String {
        one_line(&self.error.join(" "), ERROR)
    }

    /// The first line of standard error that begins with `error`: progress comes before it.
    pub(super) fn first_error(&self) -> String {
        let is_error = |line: &&String| line.to_lowercase().starts_with("error");
        self.error.iter().find(is_error).map_or_else(|| self.error(), |line| one_line(line, ERROR))
    }
}

async fn run(command: Command) -> io::Result<Ended> {
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.process_group(0).kill_on_drop(true).spawn()?;
    let leader = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let ended = pin!(child.wait_with_output());
    // Declared after the child, so that it is dropped first: the leader is not reaped yet, so that its pid is still
    // that of this group.
    let mut group = Group(leader);
    let output = ended.await;
    group.0 = None;
    Ok(Ended::from(&output?))
}

/// A process group that is killed when this is dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // A drop cannot report an error; a group that has ended is fine.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// Runs `command`, without input and in its own process group, which Ctrl-C does not reach.
///
/// # Errors
///
/// It cannot be started, or has not ended within this time ([`TimedOut`](io::ErrorKind::TimedOut)) and was killed; `hint`
/// says what to check then.
///
/// # Cancel safety
///
/// The command and all that it has started in its group are killed when the future is dropped.
///
/// # Examples
///
/// ```
/// use std::process::Command;
/// use std::time::Duration;
/// use watchkeeper_deploy::compose::run_within;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let mut build = Command::new("sh");
/// build.args(["-c", "echo built; echo 'no room' >&2; exit 3"]);
/// let ended = run_within(Duration::from_secs(10), build, "see whether the disk hangs").await?;
/// assert_eq!((ended.success, ended.output.as_str()), (false, "built\n"));
/// assert_eq!(ended.error(), "no room");
/// # Ok(())
/// # }
/// ```
pub async fn run_within(within: Duration, command: Command, hint: &str) -> io::Result<Ended> {
    let program = command.get_program().to_owned();
    timeout(within, run(command)).await.unwrap_or_else(|_| {
        let program = program.display();
        let reason = format!("{program} did not end within {within:?} and was killed: {hint}");
        Err(io::Error::new(io::ErrorKind::TimedOut, reason))
    })
}

impl From<&Output> for Ended {
    fn from(output: &Output) -> Self {
        let error = String::from_utf8_lossy(&output.stderr);
        let lines = error.lines().map(str::trim).filter(|line| !line.is_empty());
        Self {
            success: output.status.success(),
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
            error: lines.map(str::to_owned).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    const SOON: Duration = Duration::from_secs(15);

    /// The command starts another one, which holds a connection for as long as it lives.
    #[tokio::test]
    async fn a_command_that_is_dropped_takes_what_it_has_started_with_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let script =
            format!("bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}; echo up >&3; exec sleep 1000' & wait");
        let mut command = Command::new("bash");
        command.args(["-c", &script]);
        let running = tokio::spawn(run(command));
        let (mut connection, _) = timeout(SOON, listener.accept()).await.unwrap().unwrap();
        let mut bytes = [0; 3];
        timeout(SOON, connection.read_exact(&mut bytes)).await.unwrap().unwrap();
        assert_eq!(&bytes, b"up\n");

        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
        let mut rest = Vec::new();
        timeout(SOON, connection.read_to_end(&mut rest)).await.expect("it has ended").unwrap();
        assert!(rest.is_empty());
    }

    #[tokio::test]
    async fn a_command_that_ends_returns_how() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo WARNING: no >&2; echo ERROR: room >&2; exit 3"]);
        let ended = run(command).await.unwrap();
        assert_eq!((ended.success, ended.output.as_str()), (false, "out\n"));
        assert_eq!(
            (ended.error(), ended.first_error()),
            ("WARNING: no ERROR: room".into(), "ERROR: room".into())
        );
    }
}
