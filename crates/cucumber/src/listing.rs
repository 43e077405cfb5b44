//! The list of tests, for a test runner.

use std::env;
use std::io::{self, Write as _};

/// Prints the names of the tests if a test runner asks for their list, and returns whether it did.
///
/// `cargo nextest` runs each test binary with `--list` before it runs a test, and once more with `--ignored`. A
/// `main` of a target with `harness = false` answers that first, and returns. No test is listed as ignored.
///
/// Nextest passes arguments of its own, which cucumber must not parse: build the run with its default CLI
/// (`with_default_cli`). `--ignored` without `--list` is not answered.
///
/// # Examples
///
/// ```
/// use std::process::ExitCode;
///
/// use watchkeeper_cucumber::list_tests;
///
/// fn main() -> ExitCode {
///     if list_tests(&["features"]) {
///         return ExitCode::SUCCESS;
///     }
///     // Run the features.
///     # ExitCode::SUCCESS
/// }
/// ```
#[must_use = "after the list was printed, the process has to exit"]
pub fn list_tests(names: &[&str]) -> bool {
    let Some(list) = list(env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()), names) else {
        return false;
    };
    // If standard output is closed, the list has no reader.
    let _ = io::stdout().write_all(list.as_bytes());
    true
}

/// The list that `args` ask for.
fn list(args: impl Iterator<Item = String>, names: &[&str]) -> Option<String> {
    let args: Vec<String> = args.collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    if !has("--list") {
        return None;
    }
    let listed: &[&str] = if has("--ignored") { &[] } else { names };
    let lines: Vec<String> = listed.iter().map(|name| format!("{name}: test\n")).collect();
    Some(lines.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runner_gets_each_test_once_and_no_ignored_one() {
        let listed = |args: &[&str]| list(args.iter().map(ToString::to_string), &["features", "mistakes"]);
        assert_eq!(
            listed(&["--list", "--format", "terse"]).as_deref(),
            Some("features: test\nmistakes: test\n")
        );
        assert_eq!(listed(&["--list", "--format", "terse", "--ignored"]).as_deref(), Some(""));
        assert_eq!(listed(&["--exact", "features"]), None);
        assert_eq!(listed(&[]), None);
    }
}
