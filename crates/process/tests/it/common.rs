//! Helpers of the tests.

use std::fs;
use std::process::Command;
use std::time::Duration;

use watchkeeper_process::{Process, ReadyLine};

/// The time-out of every wait.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// The line with the mark, or the output without one.
pub(crate) async fn line(ready: ReadyLine) -> Result<String, String> {
    tokio::time::timeout(SOON, ready.line()).await.expect("an answer in time")
}

pub(crate) fn start(script: &str, mark: &str) -> (Process, ReadyLine) {
    Process::start(shell(script), mark).unwrap()
}

/// The state in `/proc/PID/stat`: R runs, S sleeps, T is stopped, Z has ended; none if it was reaped.
pub(crate) fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

pub(crate) fn runs(pid: u32) -> bool {
    state(pid).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Waits until `condition` holds, by polling the system.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let met = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(SOON, met).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// A command that runs this test again in another process, started by `wrapper`, in which [`in_the_copy`] is true.
pub(crate) fn copy_of(test: &str, wrapper: &[&str]) -> Command {
    let mut copy = Command::new(wrapper[0]);
    copy.args(&wrapper[1..])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(COPY, test);
    copy
}

const COPY: &str = "WATCHKEEPER_PROCESS_TEST_COPY";

pub(crate) fn in_the_copy(test: &str) -> bool {
    std::env::var(COPY).is_ok_and(|copy| copy == test)
}
