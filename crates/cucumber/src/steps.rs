//! The steps, and where they are added.

use std::future::ready;
use std::pin::Pin;

use cucumber::Step;
use cucumber::step::Collection;
use regex::Regex;

use crate::waits::{
    becomes_stale, has_recorded_no_failure, has_seen_events, has_sources, is_fresh, is_running, reaches,
    source_is, stays_fresh,
};
use crate::words::StepCaptures;
use crate::{Observed, StepError, controls, snapshots};

/// The words between quotes; a quote in them is written `\"`.
const NAME: &str = r#""((?:[^"\\]|\\.)*)""#;

/// Adds the steps of this crate to those of a World, each under Given, When and Then.
///
/// A step that fails panics with the text of its [`StepError`]: a panic is what cucumber reports.
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
/// #[tokio::main(flavor = "current_thread")]
/// async fn main() -> ExitCode {
///     let run = World::cucumber()
///         .steps(with_steps(World::collection()))
///         .after(after)
///         .fail_on_skipped() // a step that is unknown would pass otherwise
///         .run("tests/features");
///     finish_run(&run.await) // a folder without features would pass otherwise
/// }
/// ```
#[must_use]
pub fn with_steps<W: Observed>(own: Collection<W>) -> Collection<W> {
    let add = |steps: Collection<W>, (phrase, step): (&str, Step<W>)| {
        let pattern = format!("^the observer {NAME}(?:'s)? {}$", phrase.replace("{NAME}", NAME));
        let Ok(regex) = Regex::new(&pattern) else { unreachable!("the patterns are constants") };
        steps.given(None, regex.clone(), step).when(None, regex.clone(), step).then(None, regex, step)
    };
    phrases().into_iter().fold(own, add)
}

fn phrases<W: Observed>() -> [(&'static str, Step<W>); 17] {
    [
        ("is running", |world, step| judged(ready(is_running(world.observers(), &StepCaptures::of(step))))),
        ("is paused", |world, step| judged(controls::pause(world.observers(), StepCaptures::of(step)))),
        ("is resumed", |world, step| judged(controls::resume(world.observers(), StepCaptures::of(step)))),
        ("is polled now", |world, step| {
            judged(controls::poll_now(world.observers(), StepCaptures::of(step)))
        }),
        ("is stopped", |world, step| judged(controls::stop(world.observers(), StepCaptures::of(step)))),
        ("is fresh within (.+)", |world, step| judged(is_fresh(world.observers(), StepCaptures::of(step)))),
        ("stays fresh for (.+)", |world, step| {
            judged(stays_fresh(world.observers(), StepCaptures::of(step)))
        }),
        ("becomes stale within (.+)", |world, step| {
            judged(becomes_stale(world.observers(), StepCaptures::of(step)))
        }),
        ("reaches state \"?([^\"]+?)\"? within (.+)", |world, step| {
            judged(reaches(world.observers(), StepCaptures::of(step)))
        }),
        (r"has (\d+) sources? within (.+)", |world, step| {
            judged(has_sources(world.observers(), StepCaptures::of(step)))
        }),
        ("source {NAME} is (.+?) within (.+)", |world, step| {
            judged(source_is(world.observers(), StepCaptures::of(step)))
        }),
        ("has recorded no failure", |world, step| {
            judged(ready(has_recorded_no_failure(world.observers(), &StepCaptures::of(step))))
        }),
        (r"has seen at least (\d+) events? within (.+)", |world, step| {
            judged(has_seen_events(world.observers(), StepCaptures::of(step)))
        }),
        ("snapshot at {NAME} becomes \"(.*)\" within ([^\"]+)", |world, step| {
            judged(snapshots::becomes(world.observers(), StepCaptures::of(step)))
        }),
        ("snapshot at {NAME} is not \"(.*)\" within ([^\"]+)", |world, step| {
            judged(snapshots::is_not(world.observers(), StepCaptures::of(step)))
        }),
        ("snapshot at {NAME} changes within (.+)", |world, step| {
            judged(snapshots::changes(world.observers(), StepCaptures::of(step)))
        }),
        ("snapshot at {NAME} stays \"(.*)\" for ([^\"]+)", |world, step| {
            judged(snapshots::stays(world.observers(), StepCaptures::of(step)))
        }),
    ]
}

/// Panics if the step fails: cucumber has no other way.
fn judged<'a>(
    step: impl Future<Output = Result<(), StepError>> + 'a,
) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
    Box::pin(async move {
        if let Err(error) = step.await {
            panic!("{error}");
        }
    })
}
