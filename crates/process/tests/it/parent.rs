//! Programs that die with their parent, and the environment they get.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use watchkeeper_process::{Process, while_parent_lives};

use crate::common::{copy_of, in_the_copy, line, runs, shell, until};

#[tokio::test]
async fn a_program_runs_in_its_directory_with_its_variables() {
    // Cargo sets it.
    let inherited = "CARGO_MANIFEST_DIR";
    assert!(std::env::var_os(inherited).is_some());
    let mut program = shell(&format!("pwd; echo ${{GIVEN-}} ${{{inherited}-removed}} end"));
    program.current_dir("/").env("GIVEN", "given").env_remove(inherited);
    let (_process, ready) = Process::start(while_parent_lives(&program), "ready").unwrap();
    assert_eq!(line(ready).await, Err("/\ngiven removed end\n".to_owned()));
}

/// The path is the program's, and what runs the program is ours.
#[tokio::test]
async fn the_path_of_a_program_does_not_hide_what_runs_it() {
    let mut program = Command::new("/bin/sh");
    program.args(["-c", "echo path: $PATH"]).env("PATH", "/nowhere");
    let (_process, ready) = Process::start(while_parent_lives(&program), "path").unwrap();
    assert_eq!(line(ready).await.as_deref(), Ok("path: /nowhere"));

    program.env_remove("PATH");
    let (_process, ready) = Process::start(while_parent_lives(&program), "path").unwrap();
    assert!(line(ready).await.is_ok());
}

/// A library of the program's that what runs it cannot load: it ended before the program was there.
#[tokio::test]
async fn the_libraries_of_a_program_are_not_loaded_by_what_runs_it() {
    let setpriv = Command::new("sh").args(["-c", "ldd $(command -v setpriv)"]).output().unwrap();
    let setpriv = String::from_utf8_lossy(&setpriv.stdout).into_owned();
    let folder = watchkeeper_process::RunDirectory::new("watchkeeper-test-").unwrap();
    // Of the libraries that setpriv has, those that a shell does without.
    let names =
        setpriv.split_whitespace().filter(|word| word.starts_with("lib") && !word.starts_with("libc."));
    let names: Vec<&str> = names.collect();
    assert!(!names.is_empty(), "the test is of a setpriv with libraries of its own: {setpriv}");
    for name in names {
        std::fs::write(folder.path().join(name), "no library").unwrap();
    }
    let mut program = shell("echo path: $LD_LIBRARY_PATH");
    program.env("LD_LIBRARY_PATH", folder.path());
    let (_process, ready) = Process::start(while_parent_lives(&program), "path").unwrap();
    assert_eq!(line(ready).await, Ok(format!("path: {}", folder.path().display())));
}

#[tokio::test]
async fn variables_come_whole_whatever_is_in_them() {
    let mut program = Command::new("env");
    program
        .args(["-0"])
        .env("a.b", "-u PATH")
        .env("LINES_", "one\ntwo = 2")
        .env("EMPTY", "")
        .env_remove("HOME");
    let (_process, ready) = Process::start(while_parent_lives(&program), "no such line").unwrap();
    let printed = line(ready).await.unwrap_err();
    let variables: Vec<&str> = printed.split('\0').collect();
    for expected in ["a.b=-u PATH", "LINES_=one\ntwo = 2", "EMPTY="] {
        assert!(variables.contains(&expected), "{expected:?}: {variables:?}");
    }
    assert!(!variables.iter().any(|variable| variable.starts_with("HOME=")), "{variables:?}");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named_by_what_it_prints() {
    let missing = while_parent_lives(&Command::new("/no/such/program"));
    let (process, ready) = Process::start(missing, "ready").unwrap();
    let printed = line(ready).await.unwrap_err();
    assert!(printed.contains("/no/such/program"), "{printed:?}");
    assert_eq!(process.exit().wait().await.unwrap().code(), Some(127));
}

/// Of what it did not start, it has none: one that waits for all its children would wait for ever.
#[tokio::test]
async fn a_program_has_no_children_but_its_own() {
    let script = "cat /proc/$$/task/$$/children; echo end";
    let (_process, ready) = Process::start(while_parent_lives(&shell(script)), "ready").unwrap();
    let printed = line(ready).await.unwrap_err();
    // The number of cat alone.
    assert_eq!(printed.split_whitespace().count(), 2, "{printed:?}");
}

/// ```text
/// this test --kills--> the copy --starts--> sh --starts--> sleep
/// ```
#[tokio::test]
async fn a_parent_killed_with_sigkill_leaves_no_child_of_a_child() {
    const TEST: &str = "parent::a_parent_killed_with_sigkill_leaves_no_child_of_a_child";
    if in_the_copy(TEST) {
        let program = shell("sleep 1000 & echo numbers $$ $!; wait");
        let (_process, ready) = Process::start(while_parent_lives(&program), "numbers").unwrap();
        println!("{}", line(ready).await.unwrap());
        std::future::pending::<()>().await;
    }
    for _ in 0..10 {
        let mut copy = copy_of(TEST, &["env"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(copy.stdout.take().unwrap()).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("numbers ")).expect("the copy says its children");
        let numbers = line.split_once("numbers ").unwrap().1;
        let numbers: Vec<u32> = numbers.split(' ').map(|number| number.parse().unwrap()).collect();
        assert!(numbers.iter().all(|number| runs(*number)));
        copy.kill().unwrap();
        copy.wait().unwrap();
        until("the program and its child are gone", || numbers.iter().all(|number| !runs(*number))).await;
    }
}
