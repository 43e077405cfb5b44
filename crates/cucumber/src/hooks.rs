//! The ends of a scenario and of the suite.

use std::pin::Pin;
use std::process::ExitCode;

use cucumber::event::ScenarioFinished;
use cucumber::gherkin::{Feature, Rule, Scenario};
use cucumber::writer::Stats;
use watchkeeper::ObservationGroup;

use crate::Observed;
use crate::error::is_broken;
use crate::observers::stop;

/// The `after` hook of a World that observes: stops the scenario's own observers, awaited, and fails the scenario
/// for invariants that did not hold.
///
/// After a step that failed, only violations are told. Cucumber has one `after` hook: to do more, call this from
/// your own. It must come before the nodes go that are observed; the World itself is dropped later.
///
/// # Panics
///
/// With the reports of the invariants: that is how a hook fails.
#[must_use = "the observers stop when it is awaited"]
pub fn after<'a, W: Observed>(
    _: &'a Feature,
    _: Option<&'a Rule>,
    _: &'a Scenario,
    finished: &'a ScenarioFinished,
    world: Option<&'a mut W>,
) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
    Box::pin(async move {
        let Some(world) = world else { return };
        let Err(mut unfinished) = world.observers().finish().await else { return };
        if !matches!(finished, ScenarioFinished::StepPassed) {
            // What was cut short need not have been judged.
            unfinished.unheld.retain(is_broken);
        }
        assert!(unfinished.unheld.is_empty() && unfinished.detached.is_empty(), "{unfinished}");
    })
}

/// Ends a run whose scenarios share observers: stops them, awaited, and says how the process is to exit.
///
/// It fails if a step, a hook or the parser has failed, or if an observer left code behind that blocks its thread;
/// that one is named on standard error.
///
/// # Examples
///
/// ```no_run
/// use std::process::ExitCode;
/// use std::sync::LazyLock;
///
/// use cucumber::World as _;
/// use watchkeeper::ObservationGroup;
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
///     // Start what is to be observed, and SUITE.add(..) its observers; then:
///     let run = World::cucumber().steps(with_steps(World::collection())).after(after).fail_on_skipped();
///     let writer = run.run("tests/features").await;
///     finish_suite(&SUITE, &writer).await
/// }
/// ```
pub async fn finish_suite<W, S: Stats<W>>(suite: &ObservationGroup, writer: &S) -> ExitCode {
    let detached = stop(suite).await;
    for name in &detached {
        eprintln!("the observer {name:?} was stopped and left code behind that blocks its thread");
    }
    if writer.execution_has_failed() || !detached.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
