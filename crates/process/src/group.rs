//! The process group of a child and its own children.

use std::fs;
use std::io;
use std::process::{Child, ExitStatus};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};

/// How long the children of a child may take to end. It takes microseconds, unless the kernel holds one.
const GONE_WITHIN: Duration = Duration::from_secs(1);

/// The process group that a child leads.
#[derive(Debug)]
pub(crate) struct Group {
    leader: Pid,
    /// After the leader is reaped, the system may give the number to another group.
    reaped: Mutex<bool>,
}

impl Group {
    pub(crate) fn of(child: &Child) -> Self {
        Self { leader: Pid::from_child(child), reaped: Mutex::new(false) }
    }

    /// Kills all processes of the group, stopped or not.
    pub(crate) fn kill(&self) -> io::Result<()> {
        let reaped = self.reaped.lock().unwrap_or_else(PoisonError::into_inner);
        if *reaped {
            return Ok(());
        }
        match kill_process_group(self.leader, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Kills the rest of the group, reaps the leader, which has ended, and returns its exit status.
    pub(crate) fn reap(&self, child: &mut Child) -> io::Result<ExitStatus> {
        // Processes of another user are left.
        let _ = self.kill();
        // Set before the wait, which may take long: a leader that another process traces cannot be reaped before that
        // ends.
        *self.reaped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        child.wait()
    }

    /// Waits until no process of the killed group runs. They are not our children, so only `/proc` shows it.
    pub(crate) fn wait_until_gone(&self) {
        let deadline = Instant::now() + GONE_WITHIN;
        let mut pause = Duration::from_micros(200);
        while self.is_alive() && Instant::now() < deadline {
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    fn is_alive(&self) -> bool {
        let group = self.leader.as_raw_nonzero().get();
        let Ok(processes) = fs::read_dir("/proc") else { return false };
        let numbered = processes.flatten().filter(|entry| {
            let name = entry.file_name();
            name.as_encoded_bytes().first().is_some_and(u8::is_ascii_digit)
        });
        numbered
            .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
            .any(|stat| runs_in(&stat, group))
    }
}

/// Whether a line of `/proc/PID/stat` is of a process in `group` that has not ended.
fn runs_in(stat: &str, group: i32) -> bool {
    // Before that is the name of the program, in brackets, with any characters.
    let Some((_, rest)) = stat.rsplit_once(") ") else { return false };
    let mut fields = rest.split(' ');
    let (state, of) = (fields.next(), fields.nth(1));
    !matches!(state, Some("Z" | "X")) && of.and_then(|of| of.parse().ok()) == Some(group)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::sync::Arc;

    use super::*;

    /// A leader that another process traces cannot be reaped, and the kill of its group waited for that.
    #[test]
    fn a_group_is_killed_at_once_while_its_leader_cannot_be_reaped() {
        // It leads no group, so it is not killed and lives until its input ends.
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let held = child.stdin.take();
        let group = Arc::new(Group::of(&child));
        let reaped = Arc::clone(&group);
        let reaping = std::thread::spawn(move || reaped.reap(&mut child));
        let deadline = Instant::now() + Duration::from_secs(20);
        while !group.reaped.try_lock().is_ok_and(|reaped| *reaped) {
            assert!(Instant::now() < deadline, "the lock is held, or the reaping does not begin");
            std::thread::yield_now();
        }
        group.kill().unwrap();
        assert!(!reaping.is_finished(), "the leader was reaped too early for this test");
        drop(held);
        assert!(reaping.join().unwrap().unwrap().success());
    }

    #[test]
    fn a_program_with_brackets_in_its_name_is_parsed() {
        let of = |name: &str, state: &str| runs_in(&format!("7 ({name}) {state} 1 42 42 0 -1"), 42);
        assert!(of("sleep", "S") && of("a) Z 1 43 (", "R") && of("stopped", "T"));
        assert!(!of("sleep", "Z") && !of("sleep", "X"));
        assert!(!runs_in("7 (sleep) S 42 1 1 0", 42), "42 is its parent here");
        assert!(!runs_in("", 42));
    }
}
