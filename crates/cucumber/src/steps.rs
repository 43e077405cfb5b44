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

/// What stands between quotes; a quote in it is written `\"`.
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
        ("is running", |world, said| judged(ready(is_running(world.observers(), &StepCaptures::of(said))))),
        ("is paused", |world, said| judged(controls::pause(world.observers(), StepCaptures::of(said)))),
        ("is resumed", |world, said| judged(controls::resume(world.observers(), StepCaptures::of(said)))),
        ("is polled now", |world, said| {
            judged(controls::poll_now(world.observers(), StepCaptures::of(said)))
        }),
        ("is stopped", |world, said| judged(controls::stop(world.observers(), StepCaptures::of(said)))),
        ("is fresh within (.+)", |world, said| judged(is_fresh(world.observers(), StepCaptures::of(said)))),
        ("stays fresh for (.+)", |world, said| {
            judged(stays_fresh(world.observers(), StepCaptures::of(said)))
        }),
        ("becomes stale within (.+)", |world, said| {
            judged(becomes_stale(world.observers(), StepCaptures::of(said)))
        }),
        ("reaches state \"?([^\"]+?)\"? within (.+)", |world, said| {
            judged(reaches(world.observers(), StepCaptures::of(said)))
        }),
        (r"has (\d+) sources? within (.+)", |world, said| {
            judged(has_sources(world.observers(), StepCaptures::of(said)))
        }),
        ("source {NAME} is (.+?) within (.+)", |world, said| {
            judged(source_is(world.observers(), StepCaptures::of(said)))
        }),
        ("has recorded no failure", |world, said| {
            judged(ready(has_recorded_no_failure(world.observers(), &StepCaptures::of(said))))
        }),
        (r"has seen at least (\d+) events? within (.+)", |world, said| {
            judged(has_seen_events(world.observers(), StepCaptures::of(said)))
        }),
        ("snapshot at {NAME} becomes \"(.*)\" within ([^\"]+)", |world, said| {
            judged(snapshots::becomes(world.observers(), StepCaptures::of(said)))
        }),
        ("snapshot at {NAME} is not \"(.*)\" within ([^\"]+)", |world, said| {
            judged(snapshots::is_not(world.observers(), StepCaptures::of(said)))
        }),
        ("snapshot at {NAME} changes within (.+)", |world, said| {
            judged(snapshots::changes(world.observers(), StepCaptures::of(said)))
        }),
        ("snapshot at {NAME} stays \"(.*)\" for ([^\"]+)", |world, said| {
            judged(snapshots::stays(world.observers(), StepCaptures::of(said)))
        }),
    ]
}

/// Fails the step in the one way that cucumber has.
fn judged<'a>(
    step: impl Future<Output = Result<(), StepError>> + 'a,
) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
    Box::pin(async move {
        if let Err(error) = step.await {
            panic!("{error}");
        }
    })
}
