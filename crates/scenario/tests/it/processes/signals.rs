//! Ctrl-C: a run in a process of its own is sent a signal.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use watchkeeper_scenario::{DynError, RunContext, ctrl_c};

use super::cluster::{Names, Processes, observed};
use super::{MARK, count, new_mark};
use crate::common::told;

const RUN: &str = "WATCHKEEPER_TEST_RUN";

/// What the process does that is sent the signal.
#[tokio::main(flavor = "current_thread")]
async fn run_until_the_signal(mark: String) {
    let processes = Processes::marked(mark);
    let scenario = observed(&processes).workload("endless", |context: RunContext<Names>| async move {
        println!("\nWORKING");
        context.cancelled().await;
        Ok::<_, DynError>(())
    });
    let failure = scenario.build().unwrap().run_until(&processes, ctrl_c().unwrap()).await.unwrap_err();
    assert_eq!(told(&failure), ["workloads the run: Cancelled"]);
    assert_eq!(processes.diary.read(), ["observer dropped", "nodes go down"]);
    assert_eq!(count(&processes.mark), 1, "this process itself");
    println!("\nCLEANED UP");
}

#[test]
fn a_run_ends_and_cleans_up_at_a_signal() {
    if std::env::var(RUN).is_ok() {
        return run_until_the_signal(std::env::var(MARK).unwrap());
    }
    for signal in [Signal::INT, Signal::TERM] {
        let mark = new_mark();
        assert_eq!(count(&mark), 0);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "processes::signals::a_run_ends_and_cleans_up_at_a_signal", "--nocapture"])
            .env(RUN, "1")
            .env(MARK, &mark)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|line| line == "WORKING"));
        assert_eq!(count(&mark), 3, "the run and its two nodes");
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert!(lines.any(|line| line == "CLEANED UP"), "{signal:?}");
        assert!(child.wait().unwrap().success());
        assert_eq!(count(&mark), 0);
    }
}
