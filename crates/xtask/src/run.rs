//! Runs steps and says how it went.

use std::fmt;
use std::time::{Duration, Instant};

use crate::beside::{self, Beside, Ended};
use crate::needs::Need;
use crate::shell;
use crate::steps::{BESIDE, BUILT, Step, Work};
use crate::verdict::Verdict;

/// How all of it went. [`Display`](fmt::Display) is the closing table.
#[derive(Debug)]
pub(crate) struct Report {
    rows: Vec<Row>,
    took: Duration,
}

#[derive(Debug)]
struct Row {
    step: &'static str,
    verdict: Verdict,
    took: Duration,
}

/// Says what is missing, installs it if asked to, and runs the steps. A failure does not stop the others:
/// one run reports everything that is wrong.
///
/// Where the step [`BUILT`] is one of them, the steps of [`BESIDE`] run beside those after it.
pub(crate) fn run(steps: &[&'static Step], install: bool) -> Report {
    let started = Instant::now();
    let missing = provide(steps, install);
    let is_beside = |step: &&'static Step| BESIDE.contains(&step.name) && lacking(step, &missing).is_none();
    let is_built = steps.iter().any(|step| step.name == BUILT);
    let (mut waiting, others): (Vec<_>, Vec<_>) =
        steps.iter().copied().partition(|step| is_built && is_beside(step));
    let mut running = None;
    let mut rows: Vec<Row> = Vec::new();
    for step in others {
        rows.push(run_here(step, &missing));
        if step.name == BUILT && !waiting.is_empty() {
            let names: Vec<&str> = waiting.iter().map(|step| step.name).collect();
            let output = beside::output_of("STEP");
            println!(
                "\nBeside the steps that follow, printed after them and meanwhile in {}: {}",
                output.display(),
                names.join(", ")
            );
            running = Some(Beside::start(std::mem::take(&mut waiting)));
            // The tests beside have limits of seconds, what follows here has minutes. On Linux this lowers the priority
            // of this thread, and of what it starts from now on.
            shell::succeeds(&format!("renice -n 5 -p {}", std::process::id()));
        }
    }
    match running.map(Beside::join).transpose() {
        Ok(ended) => rows.extend(ended.into_iter().flatten().map(printed)),
        Err(error) => {
            rows.push(Row { step: "beside", verdict: Verdict::Failed(error), took: started.elapsed() });
        }
    }
    rows.sort_by_key(|row| steps.iter().position(|step| step.name == row.step));
    Report { rows, took: started.elapsed() }
}

fn run_here(step: &'static Step, missing: &[&'static Need]) -> Row {
    println!("\n==> {}: {}", step.name, step.why);
    let started = Instant::now();
    let verdict = verdict_of(step, missing);
    match &verdict {
        Verdict::Passed => {}
        Verdict::Skipped(why) => println!("skipped: {why}"),
        Verdict::Failed(what) => println!("FAILED: {what}"),
        Verdict::LeftOut(why) => println!("LEFT OUT: {why}"),
    }
    Row { step: step.name, verdict, took: started.elapsed() }
}

/// Prints what a step printed that ran beside others.
fn printed(Ended { step, verdict, took, output }: Ended) -> Row {
    println!("\n==> {} (beside the others)\n{output}", step.name);
    Row { step: step.name, verdict, took }
}

/// Names the tools that the steps need and that are not here, installs them if asked to, and returns those
/// still missing.
fn provide(steps: &[&'static Step], install: bool) -> Vec<&'static Need> {
    let mut needs: Vec<&'static Need> = Vec::new();
    // In the order of the rows: one that is installed by another comes after it.
    for need in steps.iter().flat_map(|step| step.needs) {
        if needs.iter().all(|other| other.name != need.name) && !need.is_present() {
            needs.push(need);
        }
    }
    if needs.is_empty() {
        println!("Every tool that the steps need is here.");
    }
    for need in &needs {
        println!("Missing: {}. Install it with: {}", need.name, need.how_to_install());
    }
    if install {
        needs.retain(|need| match need.install() {
            Ok(()) => false,
            Err(error) => {
                println!("{} could not be installed: {error}", need.name);
                true
            }
        });
    }
    needs
}

/// A tool that the step needs and that is missing.
fn lacking(step: &Step, missing: &[&'static Need]) -> Option<&'static Need> {
    step.needs.iter().copied().find(|need| missing.iter().any(|other| other.name == need.name))
}

fn verdict_of(step: &Step, missing: &[&'static Need]) -> Verdict {
    if let Some(need) = lacking(step, missing) {
        return Verdict::LeftOut(format!(
            "{} is missing; install it with: {}",
            need.name,
            need.how_to_install()
        ));
    }
    let done = match step.work {
        Work::Line(line) => shell::run(line).map(|()| Verdict::Passed),
        Work::Check(check) => check(),
    };
    done.unwrap_or_else(Verdict::Failed)
}

impl Report {
    /// Whether nothing failed and nothing was left out.
    pub(crate) fn is_good(&self) -> bool {
        self.rows.iter().all(|row| row.verdict.is_good())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<12}{:<9}{:>8}", "step", "result", "seconds")?;
        for Row { step, verdict, took } in &self.rows {
            write!(f, "{step:<12}{:<9}{:>8.1}", verdict.word(), took.as_secs_f64())?;
            if let Some(line) = verdict.note().and_then(|note| note.lines().next()) {
                write!(f, "  {line}")?;
            }
            writeln!(f)?;
        }

        let count = |word: &str| self.rows.iter().filter(|row| row.verdict.word() == word).count();
        let left_out = count("LEFT OUT");
        write!(
            f,
            "\n{} passed, {} skipped, {} failed, {left_out} left out; {} s in all.",
            count("passed"),
            count("skipped"),
            count("FAILED"),
            self.took.as_secs()
        )?;
        if left_out > 0 {
            write!(f, "\nInstall what is missing and run all: cargo xtask test --install")?;
        }
        if let Some(row) = self.rows.iter().find(|row| !row.verdict.is_good()) {
            write!(f, "\nRun the first that did not pass alone: cargo xtask test --only {}", row.step)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static HERE: Need = Need { name: "here", probe: "true", install: &["false"] };
    static NOWHERE: Need = Need { name: "nowhere", probe: "false", install: &["echo install nowhere"] };

    static PASSES: Step = Step { name: "passes", why: "true", needs: &[&HERE], work: Work::Line("true") };
    static FAILS: Step = Step { name: "fails", why: "false", needs: &[], work: Work::Line("false") };
    static LACKS: Step =
        Step { name: "lacks", why: "true", needs: &[&HERE, &NOWHERE], work: Work::Line("true") };
    static SKIPS: Step = Step {
        name: "skips",
        why: "nothing",
        needs: &[],
        work: Work::Check(|| Ok(Verdict::Skipped("nothing to check".to_owned()))),
    };
    static BREAKS: Step = Step {
        name: "breaks",
        why: "nothing",
        needs: &[],
        work: Work::Check(|| Err("the first line\nthe second line".to_owned())),
    };

    fn verdicts(report: &Report) -> Vec<(&str, &Verdict)> {
        report.rows.iter().map(|row| (row.step, &row.verdict)).collect()
    }

    #[test]
    fn steps_that_pass_or_have_nothing_to_check_are_good() {
        let report = run(&[&PASSES, &SKIPS], false);
        let skipped = Verdict::Skipped("nothing to check".to_owned());
        assert_eq!(verdicts(&report), [("passes", &Verdict::Passed), ("skips", &skipped)]);
        assert!(report.is_good());
    }

    #[test]
    fn a_failure_is_not_good_and_the_steps_after_it_still_run() {
        let report = run(&[&FAILS, &PASSES], false);
        let failed = Verdict::Failed("`false` ended with exit status: 1".to_owned());
        assert_eq!(verdicts(&report), [("fails", &failed), ("passes", &Verdict::Passed)]);
        assert!(!report.is_good());
    }

    #[test]
    fn a_step_without_its_tool_is_left_out_and_that_is_not_good() {
        let report = run(&[&PASSES, &LACKS], false);
        let left_out =
            Verdict::LeftOut("nowhere is missing; install it with: echo install nowhere".to_owned());
        assert_eq!(verdicts(&report), [("passes", &Verdict::Passed), ("lacks", &left_out)]);
        assert!(!report.is_good());
    }

    #[test]
    fn a_tool_is_installed_only_when_asked_for_and_missing() {
        assert_eq!(provide(&[&LACKS], false).len(), 1);

        // HERE would fail to install, but it is here; NOWHERE installs, yet its probe never succeeds.
        let still = provide(&[&PASSES, &LACKS], true);
        assert_eq!(still.iter().map(|need| need.name).collect::<Vec<_>>(), ["nowhere"]);
        assert!(!run(&[&LACKS], true).is_good());
    }

    #[test]
    fn the_closing_table_names_every_step_and_what_to_do_next() {
        let row = |step: &Step, seconds, verdict| Row {
            step: step.name,
            verdict,
            took: Duration::from_secs_f64(seconds),
        };
        let report = Report {
            rows: vec![
                row(&PASSES, 1.2, Verdict::Passed),
                row(&BREAKS, 12.2, Verdict::Failed("the first line\nthe second line".to_owned())),
                row(&LACKS, 0.2, Verdict::LeftOut("nowhere is missing".to_owned())),
            ],
            took: Duration::from_secs(15),
        };
        let table = "\
step        result    seconds
passes      passed        1.2
breaks      FAILED       12.2  the first line
lacks       LEFT OUT      0.2  nowhere is missing

1 passed, 0 skipped, 1 failed, 1 left out; 15 s in all.
Install what is missing and run all: cargo xtask test --install
Run the first that did not pass alone: cargo xtask test --only breaks";
        assert_eq!(report.to_string(), table);
    }

    #[test]
    fn a_check_that_breaks_is_a_failure() {
        let report = run(&[&BREAKS], false);
        let failed = Verdict::Failed("the first line\nthe second line".to_owned());
        assert_eq!(verdicts(&report), [("breaks", &failed)]);
    }
}
