//! Ending a node in order.

use std::fs;
use std::time::Duration;

use tokio::time::sleep;
use watchkeeper_process::{Process, Signal};

/// Asks a process to end, and waits for that; also if it is paused.
pub(super) async fn end(process: &Process) {
    // Signals fail for a process that has ended already, which is fine.
    let _ = process.signal(Signal::CONT);
    // A node answers before it has its signal handler. Until then the signal would kill it, so poll for the handler.
    while !handles(process, Signal::TERM) {
        sleep(Duration::from_millis(5)).await;
    }
    let _ = process.signal(Signal::TERM);
    process.exit().wait().await;
}

/// Whether a process has a handler for a signal; true for one that has ended.
fn handles(process: &Process, signal: Signal) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{}/status", process.pid())) else { return true };
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_none_or(|mask| mask >> (signal.as_raw() - 1) & 1 == 1)
}
