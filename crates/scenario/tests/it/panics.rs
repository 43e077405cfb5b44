//! App code may panic anywhere: it is a failure with its message, and the run is cleaned up.

use watchkeeper_scenario::{DynError, Expectation, RunContext, ScenarioBuilder, Workload, async_trait};

use crate::common::{Memory, Numbers, nothing, observed, recorded};

/// Panics in one of its steps.
struct Panics(&'static str);

impl Panics {
    fn reach(&self, step: &str) {
        assert!(self.0 != step, "in {step}");
    }
}

#[async_trait]
impl Workload<Numbers> for Panics {
    fn name(&self) -> &'static str {
        "panics"
    }
    async fn init(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
        self.reach("init");
        Ok(())
    }
    async fn start(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
        self.reach("start");
        Ok(())
    }
}

#[async_trait]
impl Expectation<Numbers> for Panics {
    fn name(&self) -> &'static str {
        "panics"
    }
    async fn init(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
        self.reach("init");
        Ok(())
    }
    async fn start_capture(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
        self.reach("start_capture");
        Ok(())
    }
    async fn check_during_capture(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
        self.reach("check");
        Ok(())
    }
    async fn evaluate(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
        self.reach("evaluate");
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_with_its_message() {
    type Add = fn(ScenarioBuilder<Numbers>) -> ScenarioBuilder<Numbers>;
    let cases: [(Add, &str); 9] = [
        (|it| it.with_workload(Panics("init")), r#"prepare workload "panics": panicked: in init"#),
        (|it| it.with_workload(Panics("start")), r#"workloads workload "panics": panicked: in start"#),
        (|it| it.with_expectation(Panics("init")), r#"prepare expectation "panics": panicked: in init"#),
        (
            |it| it.with_expectation(Panics("start_capture")),
            r#"start_capture expectation "panics": panicked: in start_capture"#,
        ),
        (
            |it| {
                it.with_expectation(Panics("check")).endless_workload("long", |context| async move {
                    context.cancelled().await;
                    Ok(())
                })
            },
            r#"workloads expectation "panics": panicked: in check"#,
        ),
        (
            |it| it.with_expectation(Panics("evaluate")),
            r#"evaluate expectation "panics": panicked: in evaluate"#,
        ),
        (
            |it| it.expect_wait("wait", |_| async { panic_now() }),
            r#"evaluate expectation "wait": panicked: in the wait"#,
        ),
        (
            |it| it.expect_wait_throughout("wait", |_| async { panic_now() }),
            r#"start_capture expectation "wait": panicked: in the wait"#,
        ),
        (
            |it| {
                it.expect_wait_throughout("wait", |_| async {
                    tokio::task::yield_now().await;
                    panic_now()
                })
            },
            r#"workloads expectation "wait": panicked: in the wait"#,
        ),
    ];
    for (add, expected) in cases {
        let memory = Memory::default();
        let builder = add(observed(&memory).workload("w", nothing).run_for(crate::common::secs(2)));
        let failure = builder.build().unwrap().run(&memory).await.unwrap_err();
        assert_eq!(recorded(&failure), [expected]);
        assert_eq!(memory.diary.read(), ["up", "observer dropped", "down", "cluster dropped"], "{expected}");
    }
}

fn panic_now() -> Result<(), DynError> {
    panic!("in the wait")
}

/// A second panic while unwinding would abort the process, and leave the nodes.
#[tokio::test(start_paused = true)]
async fn a_workload_may_panic_twice() {
    struct Twice;
    impl Drop for Twice {
        fn drop(&mut self) {
            panic!("and once more");
        }
    }
    #[async_trait]
    impl Workload<Numbers> for Twice {
        fn name(&self) -> &'static str {
            "twice"
        }
        async fn start(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
            panic!("once");
        }
    }
    let memory = Memory::default();
    let failure = observed(&memory).with_workload(Twice).build().unwrap().run(&memory).await.unwrap_err();
    assert_eq!(
        recorded(&failure),
        [
            r#"workloads workload "twice": panicked: once"#,
            r#"workloads workload "twice": panicked: in a destructor: and once more"#,
        ]
    );
    assert_eq!(memory.diary.read(), ["up", "observer dropped", "down", "cluster dropped"]);
}
