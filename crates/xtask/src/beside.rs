//! Steps that mostly wait, beside those that build.

use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::shell;
use crate::steps::Step;
use crate::verdict::Verdict;

/// Steps that run one after the other in processes of their own.
#[derive(Debug)]
pub(crate) struct Beside {
    thread: JoinHandle<Vec<Ended>>,
}

/// How one of them ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) step: &'static Step,
    pub(crate) verdict: Verdict,
    pub(crate) took: Duration,
    /// All that it printed.
    pub(crate) output: String,
}

impl Beside {
    /// Starts the first of `steps`, whose tools are here.
    pub(crate) fn start(steps: Vec<&'static Step>) -> Self {
        Self { thread: thread::spawn(move || steps.into_iter().map(run).collect()) }
    }

    /// Waits for the last of them.
    pub(crate) fn join(self) -> Result<Vec<Ended>, String> {
        self.thread.join().map_err(|_| "the thread of the steps beside has panicked".to_owned())
    }
}

/// Where the output of a step is while it runs.
pub(crate) fn output_of(step: &str) -> PathBuf {
    PathBuf::from(format!("target/beside/{step}.log"))
}

fn run(step: &'static Step) -> Ended {
    let started = Instant::now();
    let line = format!("cargo --locked xtask test --only {}", step.name);
    let (verdict, output) = match shell::capture(&line, &output_of(step.name)) {
        Ok((has_succeeded, output)) => (verdict(step, has_succeeded, &output), output),
        Err(error) => (Verdict::Failed(error), String::new()),
    };
    Ended { step, verdict, took: started.elapsed(), output }
}

/// What the process says of its one step.
fn verdict(step: &Step, has_succeeded: bool, output: &str) -> Verdict {
    let note = |mark: &str| output.lines().rev().find_map(|line| line.strip_prefix(mark)).map(str::to_owned);
    match (has_succeeded, note("skipped: ")) {
        (true, Some(why)) => Verdict::Skipped(why),
        (true, None) => Verdict::Passed,
        (false, _) => {
            Verdict::Failed(note("FAILED: ").unwrap_or_else(|| format!("{} did not pass", step.name)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::Work;

    static STEP: Step = Step { name: "pods", why: "", needs: &[], work: Work::Line("true") };

    #[test]
    fn the_verdict_is_that_of_the_process() {
        let failed = |note: &str| Verdict::Failed(note.to_owned());
        let cases = [
            (true, "$ true\n\n1 passed", Verdict::Passed),
            (true, "skipped: no targets\n1 skipped", Verdict::Skipped("no targets".to_owned())),
            (false, "FAILED: `false` ended\n1 failed", failed("`false` ended")),
            (false, "killed", failed("pods did not pass")),
            (false, "skipped: no targets\nFAILED: at the end", failed("at the end")),
        ];
        for (has_succeeded, output, expected) in cases {
            assert_eq!(verdict(&STEP, has_succeeded, output), expected, "{output}");
        }
    }
}
