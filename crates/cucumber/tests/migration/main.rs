//! Both halves of the README's migration run, and the README quotes them.
#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "only tests call the nodes; cucumber passes captures by value"
)]

mod nodes;

use cucumber::World as _;
use cucumber::writer::Stats as _;
use watchkeeper_cucumber::{after, with_steps};

const FEATURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/migration");
const README: &str = include_str!("../../README.md");

mod polling {
    use std::time::Duration;

    use cucumber::{given, then, when};
    use tokio::time::{Instant, sleep, timeout};

    use crate::nodes::{Node, agreed};

    #[derive(Debug, Default, cucumber::World)]
    pub(crate) struct World {
        nodes: Vec<Node>,
    }

    #[given(regex = r"^three nodes that follow (\w+)$")]
    fn three(world: &mut World, leader: String) {
        world.nodes = Node::three(&leader);
    }

    #[when(regex = r"^(\w+) takes over$")]
    fn takes_over(world: &mut World, leader: String) {
        Node::elect(&world.nodes, &leader);
    }

    include!("before.rs");
}

mod observing {
    use std::error::Error;
    use std::time::Duration;

    use cucumber::{given, when};
    use serde_json::json;
    use watchkeeper::{ObservedSource, observe};
    use watchkeeper_cucumber::{Observed, Observers};

    use crate::nodes::{Node, agreed};

    #[derive(Debug, Default, cucumber::World)]
    pub(crate) struct World {
        nodes: Vec<Node>,
        observers: Observers,
    }

    impl Observed for World {
        fn observers(&mut self) -> &mut Observers {
            &mut self.observers
        }
    }

    #[given(regex = r"^three nodes that follow (\w+)$")]
    fn three(world: &mut World, leader: String) {
        world.nodes = Node::three(&leader);
    }

    #[when(regex = r"^(\w+) takes over$")]
    fn takes_over(world: &mut World, leader: String) {
        Node::elect(&world.nodes, &leader);
    }

    include!("after.rs");
}

#[tokio::test(start_paused = true)]
async fn the_step_that_polls_works() {
    let run = polling::World::cucumber().fail_on_skipped().with_default_cli();
    let writer = run.run(format!("{FEATURES}/before.feature")).await;
    assert!(!writer.execution_has_failed() && writer.passed_steps() == 3);
}

#[tokio::test(start_paused = true)]
async fn the_step_that_observes_works() {
    let run = observing::World::cucumber().steps(with_steps(observing::World::collection())).after(after);
    let run = run.fail_on_skipped().with_default_cli();
    let writer = run.run(format!("{FEATURES}/after.feature")).await;
    assert!(!writer.execution_has_failed() && writer.passed_steps() == 4);
}

#[test]
fn the_readme_shows_what_runs_and_counts_its_lines() {
    for (name, code) in [("before", include_str!("before.rs")), ("after", include_str!("after.rs"))] {
        assert!(README.contains(code), "{name}.rs is not in the README as it is");
        let lines = code.lines().count();
        assert!(README.contains(&format!("{lines} lines")), "{name}.rs has {lines} lines");
    }
    for feature in [include_str!("before.feature"), include_str!("after.feature")] {
        let last = feature.lines().last().unwrap().trim();
        assert!(README.contains(last), "{last:?} is not in the README");
    }
}
