//! The service as a process of its own, on a port that the system picks.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::timeout;
use watchkeeper_process::{Process, Signal, while_parent_lives};

pub(crate) const TOKEN: &str = "token-of-the-figures-0123456789";

/// No client here is refused for its rate: all of them have one address.
pub(crate) const REQUESTS_PER_SECOND: u32 = 10_000_000;

pub(crate) struct Server {
    process: Process,
    pub(crate) address: SocketAddr,
    _own: Option<tempfile::TempDir>,
}

impl Server {
    /// The program with these settings, in a new directory, or in memory.
    pub(crate) async fn start(parent: &Path, settings: &str, is_in_memory: bool) -> Self {
        let own = tempfile::tempdir_in(parent).expect("a directory");
        let data = own.path().join("data");
        let server = Self::over((!is_in_memory).then_some(&*data), own.path(), settings).await;
        Self { _own: Some(own), ..server }
    }

    /// The program over a directory with data.
    pub(crate) async fn over(data: Option<&Path>, parent: &Path, settings: &str) -> Self {
        let config = parent.join("observerd.toml");
        let text = format!(
            "[observerd]\n{settings}\n[observerd.limits]\nrequests_per_second = {REQUESTS_PER_SECOND}\nburst = {REQUESTS_PER_SECOND}\n"
        );
        std::fs::write(&config, text).expect("the settings are written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_observerd"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--config"]).arg(config);
        if let Some(data) = data {
            command.arg("--data-dir").arg(data);
        }
        Self::of(command).await
    }

    /// A program that prints where it listens.
    pub(crate) async fn of(mut command: Command) -> Self {
        command.env("OBSERVERD_TOKEN", TOKEN);
        let (process, ready) =
            Process::start(while_parent_lives(&command), "listening on http://").expect("it starts");
        let line = timeout(Duration::from_mins(2), ready.line()).await.expect("it is ready").expect("a line");
        let address = line.split("http://").nth(1).expect("an address").trim().parse().expect("an address");
        Self { process, address, _own: None }
    }

    /// The seconds that it was on a processor.
    pub(crate) fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.pid())).unwrap_or_default();
        let behind_name = stat.rsplit(')').next().unwrap_or_default();
        let ticks = |field| behind_name.split_whitespace().nth(field).and_then(|text| text.parse().ok());
        let ticks: u64 = ticks(11).unwrap_or(0) + ticks(12).unwrap_or(0);
        // Linux has 100 ticks a second wherever a program can see them.
        ticks as f64 / 100.0
    }

    /// The most memory that it had, in MB.
    pub(crate) fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid()));
        let status = status.unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse().ok());
        kilobytes.unwrap_or(0u64).div_ceil(1024)
    }

    pub(crate) async fn stop(self, signal: Signal) {
        self.process.signal(signal).expect("it runs");
        timeout(Duration::from_mins(1), self.process.exit().wait()).await.expect("it ends");
    }
}

/// 1,000 readers have 1,000 files on each side; a program inherits the limit.
pub(crate) fn allow_many_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("the soft limit can be raised");
}
