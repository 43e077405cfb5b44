//! Programs that die with their parent, and their environment.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
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

/// `PATH` is for the program; `setpriv`, `sh` and `env` are found in that of this process.
#[tokio::test]
async fn the_path_of_a_program_does_not_hide_its_wrappers() {
    let mut program = Command::new("/bin/sh");
    program.args(["-c", "echo path: $PATH"]).env("PATH", "/nowhere");
    let (_process, ready) = Process::start(while_parent_lives(&program), "path").unwrap();
    assert_eq!(line(ready).await.as_deref(), Ok("path: /nowhere"));

    program.env_remove("PATH");
    let (_process, ready) = Process::start(while_parent_lives(&program), "path").unwrap();
    assert!(line(ready).await.is_ok());
}

/// The wrappers could not load a library of the program, and ended before the program started.
#[tokio::test]
async fn the_libraries_of_a_program_are_not_loaded_by_its_wrappers() {
    let setpriv = Command::new("sh").args(["-c", "ldd $(command -v setpriv)"]).output().unwrap();
    let setpriv = String::from_utf8_lossy(&setpriv.stdout).into_owned();
    let folder = watchkeeper_process::RunDirectory::new("watchkeeper-test-").unwrap();
    // The libraries of setpriv that a shell does not need.
    let names =
        setpriv.split_whitespace().filter(|word| word.starts_with("lib") && !word.starts_with("libc."));
    let names: Vec<&str> = names.collect();
    assert!(!names.is_empty(), "setpriv has no other libraries, which this test needs: {setpriv}");
    for name in names {
        std::fs::write(folder.path().join(name), "no library").unwrap();
    }
    let mut program = shell("echo path: $LD_LIBRARY_PATH");
    program.env("LD_LIBRARY_PATH", folder.path());
    let (_process, ready) = Process::start(while_parent_lives(&program), "path").unwrap();
    assert_eq!(line(ready).await, Ok(format!("path: {}", folder.path().display())));
}

#[tokio::test]
async fn variables_with_any_characters_are_passed_whole() {
    let mut program = Command::new("env");
    program
        .args(["-0"])
        .env("a.b", "-u PATH")
        .env("LINES_", "one\ntwo = 2")
        .env("EMPTY", "")
        .env("QUOTED", r#"$HOME ${HOME} 'a' "b" \c #d"#)
        .env(r"a $HOME 'b' \c #d", "odd name")
        .env_remove("HOME");
    let (_process, ready) = Process::start(while_parent_lives(&program), "no such line").unwrap();
    let printed = line(ready).await.unwrap_err();
    let variables: Vec<&str> = printed.split('\0').collect();
    let expected = [
        "a.b=-u PATH",
        "LINES_=one\ntwo = 2",
        "EMPTY=",
        r#"QUOTED=$HOME ${HOME} 'a' "b" \c #d"#,
        r"a $HOME 'b' \c #d=odd name",
    ];
    for expected in expected {
        assert!(variables.contains(&expected), "{expected:?}: {variables:?}");
    }
    for absent in ["HOME=", "WATCHKEEPER_PROCESS_VALUE_"] {
        assert!(!variables.iter().any(|variable| variable.starts_with(absent)), "{absent}: {variables:?}");
    }
}

/// They were arguments of `env` and its wrappers, which every user can read in `/proc`.
#[tokio::test]
async fn the_values_of_variables_are_in_no_command_line() {
    const TEST: &str = "parent::the_values_of_variables_are_in_no_command_line";
    if in_the_copy(TEST) {
        let mut program = shell("echo values: $KEY $LATER");
        program.env("KEY", "secret-1").env("LATER", "secret-2");
        let (_process, ready) = Process::start(while_parent_lives(&program), "values:").unwrap();
        assert_eq!(line(ready).await.as_deref(), Ok("values: secret-1 secret-2"));
        return;
    }
    // Wrappers that first write their command line to a file.
    let folder = watchkeeper_process::RunDirectory::new("watchkeeper-test-").unwrap();
    let lines = folder.path().join("lines");
    for name in ["setpriv", "sh", "env"] {
        let real = shell(&format!("command -v {name}")).output().unwrap();
        let real = String::from_utf8(real.stdout).unwrap();
        let script = format!(
            "#!/bin/sh\ntr '\\0' '\\n' </proc/$$/cmdline >>'{}'\nexec '{}' \"$@\"\n",
            lines.display(),
            real.trim()
        );
        let file = folder.path().join(name);
        std::fs::write(&file, script).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("PATH={}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let output = copy_of(TEST, &["env", &path]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let lines = std::fs::read_to_string(lines).unwrap();
    for name in ["setpriv", "sh", "env"] {
        let file = folder.path().join(name).display().to_string();
        assert!(lines.lines().any(|line| line == file), "{name} was not run: {lines}");
    }
    assert!(lines.contains("KEY") && !lines.contains("secret"), "{lines}");
}

#[tokio::test]
async fn a_missing_program_is_named_in_the_output() {
    let missing = while_parent_lives(&Command::new("/no/such/program"));
    let (process, ready) = Process::start(missing, "ready").unwrap();
    let printed = line(ready).await.unwrap_err();
    assert!(printed.contains("/no/such/program"), "{printed:?}");
    assert_eq!(process.exit().wait().await.unwrap().code(), Some(127));
}

/// The guard is not its child: a program that waits for all its children would wait for ever.
#[tokio::test]
async fn a_program_has_only_its_own_children() {
    let script = "cat /proc/$$/task/$$/children; echo end";
    let (_process, ready) = Process::start(while_parent_lives(&shell(script)), "ready").unwrap();
    let printed = line(ready).await.unwrap_err();
    // Only the number of cat.
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
        let line = lines.find(|line| line.contains("numbers ")).expect("the copy prints its children");
        let numbers = line.split_once("numbers ").unwrap().1;
        let numbers: Vec<u32> = numbers.split(' ').map(|number| number.parse().unwrap()).collect();
        assert!(numbers.iter().all(|number| runs(*number)));
        copy.kill().unwrap();
        copy.wait().unwrap();
        until("the program and its child have ended", || numbers.iter().all(|number| !runs(*number))).await;
    }
}
