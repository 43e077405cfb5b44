//! Ctrl-C: a run in its own process gets a signal.

use std::future::pending;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use watchkeeper_scenario::{DynError, Limits, RunContext, ctrl_c};

use super::cluster::{Names, Processes, observed};
use super::{MARK, count, new_mark};
use crate::common::{Memory, nothing, recorded, scenario, secs};

const RUN: &str = "WATCHKEEPER_TEST_RUN";

/// Starts this test in another process that does what `does` says; returns the process and the lines that it prints.
fn child(test: &str, does: &str, mark: &str) -> (Child, impl Iterator<Item = String> + use<>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("processes::signals::{test}"), "--nocapture"])
        .env(RUN, does)
        .env(MARK, mark)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    (child, lines)
}

/// Runs in the process that gets the signal.
#[tokio::main(flavor = "current_thread")]
async fn run_until_the_signal(mark: String) {
    let processes = Processes::marked(mark);
    let scenario = observed(&processes).workload("endless", |context: RunContext<Names>| async move {
        println!("\nWORKING");
        context.cancelled().await;
        Ok(())
    });
    let failure = scenario.build().unwrap().run_until(&processes, ctrl_c().unwrap()).await.unwrap_err();
    assert_eq!(recorded(&failure), ["workloads the run: Cancelled"]);
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
        let (mut child, mut lines) = child("a_run_ends_and_cleans_up_at_a_signal", "run", &mark);
        assert!(lines.any(|line| line == "WORKING"));
        assert_eq!(count(&mark), 3, "the run and its two nodes");
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert!(lines.any(|line| line == "CLEANED UP"), "{signal:?}");
        assert!(child.wait().unwrap().success());
        assert_eq!(count(&mark), 0);
    }
}

/// A run with nodes that does not end when it is cancelled: its workload continues, or blocks the only thread.
#[tokio::main(flavor = "current_thread")]
async fn run_on_after_the_signal(does: &str, mark: String) {
    let processes = Processes::marked(mark);
    let blocks = does == "blocks";
    let limits = Limits { drain: secs(24 * 3600), ..Limits::default() };
    let scenario =
        observed(&processes).limits(limits).workload("deaf", move |context: RunContext<Names>| async move {
            println!("\nWORKING");
            context.cancelled().await;
            println!("\nCANCELLED");
            if blocks {
                std::thread::sleep(Duration::from_secs(24 * 3600));
            }
            pending::<Result<(), DynError>>().await
        });
    let _ = scenario.build().unwrap().run_until(&processes, ctrl_c().unwrap()).await;
    println!("\nIT CAME BACK");
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    if let Ok(does) = std::env::var(RUN) {
        return run_on_after_the_signal(&does, std::env::var(MARK).unwrap());
    }
    let cases = [
        ("hangs", Signal::INT, Signal::INT, 130),
        ("blocks", Signal::INT, Signal::INT, 130),
        ("hangs", Signal::TERM, Signal::TERM, 143),
        ("blocks", Signal::TERM, Signal::INT, 130),
    ];
    for (does, first, second, code) in cases {
        let mark = new_mark();
        let (mut child, mut lines) = child("a_second_signal_ends_the_process_at_once", does, &mark);
        assert!(lines.any(|line| line == "WORKING"));
        kill_process(Pid::from_child(&child), first).unwrap();
        assert!(lines.any(|line| line == "CANCELLED"), "{does}");
        kill_process(Pid::from_child(&child), second).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{does}");
        assert!(!lines.any(|line| line == "IT CAME BACK"));
        // The nodes of this test end with their parent.
        while count(&mark) > 0 {
            std::thread::yield_now();
        }
    }
}

/// Runs to its end, and then continues with something else.
#[tokio::main(flavor = "current_thread")]
async fn go_on_after_the_run(does: &str) {
    let memory = Memory::default();
    let scenario = scenario().workload("quick", nothing).build().unwrap();
    match does {
        "runs" => drop(scenario.run_until(&memory, ctrl_c().unwrap()).await.unwrap()),
        "drops" => drop(ctrl_c().unwrap()),
        // Two at a time: while one is left, a signal resolves it.
        _ => {
            let (one, two) = (ctrl_c().unwrap(), ctrl_c().unwrap());
            drop(one);
            println!("\nWAITING");
            two.await;
        }
    }
    println!("\nOVER");
    loop {
        std::thread::park();
    }
}

#[test]
fn after_the_run_signals_have_their_default_effect() {
    if let Ok(does) = std::env::var(RUN) {
        return go_on_after_the_run(&does);
    }
    for does in ["runs", "drops", "waits"] {
        for signal in [Signal::INT, Signal::TERM] {
            let (mut child, mut lines) =
                child("after_the_run_signals_have_their_default_effect", does, &new_mark());
            if does == "waits" {
                assert!(lines.any(|line| line == "WAITING"));
                kill_process(Pid::from_child(&child), signal).unwrap();
            }
            assert!(lines.any(|line| line == "OVER"), "{does}");
            kill_process(Pid::from_child(&child), signal).unwrap();
            let status = child.wait().unwrap();
            assert_eq!(status.signal(), Some(signal.as_raw()), "{does}: {status}");
        }
    }
}
