//! The command line.

use crate::fuzz::{TARGETS, Target};
use crate::steps::{self, STEPS, Step};

pub(crate) const USAGE: &str = "\
usage: cargo xtask test [--install] [--only STEP]... [--list]
       cargo xtask test --k8s [--image IMAGE]
       cargo xtask mutants [--install]
       cargo xtask fuzz [TARGET] [-- ARGS]
  test         run the steps that decide whether a change lands
  mutants      flip the code line by line and name the flips that no test notices; takes hours, and no step does it
  fuzz         give a fuzz target inputs until it fails or is stopped; ARGS are libFuzzer's, such as
               -max_total_time=300; no step does it. The targets are recovery, of the journal, and config, event, events
               and sse_id, of observerd
  --install    install what is missing, then run; without it, what is missing is named and left out
  --only STEP  run this step alone; may be given several times
  --list       show the steps
  --k8s        run the scenario on the Kubernetes cluster of the kubeconfig, and nothing else
  --image      the image of the nodes, one that the cluster can get";

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
    /// Flip the code and see which test notices.
    Mutants {
        install: bool,
    },
    /// Run a fuzz target with these arguments of libFuzzer.
    Fuzz {
        target: Target,
        args: Vec<String>,
    },
    /// Run the scenario on a Kubernetes cluster, with nodes of this image.
    K8s {
        image: Option<String>,
    },
}

const COMMANDS: &str = "test, mutants, fuzz, help";
const FLAGS: &str = "--install, --only STEP, --list, --k8s, --image IMAGE";

/// Reads the words behind `cargo xtask`; an error is one line that names what is known.
pub(crate) fn parse(words: &[String]) -> Result<Request, String> {
    let mut words = words.iter().map(String::as_str);
    match words.next() {
        Some("test") => test(words),
        Some("mutants") => mutants(words),
        Some("fuzz") => fuzz(words),
        Some("help" | "--help" | "-h") => Ok(Request::Help),
        Some(other) => Err(format!("unknown command `{other}`; the commands are: {COMMANDS}")),
        None => Err(format!("no command given; the commands are: {COMMANDS}")),
    }
}

fn mutants<'a>(words: impl Iterator<Item = &'a str>) -> Result<Request, String> {
    let mut install = false;
    for word in words {
        match word {
            "--install" => install = true,
            "--help" | "-h" => return Ok(Request::Help),
            other => return Err(format!("unknown flag `{other}` of `mutants`; the flag is: --install")),
        }
    }
    Ok(Request::Mutants { install })
}

fn fuzz<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Request, String> {
    let mut target = None;
    while let Some(word) = words.next() {
        match (word, target) {
            ("--help" | "-h", _) => return Ok(Request::Help),
            ("--", _) => {
                let args = words.map(str::to_owned).collect();
                return Ok(Request::Fuzz { target: target.unwrap_or(TARGETS[0]), args });
            }
            (word, None) if !word.starts_with('-') => {
                let known = TARGETS.into_iter().find(|target| target.name == word);
                let names = || TARGETS.map(|target| target.name).join(", ");
                let unknown = || format!("unknown target `{word}`; the targets are: {}", names());
                target = Some(known.ok_or_else(unknown)?);
            }
            (other, _) => {
                return Err(format!("unexpected `{other}` of `fuzz`: it has one TARGET, then `-- ARGS`"));
            }
        }
    }
    Ok(Request::Fuzz { target: target.unwrap_or(TARGETS[0]), args: Vec::new() })
}

fn test<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Request, String> {
    let mut install = false;
    let mut list = false;
    let mut only = Vec::new();
    let mut k8s = false;
    let mut image = None;
    while let Some(word) = words.next() {
        match word {
            "--install" => install = true,
            "--list" => list = true,
            "--only" => only.push(named_step(words.next())?),
            "--k8s" => k8s = true,
            "--image" => {
                let word =
                    words.next().ok_or("`--image` needs an image, such as registry.example/openraft_kv:1")?;
                image = Some(word.to_owned());
            }
            "--help" | "-h" => return Ok(Request::Help),
            other => return Err(format!("unknown flag `{other}`; the flags are: {FLAGS}")),
        }
    }
    if list {
        return Ok(Request::List);
    }
    match (k8s, &image) {
        (true, _) if install || !only.is_empty() => {
            return Err(
                "`--k8s` goes with `--image IMAGE` alone: it runs no step, and installs nothing".to_owned()
            );
        }
        (true, _) => return Ok(Request::K8s { image }),
        (false, Some(_)) => return Err("`--image` is for `--k8s`: give both".to_owned()),
        (false, None) => {}
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

    #[test]
    fn a_cluster_is_tested_with_an_image_or_the_usual_one() {
        let image = |line| match parsed(line) {
            Ok(Request::K8s { image }) => image,
            other => panic!("`{line}` was read as {other:?}"),
        };
        assert_eq!(image("test --k8s"), None);
        assert_eq!(image("test --image kv:7 --k8s").as_deref(), Some("kv:7"));
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
    fn mutants_is_a_command_of_its_own() {
        for (line, install) in [("mutants", false), ("mutants --install", true)] {
            match parsed(line) {
                Ok(Request::Mutants { install: read }) => assert_eq!(read, install, "{line}"),
                other => panic!("`{line}` was read as {other:?}"),
            }
        }
    }

    #[test]
    fn fuzz_has_a_target_and_arguments_of_libfuzzer() {
        for (line, name, expected) in [
            ("fuzz", "recovery", vec![]),
            ("fuzz recovery", "recovery", vec![]),
            ("fuzz sse_id", "sse_id", vec![]),
            ("fuzz -- -runs=1", "recovery", vec!["-runs=1"]),
            ("fuzz event -- -runs=1 -- x", "event", vec!["-runs=1", "--", "x"]),
        ] {
            match parsed(line) {
                Ok(Request::Fuzz { target, args }) => assert_eq!(
                    (target.name, args),
                    (name, expected.iter().map(ToString::to_string).collect()),
                    "{line}"
                ),
                other => panic!("`{line}` was read as {other:?}"),
            }
        }
    }

    #[test]
    fn help_and_list_run_nothing() {
        for line in ["help", "--help", "test --help", "test --only fmt -h", "mutants -h", "fuzz -h"] {
            assert!(matches!(parsed(line), Ok(Request::Help)), "{line}");
        }
        assert!(matches!(parsed("test --install --list"), Ok(Request::List)));
    }

    #[test]
    fn a_wrong_word_is_answered_by_one_line_with_the_known_ones() {
        let cases = [
            ("", "no command given", "test, mutants, fuzz, help"),
            ("tets", "unknown command `tets`", "test, mutants, fuzz, help"),
            (
                "fuzz line",
                "unknown target `line`",
                "the targets are: recovery, config, event, events, sse_id",
            ),
            ("fuzz recovery other", "unexpected `other`", "one TARGET, then `-- ARGS`"),
            ("fuzz -runs=1", "unexpected `-runs=1`", "one TARGET, then `-- ARGS`"),
            ("mutants --only fmt", "unknown flag `--only` of `mutants`", "--install"),
            ("test --fast", "unknown flag `--fast`", "--install, --only STEP, --list, --k8s"),
            ("test clippy", "unknown flag `clippy`", "--install, --only STEP, --list, --k8s"),
            ("test --k8s --only fmt", "`--k8s` goes with `--image IMAGE` alone", "runs no step"),
            ("test --k8s --install", "`--k8s` goes with `--image IMAGE` alone", "installs nothing"),
            ("test --image kv:7", "`--image` is for `--k8s`", "give both"),
            ("test --k8s --image", "`--image` needs an image", "such as registry.example"),
            ("test --only", "`--only` needs a step", "fmt, words, clippy, "),
            ("test --only lint", "unknown step `lint`", "fmt, words, clippy, "),
        ];
        for (line, wrong, known) in cases {
            let message = parsed(line).expect_err(line);
            assert!(message.contains(wrong) && message.contains(known), "`{line}`: {message}");
            assert_eq!(message.lines().count(), 1, "{message}");
        }
    }
}
