//! Actions that the system refuses.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::geteuid;
use tokio::time::timeout;
use watchkeeper_process::{Process, Signal, while_parent_lives};

use crate::common::{SOON, copy_of, in_the_copy, line, shell, until};

#[test]
fn the_error_for_a_missing_program_names_it() {
    let missing = Process::start(Command::new("/no/such/program"), "").unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.to_string().starts_with("cannot start /no/such/program"), "{missing}");
}

/// The copy of the command was started, with `<string-with-nul>` in place of the argument.
#[test]
fn a_nul_byte_is_refused_and_named() {
    let program = Command::new("a\0b");
    let mut argument = shell("true");
    argument.arg("a\0b");
    let mut directory = shell("true");
    directory.current_dir("a\0b");
    let mut variable = shell("true");
    variable.env("NAME", "a\0b");
    for command in [program, argument, directory, variable] {
        let refused = Process::start(while_parent_lives(&command), "").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{command:?}: {refused}");
        assert!(refused.to_string().contains("remove the NUL byte"), "{command:?}: {refused}");
    }
}

/// Only root starts children of other users. The copy of the test gives up the right to kill them.
#[tokio::test]
async fn a_child_that_may_not_be_killed_does_not_block_the_drop() {
    const TEST: &str = "refused::a_child_that_may_not_be_killed_does_not_block_the_drop";
    if in_the_copy(TEST) {
        let (stdin, held) = io::pipe().unwrap();
        let mut command = shell("echo up; exec cat >/dev/null");
        command.stdin(stdin).uid(65_534).gid(65_534);
        let (process, ready) = Process::start(command, "up").unwrap();
        assert!(line(ready).await.is_ok());
        let error = process.signal(Signal::KILL).unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::PermissionDenied,
            "this test needs a child that may not be killed"
        );
        let mut exit = process.exit();
        drop(process);
        assert!(exit.is_running());
        // It exits, and the handle still returns that.
        drop(held);
        assert!(exit.wait().await.unwrap().success());
        return;
    }
    if !geteuid().is_root() {
        eprintln!("not run: needs root, to start a child as another user");
        return;
    }
    let mut copy = copy_of(TEST, &["setpriv", "--bounding-set=-kill"]).spawn().unwrap();
    let ended = timeout(SOON, async {
        until("the copy has ended", || copy.try_wait().unwrap().is_some()).await;
    });
    let blocked = ended.await.is_err();
    copy.kill().unwrap();
    assert!(!blocked && copy.wait().unwrap().success());
}

/// A program inherits ignored signals. With this one the exit status of a child is lost, or even its start.
#[tokio::test]
async fn an_ignored_sigchld_is_an_error_and_not_the_end_of_a_program() {
    const TEST: &str = "refused::an_ignored_sigchld_is_an_error_and_not_the_end_of_a_program";
    if in_the_copy(TEST) {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
        let ignored = u64::from_str_radix(ignored, 16).unwrap();
        assert_ne!(ignored & 1 << 16, 0, "this test needs an ignored signal");
        for script in ["exit 7", "echo up; exec sleep 1000"] {
            let error = Process::start(shell(script), "up").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            let text = error.to_string();
            assert!(text.contains("SIGCHLD is ignored") && text.contains("--default-signal=CHLD"), "{text}");
        }
        return;
    }
    let output = copy_of(TEST, &["env", "--ignore-signal=CHLD"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
