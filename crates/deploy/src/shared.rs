//! What several deployers need.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use watchkeeper::DynError;
use watchkeeper::report::one_line;
use watchkeeper_scenario::Application;

use crate::{NodeAccess, NodeAddress};

/// How many lines of a node's log explain why it does not serve.
const LOG_TAIL_LINES: usize = 3;
/// Bytes shown of each.
const LOG_LINE: usize = 1000;
/// The most bytes of a log that are kept.
const LOG_BYTES: usize = 1024 * 1024;

/// The end of a log, which is what explains a failure.
#[derive(Debug, Default)]
pub(crate) struct LogEnd(Vec<u8>);

impl LogEnd {
    pub(crate) fn push(&mut self, part: &[u8]) {
        self.0.extend_from_slice(part);
        if self.0.len() > 2 * LOG_BYTES {
            self.0.drain(..self.0.len() - LOG_BYTES);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn into_text(self) -> String {
        String::from_utf8_lossy(&self.0[self.0.len().saturating_sub(LOG_BYTES)..]).into_owned()
    }
}

/// The problem of a node, with the end of its log, which is `None` if it cannot be read.
pub(crate) fn with_log_tail(problem: &str, log: Option<&str>) -> String {
    let Some(log) = log else { return format!("{problem}; its log cannot be read") };
    let lines = log.lines().rev().filter(|line| !line.is_empty()).take(LOG_TAIL_LINES);
    let mut last: Vec<String> = lines.map(|line| one_line(line, LOG_LINE)).collect();
    last.reverse();
    if last.is_empty() {
        return format!("{problem}; its log is empty");
    }
    format!("{problem}; the end of its log: {}", last.join(" / "))
}

/// Locks `mutex`, also after a panic of another holder.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A part of a name that no other cluster has.
pub(crate) fn unique() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::SystemTime;

    static CLUSTERS: AtomicU64 = AtomicU64::new(1);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let number = CLUSTERS.fetch_add(1, Ordering::Relaxed);
    format!("{}-{:x}-{number}", std::process::id(), now.as_millis())
}

/// A client of the node at this address. A panic of the application is an error: it would end the task that follows the
/// nodes.
pub(crate) fn client<A: Application>(
    access: &dyn NodeAccess<A>,
    at: &NodeAddress,
) -> Result<A::NodeClient, DynError> {
    catch_unwind(AssertUnwindSafe(|| access.client(at))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("its payload is no text");
        Err(format!("the application panicked: {text}").into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_log_the_end_is_kept() {
        let mut log = LogEnd::default();
        let part = "é".repeat(16 * 1024);
        for _ in 0..200 {
            log.push(part.as_bytes());
        }
        assert!(log.0.len() <= 2 * LOG_BYTES + part.len());
        log.push(b"panicked at main.rs:1\n");
        let text = log.into_text();
        assert!(
            text.len() <= LOG_BYTES + 2 * char::REPLACEMENT_CHARACTER.len_utf8()
                && text.ends_with("main.rs:1\n")
        );
    }

    #[test]
    fn the_last_lines_explain_a_problem() {
        let shown = |log| with_log_tail("n1 is down", log);
        assert_eq!(shown(Some("1\n2\n\n3\n4\n\n")), "n1 is down; the end of its log: 2 / 3 / 4");
        assert_eq!(shown(Some("\n")), "n1 is down; its log is empty");
        assert_eq!(shown(None), "n1 is down; its log cannot be read");
        assert!(shown(Some(&"x".repeat(100_000))).len() < 1_100);
    }
}
