//! What the operating system knows of this process. Linux.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The time that all threads of this process have run so far.
pub(crate) fn cpu_time() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().expect("a process has run for a while, not for less")
}

/// The memory that this process holds.
pub(crate) fn resident_bytes() -> f64 {
    const PAGE: f64 = 4096.0;
    let statm = fs::read_to_string("/proc/self/statm").expect("this process has a statm");
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u32>().ok());
    f64::from(pages.expect("the second number of statm is the resident pages")) * PAGE
}

/// How many tasks wanted to run in the last minute, this process included.
pub(crate) fn load_average() -> String {
    let loads = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    loads.split_whitespace().next().unwrap_or("unknown").to_owned()
}
