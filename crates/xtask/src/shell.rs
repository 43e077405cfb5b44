//! Commands, written as they are typed, and printed before they run.
//!
//! A line is words split at blanks, without quoting; leading `NAME=value` words set the environment. Every
//! line can be pasted into a shell. Nothing is read from the terminal.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// Runs `line`; its output goes where ours goes.
pub(crate) fn run(line: &str) -> Result<(), String> {
    announce(line);
    let status = command(line).status().map_err(|error| not_started(line, &error))?;
    succeeded(line, status)
}

/// Runs `line` and returns what it printed to standard output.
pub(crate) fn read(line: &str) -> Result<String, String> {
    announce(line);
    let output =
        command(line).stderr(Stdio::inherit()).output().map_err(|error| not_started(line, &error))?;
    succeeded(line, output.status)?;
    String::from_utf8(output.stdout).map_err(|error| format!("`{line}` printed no text: {error}"))
}

/// Runs `line` in silence and answers whether it succeeded.
pub(crate) fn succeeds(line: &str) -> bool {
    command(line).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Runs `line`, which is to fail, in silence. Returns what it printed to standard error; `None` if it succeeded.
pub(crate) fn failing(line: &str) -> Result<Option<String>, String> {
    announce(line);
    let output = command(line).stdout(Stdio::null()).output().map_err(|error| not_started(line, &error))?;
    Ok((!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// Runs `line` with all its output into the file at `path`, in the order in which it comes. Returns whether it succeeded, and
/// the output.
pub(crate) fn capture(line: &str, path: &Path) -> Result<(bool, String), String> {
    let unwritable = |error: io::Error| format!("{} cannot be used: {error}", path.display());
    fs::create_dir_all(path.parent().unwrap_or(path)).map_err(unwritable)?;
    let output = File::create(path).map_err(unwritable)?;
    let errors = output.try_clone().map_err(unwritable)?;
    let status =
        command(line).stdout(output).stderr(errors).status().map_err(|error| not_started(line, &error))?;
    let output = fs::read(path).map_err(unwritable)?;
    Ok((status.success(), String::from_utf8_lossy(&output).into_owned()))
}

/// Runs `line` for at most `limit`, printing and returning its lines. At the limit it is killed, an error.
pub(crate) fn lines_within(line: &str, limit: Duration) -> Result<Vec<String>, String> {
    announce(line);
    let mut child =
        command(line).stdout(Stdio::piped()).spawn().map_err(|error| not_started(line, &error))?;
    let deadline = Instant::now() + limit;
    let (sender, receiver) = mpsc::sync_channel(64);
    if let Some(stdout) = child.stdout.take() {
        thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|text| sender.send(text))
        });
    }

    let mut seen: Vec<String> = Vec::new();
    let ended = loop {
        let Some(left) = deadline.checked_duration_since(Instant::now()) else { break false };
        match receiver.recv_timeout(left) {
            Ok(text) => {
                println!("{text}");
                seen.push(text);
            }
            Err(RecvTimeoutError::Disconnected) => break true,
            Err(RecvTimeoutError::Timeout) => break false,
        }
    };
    if !ended {
        // Its error says that the process has ended meanwhile.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| format!("`{line}` cannot be waited for: {error}"))?;
    if !ended {
        let last = seen.last().map_or("nothing", String::as_str);
        return Err(format!("`{line}` was killed after {} s; it printed last: {last}", limit.as_secs()));
    }
    succeeded(line, status).map(|()| seen)
}

fn announce(line: &str) {
    println!("$ {line}");
}

fn command(line: &str) -> Command {
    let mut words = line.split_whitespace().peekable();
    let mut settings = Vec::new();
    while let Some((name, value)) = words.peek().and_then(|word| setting(word)) {
        settings.push((name, value));
        words.next();
    }
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).stdin(Stdio::null());
    // What cargo says of this package: build scripts look at it, and would run again after each plain `cargo`.
    for (name, _) in env::vars_os().filter(|(name, _)| is_of_our_package(name)) {
        command.env_remove(name);
    }
    command.envs(settings);
    command
}

fn is_of_our_package(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
}

/// `NAME=value`, where the name is what an environment variable is called: `--cfg=x` is none.
fn setting(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let is_name = name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    (is_name && !name.is_empty()).then_some((name, value))
}

fn succeeded(line: &str, status: ExitStatus) -> Result<(), String> {
    if status.success() { Ok(()) } else { Err(format!("`{line}` ended with {status}")) }
}

fn not_started(line: &str, error: &io::Error) -> String {
    format!("`{line}` cannot be started: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_settings_reach_the_environment_and_arguments_do_not() {
        assert_eq!(read("XTASK_A=1 XTASK_B=--cfg=x printenv XTASK_A XTASK_B"), Ok("1\n--cfg=x\n".to_owned()));
        assert_eq!(read("echo XTASK_A=1 --cfg=x"), Ok("XTASK_A=1 --cfg=x\n".to_owned()));
    }

    /// Cargo sets these for this very test.
    #[test]
    fn what_cargo_says_of_our_package_reaches_no_command() {
        assert!(env::var_os("CARGO_PKG_NAME").is_some() && env::var_os("CARGO_MANIFEST_DIR").is_some());
        assert!(!succeeds("printenv CARGO_PKG_NAME") && !succeeds("printenv CARGO_MANIFEST_DIR"));
        assert!(succeeds("printenv PATH"));
    }

    #[test]
    fn a_command_that_fails_is_distinguished_from_one_that_is_not_there() {
        let failed = run("false").expect_err("false fails");
        assert!(failed.contains("`false` ended with exit status: 1"), "{failed}");
        let absent = run("watchkeeper-no-such-program").expect_err("it does not exist");
        assert!(absent.contains("`watchkeeper-no-such-program` cannot be started"), "{absent}");
        assert!(succeeds("true") && !succeeds("false") && !succeeds("watchkeeper-no-such-program"));
    }

    #[test]
    fn nothing_is_read_from_the_terminal() {
        assert_eq!(read("cat"), Ok(String::new()));
    }

    #[test]
    fn lines_come_back_and_a_failure_after_them_is_not_lost() {
        let limit = Duration::from_secs(60);
        assert_eq!(lines_within("seq 3", limit), Ok(["1", "2", "3"].map(str::to_owned).to_vec()));
        let failed = lines_within("ls watchkeeper-no-such-file", limit).expect_err("no such file");
        assert!(failed.contains("ended with exit status"), "{failed}");
    }

    #[test]
    fn what_a_command_prints_is_captured_with_its_errors() {
        let path = env::temp_dir().join(format!("xtask-{}", std::process::id())).join("output.log");
        let (has_succeeded, output) =
            capture("ls watchkeeper-no-such-file /dev/null", &path).expect("ls is there");
        assert!(!has_succeeded);
        assert!(output.contains("watchkeeper-no-such-file") && output.contains("/dev/null\n"), "{output}");
        assert_eq!(capture("seq 2", &path), Ok((true, "1\n2\n".to_owned())));
        assert!(capture("watchkeeper-no-such-program", &path).is_err());
        assert!(capture("true", Path::new("/dev/null/output.log")).is_err());
        fs::remove_dir_all(path.parent().expect("it has one")).expect("it is ours");
    }

    #[test]
    fn a_command_over_its_limit_is_killed_whether_silent_or_chatty() {
        let silent = lines_within("tail -f /dev/null", Duration::from_millis(50)).expect_err("it never ends");
        assert!(silent.contains("was killed") && silent.contains("nothing"), "{silent}");
        let chatty = lines_within("yes on", Duration::from_millis(50)).expect_err("it never ends");
        assert!(chatty.contains("was killed"), "{chatty}");
    }
}
