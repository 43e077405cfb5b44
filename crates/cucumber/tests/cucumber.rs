//! Every step is met, and nothing is left running.
#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "without a harness this is no test to clippy; cucumber passes captures by value"
)]

mod support;

use std::process::ExitCode;

use cucumber::World as _;
use support::{SUITE, World, on_the_paused_clock, start_suite};
use watchkeeper::runtime::StateKind;
use watchkeeper_cucumber::{after, finish_suite, list_tests, with_steps};

const FEATURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/features");

fn main() -> ExitCode {
    if list_tests(&["cucumber"]) {
        return ExitCode::SUCCESS;
    }
    on_the_paused_clock(async {
        start_suite().await;
        let run = World::cucumber()
            .steps(with_steps(World::collection()))
            .after(|feature, rule, scenario, finished, mut world| {
                Box::pin(async move {
                    let handles = world.as_ref().map(|world| world.handles.clone()).unwrap_or_default();
                    after(feature, rule, scenario, finished, world.as_deref_mut()).await;
                    for handle in handles {
                        assert_eq!(
                            handle.state().kind(),
                            StateKind::Stopped,
                            "the end of a scenario is awaited"
                        );
                    }
                })
            })
            .fail_on_skipped()
            .with_default_cli();
        let writer = run.run(FEATURES).await;

        let states = || SUITE.statuses().into_iter().map(|member| member.state.kind());
        assert!(states().all(|state| state != StateKind::Stopped), "the suite's observers outlive scenarios");
        let exit = finish_suite(&SUITE, &writer).await;
        assert!(states().all(|state| state == StateKind::Stopped), "the end of the suite is awaited");
        exit
    })
}
