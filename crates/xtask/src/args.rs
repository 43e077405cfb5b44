//! The command line.

use crate::steps::{self, STEPS, Step};

pub(crate) const USAGE: &str = "\
usage: cargo xtask test [--install] [--only STEP]... [--list]
  --install    install what is missing, then run; without it, what is missing is named and left out
  --only STEP  run this step alone; may be given several times
  --list       show the steps";

/// What was asked for.
#[derive(Debug)]
pub(crate) enum Request {
    Help,
    List,
    /// Run these steps, which are in the order of the table.
    Test {
        steps: Vec<&'static Step>,
        install: bool,
    },
}

/// Reads the words behind `cargo xtask`; an error is one line that names what is known.
pub(crate) fn parse(words: &[String]) -> Result<Request, String> {
    let mut words = words.iter().map(String::as_str);
    match words.next() {
        Some("test") => {}
        Some("help" | "--help" | "-h") => return Ok(Request::Help),
        Some(other) => return Err(format!("unknown command `{other}`; the commands are: test, help")),
        None => return Err("no command given; the commands are: test, help".to_owned()),
    }

    let mut install = false;
    let mut list = false;
    let mut only = Vec::new();
    while let Some(word) = words.next() {
        match word {
            "--install" => install = true,
            "--list" => list = true,
            "--only" => only.push(named_step(words.next())?),
            "--help" | "-h" => return Ok(Request::Help),
            other => {
                return Err(format!("unknown flag `{other}`; the flags are: --install, --only STEP, --list"));
            }
        }
    }
    if list {
        return Ok(Request::List);
    }
    let chosen = |step: &Step| only.is_empty() || only.contains(&step.name);
    Ok(Request::Test { steps: STEPS.iter().filter(|step| chosen(step)).collect(), install })
}

fn named_step(word: Option<&str>) -> Result<&'static str, String> {
    let word = word.ok_or_else(|| format!("`--only` needs a step; the steps are: {}", steps::names()))?;
    STEPS
        .iter()
        .map(|step| step.name)
        .find(|name| *name == word)
        .ok_or_else(|| format!("unknown step `{word}`; the steps are: {}", steps::names()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Request, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&words)
    }

    fn test_of(line: &str) -> (Vec<&'static str>, bool) {
        match parsed(line) {
            Ok(Request::Test { steps, install }) => (steps.iter().map(|step| step.name).collect(), install),
            other => panic!("`{line}` was read as {other:?}"),
        }
    }

    #[test]
    fn test_alone_runs_every_step_and_installs_nothing() {
        let (steps, install) = test_of("test");
        assert_eq!(steps.len(), STEPS.len());
        assert!(!install);
        assert!(test_of("test --install").1);
    }

    #[test]
    fn only_keeps_the_order_of_the_table() {
        assert_eq!(test_of("test --only doctest --only fmt").0, ["fmt", "doctest"]);
        assert_eq!(test_of("test --only fmt --install"), (vec!["fmt"], true));
    }

    #[test]
    fn help_and_list_run_nothing() {
        for line in ["help", "--help", "test --help", "test --only fmt -h"] {
            assert!(matches!(parsed(line), Ok(Request::Help)), "{line}");
        }
        assert!(matches!(parsed("test --install --list"), Ok(Request::List)));
    }

    #[test]
    fn a_wrong_word_is_answered_by_one_line_with_the_known_ones() {
        let cases = [
            ("", "no command given", "test, help"),
            ("tets", "unknown command `tets`", "test, help"),
            ("test --fast", "unknown flag `--fast`", "--install, --only STEP, --list"),
            ("test clippy", "unknown flag `clippy`", "--install, --only STEP, --list"),
            ("test --only", "`--only` needs a step", "fmt, clippy, "),
            ("test --only lint", "unknown step `lint`", "fmt, clippy, "),
        ];
        for (line, wrong, known) in cases {
            let message = parsed(line).expect_err(line);
            assert!(message.contains(wrong) && message.contains(known), "`{line}`: {message}");
            assert_eq!(message.lines().count(), 1, "{message}");
        }
    }
}
