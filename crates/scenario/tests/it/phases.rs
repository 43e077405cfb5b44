//! The phases, their order, and what runs in them.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use watchkeeper_scenario::{DynError, Expectation, Phase, RunContext, Workload, WorkloadEnd, async_trait};

use crate::common::{Diary, Drops, Memory, Numbers, Watcher, nothing, observed, recorded, scenario, secs};

/// Adds a note for each step; works for two and a half seconds.
struct Noting {
    diary: Diary,
    name: &'static str,
}

impl Noting {
    fn new(memory: &Memory, name: &'static str) -> Self {
        Self { diary: memory.diary.clone(), name }
    }

    fn note(&self, step: &str) {
        self.diary.note(format!("{} {step}", self.name));
    }
}

#[async_trait]
impl Workload<Numbers> for Noting {
    fn name(&self) -> &str {
        self.name
    }

    async fn init(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
        self.note("init");
        Ok(())
    }

    async fn start(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
        self.note("start");
        sleep(Duration::from_millis(2_500)).await;
        self.note("end");
        Ok(())
    }
}

#[async_trait]
impl Expectation<Numbers> for Noting {
    fn name(&self) -> &str {
        self.name
    }

    async fn init(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
        self.note("init");
        Ok(())
    }

    async fn start_capture(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
        self.note("start_capture");
        Ok(())
    }

    async fn check_during_capture(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
        self.note("check");
        Ok(())
    }

    async fn evaluate(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
        self.note("evaluate");
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn the_phases_are_in_order_and_checks_run_each_second() {
    let memory = Memory::default();
    let scenario = observed(&memory)
        .with_extension(Drops(memory.diary.clone(), "extension dropped"))
        .with_workload(Noting::new(&memory, "workload"))
        .with_expectation(Noting::new(&memory, "expectation"))
        .cooldown(Duration::from_millis(1_500));
    let report = scenario.build().unwrap().run(&memory).await.unwrap();
    assert_eq!(
        memory.diary.read(),
        [
            "up",
            "workload init",
            "expectation init",
            "expectation start_capture",
            "workload start",
            "expectation check", // at 1 s
            "expectation check", // at 2 s
            "workload end",
            "expectation check", // at 2.5 s, when the last workload has ended
            "expectation check", // 1 s later, in the cooldown
            "expectation check", // at 4 s, at the end of the cooldown
            "expectation evaluate",
            "observer dropped",
            "extension dropped",
            "down",
            "cluster dropped",
        ]
    );
    let phases: Vec<_> = report.phases.iter().map(|(phase, _)| *phase).collect();
    let names = phases.iter().map(Phase::to_string).collect::<Vec<_>>().join(" ");
    assert_eq!(names, "deploy prepare start_capture workloads cooldown evaluate cleanup");
    assert_eq!(report.phases[3].1, Duration::from_millis(2_500));
    assert_eq!(report.phases[4].1, Duration::from_millis(1_500));
    assert_eq!(report.elapsed, secs(4));
    assert_eq!(report.workloads.len(), 1);
    assert_eq!(report.workloads[0].end, WorkloadEnd::Done);
    assert_eq!(report.observers[0].name, "numbers");
}

#[tokio::test(start_paused = true)]
async fn workloads_run_concurrently_and_find_the_observers() {
    let memory = Memory::default();
    let began = Instant::now();
    let raise = |node: &'static str| {
        move |context: RunContext<Numbers>| async move {
            context.node_client(node)?.set(7);
            let numbers = context.require_observer::<Watcher>("numbers")?;
            numbers.eventually("it is raised", |seen| seen[node] == 7).within(secs(1)).await?;
            sleep(secs(2)).await;
            Ok(())
        }
    };
    let scenario = observed(&memory).workload("raise n1", raise("n1")).workload("raise n2", raise("n2"));
    scenario.build().unwrap().run(&memory).await.unwrap();
    assert!(began.elapsed() < secs(3), "one after the other: {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn run_for_is_how_long_the_workloads_run_at_least() {
    let memory = Memory::default();
    let scenario = observed(&memory).workload("quick", nothing).expect_wait("none", nothing).run_for(secs(3));
    let report = scenario.build().unwrap().run(&memory).await.unwrap();
    assert_eq!(report.elapsed, secs(3));
}

#[tokio::test(start_paused = true)]
async fn an_expectation_alone_is_a_scenario() {
    let memory = Memory::default();
    let report = scenario().expect_wait("nothing", nothing).build().unwrap().run(&memory).await.unwrap();
    assert_eq!(report.workloads, []);
}

/// All failures of a phase are recorded, and later phases do not run.
#[tokio::test(start_paused = true)]
async fn an_init_that_fails_ends_the_run_before_a_workload_starts() {
    struct Unready(&'static str);
    #[async_trait]
    impl Workload<Numbers> for Unready {
        fn name(&self) -> &str {
            self.0
        }
        async fn init(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
            Err(format!("{} is not ready", self.0).into())
        }
        async fn start(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
            Err("it was started".into())
        }
    }
    let memory = Memory::default();
    let scenario = observed(&memory)
        .with_workload(Unready("a"))
        .with_workload(Unready("b"))
        .with_expectation(Noting::new(&memory, "expectation"));
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    assert_eq!(
        recorded(&failure),
        [r#"prepare workload "a": a is not ready"#, r#"prepare workload "b": b is not ready"#]
    );
    assert_eq!(
        memory.diary.read(),
        ["up", "expectation init", "observer dropped", "down", "cluster dropped"]
    );
}
