//! The children of a child.

use std::io;

use watchkeeper_process::Process;

use crate::common::{line, runs, shell, start, until};

/// The number after the mark.
fn number(line: &str) -> u32 {
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// The shell starts the program and stays its parent.
#[tokio::test]
async fn the_program_of_a_shell_without_exec_dies_with_the_shell() {
    for script in [
        "sleep 1000 & echo child $!; wait",
        "(sleep 1000 & echo child $!; wait); true",
        // Only SIGKILL ends this one.
        "sh -c 'trap \"\" TERM HUP INT; while :; do sleep 1000; done' & echo child $!; wait",
    ] {
        let (process, ready) = start(script, "child");
        let child = number(&line(ready).await.unwrap());
        assert!(runs(child));
        drop(process);
        assert!(!runs(child), "the child of {script:?} outlived it");
    }
}

#[tokio::test]
async fn the_children_of_a_program_die_when_it_exits() {
    let (process, ready) = start("sleep 1000 >/dev/null & echo child $!; read line; exit 5", "child");
    let child = number(&line(ready).await.unwrap());
    let status = process.exit().wait().await.expect("an exit status");
    assert_eq!(status.code(), Some(5));
    until("the child has ended", || !runs(child)).await;
}

#[tokio::test]
async fn a_paused_child_of_a_child_dies_too() {
    let (process, ready) = start("sleep 1000 & kill -STOP $!; echo child $!; wait", "child");
    let child = number(&line(ready).await.unwrap());
    process.pause().unwrap();
    drop(process);
    assert!(!runs(child));
}

/// It has left the group and keeps the output open until the test releases it, after the drop.
#[tokio::test]
async fn a_child_of_a_child_that_left_the_group_blocks_no_wait() {
    let (stdin, held) = io::pipe().unwrap();
    let mut command = shell("exec 3<&0; setsid cat <&3 & echo up; wait");
    command.stdin(stdin);
    let (process, ready) = Process::start(command, "up").unwrap();
    assert!(line(ready).await.is_ok());
    let mut exit = process.exit();
    drop(process);
    assert!(exit.wait().await.is_some());
    drop(held);
}

/// The number of a group must not be used when the system may have given it to another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_that_end_while_they_are_dropped_leave_no_child() {
    let rounds: Vec<_> = (0..4)
        .map(|_| {
            tokio::spawn(async {
                for round in 0..125 {
                    let (process, ready) = start("sleep 1000 & echo child $!; kill $$", "child");
                    let child = number(&line(ready).await.unwrap());
                    if round % 2 == 0 {
                        process.exit().wait().await;
                    }
                    drop(process);
                    assert!(!runs(child), "round {round}");
                }
            })
        })
        .collect();
    for round in rounds {
        round.await.unwrap();
    }
}
