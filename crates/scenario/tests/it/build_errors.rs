//! An invalid scenario is refused before anything is deployed.

use std::time::Duration;

use watchkeeper_scenario::{BuildError, Limits, Scenario, ScenarioBuilder};

use crate::common::{Memory, Numbers, nothing, observed, scenario, secs};

#[test]
fn each_mistake_has_its_error() {
    let zero = Duration::ZERO;
    let with = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        scenario().workload("w", nothing).limits(limits)
    };
    let day = 24 * 3600;
    let unnamed = Scenario::<Numbers>::builder("", 1).workload("w", nothing);
    let two_observers = observed(&Memory::default()).workload("w", nothing);
    let two_observers = two_observers.with_observer(
        "numbers",
        |_| crate::common::Watcher::new(&crate::common::Diary::default()),
        crate::common::often(),
    );
    let cases: Vec<(ScenarioBuilder<Numbers>, &str)> = vec![
        (unnamed, "each scenario needs a name: it may not be empty"),
        (scenario().workload("", nothing), "each workload needs a name: it may not be empty"),
        (scenario().expect_wait("", nothing), "each expectation needs a name: it may not be empty"),
        (scenario(), "the scenario has no workload and no expectation: add one of them"),
        (
            scenario().workload("w", nothing).workload("w", nothing),
            r#"there are two workloads called "w": give each its own name"#,
        ),
        (
            scenario().expect_wait("e", nothing).expect_wait_throughout("e", nothing),
            r#"there are two expectations called "e": give each its own name"#,
        ),
        (two_observers, r#"there are two observers called "numbers": give each its own name"#),
        (
            scenario().workload("w", nothing).with_extension(1_u8).with_extension(2_u8),
            "there are two extensions of type u8: wrap one of them in its own type",
        ),
        (
            scenario().endless_workload("w", nothing),
            "all workloads are endless: set with `run_for` how long they run",
        ),
        (
            scenario().workload("w", nothing).run_for(secs(300)),
            "run_for is 300s, and Limits::workloads only 300s: raise the limit above it",
        ),
        (
            scenario().workload("w", nothing).run_for(zero),
            "run_for is 0ns: it must be more than zero and at most 24 h",
        ),
        (
            scenario().workload("w", nothing).cooldown(secs(day + 1)),
            "cooldown is 86401s: it must be more than zero and at most 24 h",
        ),
        (with(|limits| limits.deploy = Duration::ZERO), "Limits::deploy is 0ns"),
        (with(|limits| limits.prepare = Duration::ZERO), "Limits::prepare is 0ns"),
        (with(|limits| limits.start_capture = Duration::ZERO), "Limits::start_capture is 0ns"),
        (with(|limits| limits.workloads = Duration::ZERO), "Limits::workloads is 0ns"),
        (with(|limits| limits.check_interval = Duration::ZERO), "Limits::check_interval is 0ns"),
        (with(|limits| limits.check = Duration::ZERO), "Limits::check is 0ns"),
        (with(|limits| limits.drain = Duration::ZERO), "Limits::drain is 0ns"),
        (with(|limits| limits.evaluate = Duration::ZERO), "Limits::evaluate is 0ns"),
        (with(|limits| limits.cleanup = Duration::MAX), "Limits::cleanup is "),
    ];
    for (builder, expected) in cases {
        let error = builder.build().unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn limits_may_be_a_day_and_a_workload_may_share_its_name_with_an_expectation() {
    let limits = Limits { deploy: secs(24 * 3600), ..Limits::default() };
    let builder = scenario().limits(limits).workload("same", nothing).expect_wait("same", nothing);
    assert!(builder.build().is_ok());
}

#[test]
fn errors_can_be_matched() {
    let error = scenario().workload("w", nothing).cooldown(Duration::ZERO).build().unwrap_err();
    assert_eq!(error, BuildError::InvalidDuration { field: "cooldown", value: Duration::ZERO });
}
