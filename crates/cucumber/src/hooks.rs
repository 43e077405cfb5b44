//! The ends of a scenario and of the suite.

use std::io::{self, Write as _};
use std::pin::Pin;
use std::process::ExitCode;

use cucumber::event::{ScenarioFinished, StepError};
use cucumber::gherkin::{Feature, Rule, Scenario};
use cucumber::writer::Stats;
use watchkeeper::group::ObservationGroup;

use crate::error::is_broken;
use crate::observers::stop;
use crate::{Observed, Unfinished, basis};

/// The `after` hook of a World that observes: stops the scenario's own observers, awaited, and fails the scenario
/// for invariants that did not hold.
///
/// A violation fails the scenario even if a step expected that error and passed. A violation that the failed step
/// reports is not reported twice. After a failed step, invariants that were never judged are left out. Cucumber
/// has one `after` hook: to do more, call this from your own, before the observed nodes go down; the World itself is
/// dropped later.
///
/// # Panics
///
/// With the reports of the invariants: that is how a hook fails.
#[must_use = "the observers stop when it is awaited"]
pub fn after<'a, W: Observed>(
    feature: &'a Feature,
    _: Option<&'a Rule>,
    scenario: &'a Scenario,
    finished: &'a ScenarioFinished,
    world: Option<&'a mut W>,
) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
    Box::pin(async move {
        basis::scenario(feature, scenario);
        let Some(world) = world else { return };
        let Err(mut unfinished) = world.observers().finish().await else { return };
        if !matches!(finished, ScenarioFinished::StepPassed) {
            let reported = panic_text(finished);
            // A scenario that was cut short may not have judged its invariants.
            unfinished.unheld.retain(|unmet| is_broken(unmet) && !reported.contains(&unmet.to_string()));
        }
        if let Err(unfinished) = unfinished.into_result() {
            panic!("{unfinished}");
        }
    })
}

/// The panic of the failed step.
fn panic_text(finished: &ScenarioFinished) -> &str {
    let ScenarioFinished::StepFailed(_, _, StepError::Panic(panic)) = finished else { return "" };
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default()
}

/// Ends a run, and returns the exit code of the process.
///
/// The run fails if a step, a hook or the parser has failed; if no step has passed, because no feature was found or all
/// scenarios were filtered out; and if a scenario without the [`after`] hook was dropped with a violated invariant. The
/// reason is printed on standard error.
///
/// It prints on standard output what the run rests on: features, scenarios and steps, how many times steps and
/// invariants checked observers, which sources have answered a probe of a scenario, and which observers had no sources.
/// That counts all scenarios of the process since the previous call.
///
/// # Examples
///
/// ```no_run
/// use std::process::ExitCode;
///
/// use cucumber::World as _;
/// use watchkeeper_cucumber::{Observed, Observers, after, finish_run, with_steps};
/// # #[derive(Debug, Default, cucumber::World)]
/// # struct World { observers: Observers }
/// # impl Observed for World {
/// #     fn observers(&mut self) -> &mut Observers { &mut self.observers }
/// # }
///
/// #[tokio::main]
/// async fn main() -> ExitCode {
///     let run = World::cucumber().steps(with_steps(World::collection())).after(after).fail_on_skipped();
///     finish_run(&run.run("tests/features").await)
/// }
/// ```
pub fn finish_run<W, S: Stats<W>>(writer: &S) -> ExitCode {
    let basis = basis::take();
    let (passed, skipped) = (writer.passed_steps(), writer.skipped_steps());
    if passed == 0 && !writer.execution_has_failed() {
        refuse(&format!(
            "no step has passed ({skipped} skipped): this run proves nothing. Is the path that of the features, and \
             does a filter (`--name`, `--tags`) leave any scenario?"
        ));
        return ExitCode::FAILURE;
    }
    let _ = writeln!(io::stdout(), "{}", basis.line(passed, skipped));
    if basis.unreported > 0 {
        refuse(
            "background invariants were violated in scenarios that no hook has ended: let the run call `.after(after)`",
        );
        return ExitCode::FAILURE;
    }
    if writer.execution_has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn refuse(why: &str) {
    // If standard error is closed, the exit code still reports the failure.
    let _ = writeln!(io::stderr(), "{why}");
}

/// Ends a run whose scenarios share observers: stops and awaits them, and returns the exit code of the process.
///
/// The run fails as in [`finish_run`], and if an observer left code running that blocks its thread; its name is printed
/// on standard error.
///
/// # Examples
///
/// ```no_run
/// use std::process::ExitCode;
/// use std::sync::LazyLock;
///
/// use cucumber::World as _;
/// use watchkeeper::group::ObservationGroup;
/// use watchkeeper_cucumber::{Observed, Observers, after, finish_suite, with_steps};
///
/// static SUITE: LazyLock<ObservationGroup> = LazyLock::new(ObservationGroup::new);
///
/// #[derive(Debug, cucumber::World)]
/// #[world(init = Self::new)]
/// struct World {
///     observers: Observers,
/// }
///
/// impl World {
///     fn new() -> Self {
///         Self { observers: Observers::sharing(&SUITE) }
///     }
/// }
/// # impl Observed for World {
/// #     fn observers(&mut self) -> &mut Observers { &mut self.observers }
/// # }
///
/// #[tokio::main]
/// async fn main() -> ExitCode {
///     // Start the nodes, and SUITE.add(..) their observers; then:
///     let run = World::cucumber().steps(with_steps(World::collection())).after(after).fail_on_skipped();
///     let writer = run.run("tests/features").await;
///     finish_suite(&SUITE, &writer).await
/// }
/// ```
pub async fn finish_suite<W, S: Stats<W>>(suite: &ObservationGroup, writer: &S) -> ExitCode {
    let detached = stop(suite).await;
    if !detached.is_empty() {
        let unfinished = Unfinished { detached: detached.clone(), ..Unfinished::default() };
        refuse(&unfinished.to_string());
    }
    let exit = finish_run(writer);
    if detached.is_empty() { exit } else { ExitCode::FAILURE }
}
