//! No process is left: real processes, counted before and after.

mod cleanup;
mod cluster;
mod follow;
mod node;
mod signals;

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// A variable in the environment of every process of one test.
const MARK: &str = "WATCHKEEPER_TEST_MARK";

/// A mark that no other test has, also in other processes.
fn new_mark() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// How many processes carry the mark.
fn count(mark: &str) -> usize {
    let entry = format!("{MARK}={mark}");
    let carries = |process: &Path| {
        // `self` and `thread-self` are this process.
        if process.is_symlink() {
            return false;
        }
        // A process that ended meanwhile has no environment.
        let environment = std::fs::read(process.join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == entry.as_bytes())
    };
    let processes = std::fs::read_dir("/proc").unwrap();
    processes.filter_map(Result::ok).filter(|process| carries(&process.path())).count()
}

/// A zombie has no mark any more: it is found by its number.
fn exists(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}
