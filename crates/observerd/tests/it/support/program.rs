//! The program `observerd` as a process.

use std::path::Path;
use std::process::{Command, ExitStatus};

use watchkeeper_process::{Process, Signal, while_parent_lives};

use super::{Client, TOKEN};

/// A service in a process of its own.
pub(crate) struct Program {
    process: Process,
    pub(crate) client: Client,
}

impl Program {
    /// Starts it over a directory, on a port that the system picks, and waits until it listens.
    pub(crate) async fn start(directory: &Path, args: &[&str]) -> Self {
        Self::start_with(directory, args, &[]).await
    }

    /// The same with environment variables.
    pub(crate) async fn start_with(directory: &Path, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = command(&["serve", "--listen", "127.0.0.1:0"]);
        command.arg("--data-dir").arg(directory).args(args).envs(environment.iter().copied());
        Self::of(&command).await
    }

    /// Over a directory, with a standard error that cannot be written.
    pub(crate) async fn start_without_log(directory: &Path, args: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec \"$@\" 2>/dev/full", "sh", env!("CARGO_BIN_EXE_observerd")]);
        shell.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(directory).args(args);
        shell.env("OBSERVERD_TOKEN", TOKEN);
        Self::of(&shell).await
    }

    /// Without a directory and a token: it makes a token of its own.
    pub(crate) async fn in_memory(environment: &[(&str, &str)]) -> Self {
        let mut command = command(&["serve", "--listen", "127.0.0.1:0"]);
        command.env_remove("OBSERVERD_TOKEN").envs(environment.iter().copied());
        Self::of(&command).await
    }

    async fn of(command: &Command) -> Self {
        let (process, ready) = Process::start(while_parent_lives(command), "listening on http://").unwrap();
        let line = ready.line().await.unwrap();
        let address = line.split("http://").nth(1).unwrap();
        let client = Client::new(address.trim().parse().unwrap());
        Self { process, client }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal).unwrap();
    }

    pub(crate) async fn ended(&self) -> ExitStatus {
        self.process.exit().wait().await.unwrap()
    }

    /// Kills it as a crash would.
    pub(crate) async fn kill(self) {
        self.signal(Signal::KILL);
        self.ended().await;
    }
}

/// The program with arguments, with the token of the tests.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_observerd"));
    command.args(args).env("OBSERVERD_TOKEN", TOKEN).env("RUST_BACKTRACE", "0").env_remove("COLUMNS");
    command
}
