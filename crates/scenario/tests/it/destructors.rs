//! Destructors and other methods of the app that panic in unexpected places: each is a failure with its
//! message, the end is in order, and the process is not aborted.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use watchkeeper_scenario::{
    Application, BuildError, DeployError, Deployer, DynError, Expectation, Limits, ManualCluster,
    NodeClients, NodeControl, NodeControlError, ObservationExtensionFactory, Problem, RunContext,
    RunningCluster, Scenario, ScenarioBuilder, ScenarioFailure, ShutDownError, Workload, async_trait,
};

use crate::common::{
    Diary, Drops, Goes, Memory, Numbers, Sharp, nothing, observed, recorded, scenario, secs,
};

const ENDS_IN_ORDER: [&str; 4] = ["up", "observer dropped", "down", "cluster dropped"];

/// A part of a scenario whose destructor panics. It succeeds otherwise.
pub struct Cutting {
    name: &'static str,
    /// How its `start` or `evaluate` ends.
    hangs: bool,
    _held: Sharp,
}

impl Cutting {
    pub fn new(name: &'static str) -> Self {
        Self { name, hangs: false, _held: Sharp(name) }
    }

    pub fn hanging(name: &'static str) -> Self {
        Self { hangs: true, ..Self::new(name) }
    }

    async fn go(&self) -> Result<(), DynError> {
        if self.hangs {
            let _held = Sharp("what its future holds");
            pending().await
        } else {
            Ok(())
        }
    }
}

#[async_trait]
impl ObservationExtensionFactory<Numbers> for Cutting {
    fn name(&self) -> &str {
        self.name
    }
    async fn build(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
        self.go().await
    }
}

#[async_trait]
impl Workload<Numbers> for Cutting {
    fn name(&self) -> &str {
        self.name
    }
    async fn start(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
        self.go().await
    }
}

#[async_trait]
impl Expectation<Numbers> for Cutting {
    fn name(&self) -> &str {
        self.name
    }
    async fn evaluate(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
        self.go().await
    }
}

type Add = fn(ScenarioBuilder<Numbers>) -> ScenarioBuilder<Numbers>;

/// Two of each, so that both are in one `Vec`; all succeed except for their destructors.
#[tokio::test(start_paused = true)]
async fn two_destructors_that_panic_are_two_failures() {
    let cases: [(Add, [&str; 2]); 4] = [
        (
            |it| it.with_workload(Cutting::new("a")).with_workload(Cutting::new("b")),
            [
                r#"workloads workload "a": panicked: in a destructor: drop a"#,
                // Already cancelled, since the first one has failed.
                r#"drain workload "b": panicked: in a destructor: drop b"#,
            ],
        ),
        (
            |it| it.with_expectation(Cutting::new("a")).with_expectation(Cutting::new("b")),
            [
                r#"cleanup expectation "a": panicked: in a destructor: drop a"#,
                r#"cleanup expectation "b": panicked: in a destructor: drop b"#,
            ],
        ),
        (
            |it| it.with_factory(Cutting::new("a")).with_factory(Cutting::new("b")),
            [
                r#"prepare factory "a": panicked: in a destructor: drop a"#,
                // No step of it was called after that.
                r#"prepare factory "b": panicked: in a destructor: drop b"#,
            ],
        ),
        (
            |it| it.with_extension((Sharp("a"), 1_u8)).with_extension((Sharp("b"), 1_u16)),
            [
                "cleanup extension (it::common::Sharp, u16): panicked: in a destructor: drop b",
                "cleanup extension (it::common::Sharp, u8): panicked: in a destructor: drop a",
            ],
        ),
    ];
    for (add, expected) in cases {
        let memory = Memory::default();
        let builder = add(observed(&memory).workload("w", nothing));
        let failure = builder.build().unwrap().run(&memory).await.unwrap_err();
        assert_eq!(recorded(&failure), expected);
        assert_eq!(memory.diary.read(), ENDS_IN_ORDER, "{expected:?}");
    }
}

/// The first extension is refused, since there is one of its type; the other two are never added.
#[tokio::test(start_paused = true)]
async fn extensions_that_are_not_added_are_dropped_one_by_one() {
    struct Adds;
    #[async_trait]
    impl ObservationExtensionFactory<Numbers> for Adds {
        fn name(&self) -> &'static str {
            "adds"
        }
        async fn build(&mut self, context: &RunContext<Numbers>) -> Result<(), DynError> {
            context.add_extension(Sharp("first"))?;
            context.add_extension(Sharp("second"))?;
            Ok(())
        }
    }
    let memory = Memory::default();
    let scenario = observed(&memory).with_factory(Adds).workload("w", nothing);
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    assert_eq!(
        recorded(&failure),
        [
            "prepare factory \"adds\": there is an extension of type it::common::Sharp already: wrap one of them \
             in its own type",
            "prepare extension it::common::Sharp: panicked: in a destructor: drop second",
            "cleanup extension it::common::Sharp: panicked: in a destructor: drop first",
        ]
    );
    assert_eq!(memory.diary.read(), ENDS_IN_ORDER);

    // Deployment fails: three closures, each with its value, are dropped.
    let memory = Memory { up: Goes::Fails, ..Memory::default() };
    let scenario =
        observed(&memory).with_extension(Sharp("a")).with_extension((Sharp("b"), 1)).workload("w", nothing);
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    assert_eq!(failure.failures().len(), 3, "{failure}");
}

/// The future holds a panicking destructor, and so does the part that it borrows.
#[tokio::test(start_paused = true)]
async fn a_cut_off_step_and_its_part_are_dropped_one_by_one() {
    let cases: [(Add, &[&str]); 3] = [
        (
            |it| it.with_workload(Cutting::hanging("a")).with_workload(Cutting::hanging("b")),
            &[
                r#"workloads workload "a": TimedOut(1s)"#,
                r#"workloads workload "b": TimedOut(1s)"#,
                "drain workload",
                "drain workload",
                "drain workload",
                "drain workload",
            ],
        ),
        (
            |it| it.with_expectation(Cutting::hanging("a")).with_expectation(Cutting::hanging("b")),
            &[
                r#"evaluate expectation "a": TimedOut(1s)"#,
                r#"evaluate expectation "b": TimedOut(1s)"#,
                "evaluate expectation",
                "evaluate expectation",
                "evaluate expectation",
                "evaluate expectation",
            ],
        ),
        (
            |it| it.with_factory(Cutting::hanging("a")).with_factory(Cutting::new("b")),
            &[
                r#"prepare factory "a": TimedOut(1s)"#,
                r#"prepare factory "b": panicked: in a destructor: drop b"#,
                r#"prepare factory "a": panicked: in a destructor: drop what its future holds"#,
                r#"prepare factory "a": panicked: in a destructor: drop a"#,
            ],
        ),
    ];
    for (add, expected) in cases {
        let memory = Memory::default();
        let second = secs(1);
        let limits = Limits { prepare: second, workloads: second, evaluate: second, ..Limits::default() };
        let builder = add(observed(&memory).workload("w", nothing).limits(limits));
        let failure = builder.build().unwrap().run(&memory).await.unwrap_err();
        let all = recorded(&failure);
        assert_eq!(all.len(), expected.len(), "{all:?}");
        for failed in expected {
            assert!(all.iter().any(|one| one.starts_with(failed)), "{failed}: {all:?}");
        }
        assert_eq!(memory.diary.read(), ENDS_IN_ORDER, "{expected:?}");
    }
}

/// Without waiting, in `Drop`: cluster and extensions are released nevertheless.
#[tokio::test(start_paused = true)]
async fn a_run_that_is_dropped_survives_every_destructor() {
    let memory = Memory::default();
    let scenario = observed(&memory)
        .with_extension(Sharp("extension"))
        .with_extension((Sharp("another"), 1))
        .with_extension((Drops(memory.diary.clone(), "extension dropped"), 1))
        .with_expectation(Cutting::new("a"))
        .with_expectation(Cutting::new("b"))
        .with_workload(Cutting::hanging("c"))
        .with_workload(Cutting::hanging("d"))
        .build()
        .unwrap();
    assert!(timeout(secs(1), scenario.run(&memory)).await.is_err());
    assert_eq!(memory.diary.read(), ["up", "extension dropped", "cluster dropped"]);
}

/// A scenario that is not run or not built does not abort the process.
#[test]
fn a_scenario_that_is_not_run_survives_every_destructor() {
    let sharp = || {
        scenario()
            .with_extension(Sharp("extension"))
            .with_extension((Sharp("another"), 1))
            .with_factory(Cutting::new("a"))
            .with_factory(Cutting::new("b"))
            .with_expectation(Cutting::new("a"))
            .with_expectation(Cutting::new("b"))
            .with_workload(Cutting::new("a"))
            .with_workload(Cutting::new("b"))
    };
    drop(sharp());
    drop(sharp().build().unwrap());
    drop(sharp().run_for(Duration::ZERO).build().unwrap_err());
}

/// During the checks in which it is cancelled, and during the evaluation.
#[tokio::test(start_paused = true)]
async fn a_cancelled_run_survives_the_destructors_of_its_expectations() {
    let memory = Memory::default();
    let scenario = observed(&memory)
        .with_expectation(Cutting::hanging("a"))
        .with_expectation(Cutting::new("b"))
        .expect_wait_throughout("c", |_| async {
            let _held = Sharp("a wait");
            pending::<Result<(), DynError>>().await
        })
        .build()
        .unwrap();
    let failure = scenario.run_until(&memory, sleep(secs(1))).await.unwrap_err();
    let all = recorded(&failure);
    assert_eq!(all[0], "evaluate the run: Cancelled");
    for expected in [
        r#"expectation "a": panicked: in a destructor: drop what its future holds"#,
        r#"expectation "a": panicked: in a destructor: drop a"#,
        r#"expectation "b": panicked: in a destructor: drop b"#,
        r#"expectation "c": panicked: in a destructor: drop a wait"#,
    ] {
        assert!(all.iter().any(|one| one.ends_with(expected)), "{expected}: {all:?}");
    }
    assert_eq!(all.len(), 5, "{all:?}");
    assert_eq!(memory.diary.read(), ENDS_IN_ORDER);
}

#[tokio::test(start_paused = true)]
async fn values_in_the_futures_of_a_deployer_may_panic() {
    let memory = Memory { up: Goes::HangsSharply, ..Memory::default() };
    let failure = observed(&memory).workload("w", nothing).build().unwrap().run(&memory).await.unwrap_err();
    assert_eq!(
        recorded(&failure),
        [
            r#"deploy deployer "memory": TimedOut(120s)"#,
            r#"deploy deployer "memory": panicked: in a destructor: drop of the future"#,
        ]
    );

    let memory = Memory { down: Goes::HangsSharply, ..Memory::default() };
    let failure = observed(&memory).workload("w", nothing).build().unwrap().run(&memory).await.unwrap_err();
    assert_eq!(
        recorded(&failure),
        [
            r#"cleanup deployer "memory": TimedOut(60s)"#,
            r#"cleanup deployer "memory": panicked: in a destructor: drop of the future"#,
        ]
    );
    assert_eq!(memory.diary.read(), ENDS_IN_ORDER);
}

/// Panics when a method is called the second time.
struct AskedAgain(AtomicU32, AtomicU32);

impl AskedAgain {
    fn new() -> Self {
        Self(AtomicU32::new(0), AtomicU32::new(0))
    }
    fn ask(asked: &AtomicU32) {
        assert!(asked.fetch_add(1, Ordering::SeqCst) == 0, "asked again");
    }
}

#[async_trait]
impl Workload<Numbers> for AskedAgain {
    fn name(&self) -> &'static str {
        Self::ask(&self.0);
        "asked"
    }
    fn is_endless(&self) -> bool {
        Self::ask(&self.1);
        false
    }
    async fn start(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
        Ok(())
    }
}

#[async_trait]
impl Expectation<Numbers> for AskedAgain {
    fn name(&self) -> &'static str {
        Self::ask(&self.0);
        "asked"
    }
    async fn evaluate(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
        Ok(())
    }
}

#[async_trait]
impl ObservationExtensionFactory<Numbers> for AskedAgain {
    fn name(&self) -> &'static str {
        Self::ask(&self.0);
        "asked"
    }
    async fn build(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn the_name_of_a_part_is_read_once() {
    let memory = Memory::default();
    let scenario = observed(&memory)
        .with_factory(AskedAgain::new())
        .with_workload(AskedAgain::new())
        .with_expectation(AskedAgain::new())
        .build()
        .unwrap();
    assert!(format!("{scenario:?}").contains("asked"));
    scenario.run(&memory).await.unwrap();
    assert_eq!(memory.diary.read(), ENDS_IN_ORDER);
}

#[test]
fn a_part_whose_name_panics_is_refused() {
    let asked = || AskedAgain(AtomicU32::new(1), AtomicU32::new(0));
    let endless = AskedAgain(AtomicU32::new(0), AtomicU32::new(1));
    let cases = [
        (scenario().workload("w", nothing).with_factory(asked()), "factory"),
        (scenario().with_workload(asked()), "workload"),
        (scenario().with_workload(endless), "workload"),
        (scenario().with_expectation(asked()), "expectation"),
    ];
    for (builder, expected) in cases {
        let error = builder.build().unwrap_err();
        assert!(matches!(&error, BuildError::Panicked { what, .. } if *what == expected), "{error}");
        assert!(error.to_string().ends_with("return a constant there; asked again"), "{error}");
    }
}

/// An error whose text panics, and its destructor too.
#[derive(Debug)]
pub struct Unsayable(pub &'static str);

impl std::fmt::Display for Unsayable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("no words for {}", self.0)
    }
}

impl std::error::Error for Unsayable {}

impl Drop for Unsayable {
    fn drop(&mut self) {
        panic!("drop {}", self.0);
    }
}

/// Two of them in one `Vec` of failures. Tracing shows each when it is recorded.
#[tokio::test(start_paused = true)]
async fn errors_that_panic_when_they_are_shown_and_dropped_are_failures() {
    let listener = crate::traced::Listener::default();
    let entries = listener.entries.clone();
    let _guard = tracing::subscriber::set_default(listener);
    let memory = Memory::default();
    let scenario = observed(&memory)
        .expect_wait("a", |_| async { Err::<(), _>(Unsayable("a").into()) })
        .expect_wait("b", |_| async { Err::<(), _>(Unsayable("b").into()) });
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    assert_eq!(failure.failures().len(), 2);
    let text = failure.to_string();
    assert!(text.contains("no words for a") && text.contains("no words for b"), "{text}");
    assert!(entries.read().iter().any(|noted| noted.contains("no words for a")), "{entries:?}");
    assert_eq!(memory.diary.read(), ENDS_IN_ORDER);
    drop(failure);
}

/// The deployment cannot be cloned, and panics when it is dropped; so do the clients of its nodes.
struct Sharps;

impl Application for Sharps {
    type Deployment = SharpDeployment;
    type NodeClient = SharpClient;
}

#[derive(Debug)]
struct SharpDeployment(#[expect(dead_code, reason = "for its destructor")] Sharp);

impl Clone for SharpDeployment {
    fn clone(&self) -> Self {
        panic!("clone a deployment")
    }
}

/// Clones are harmless, so that only the client of the cluster itself panics.
struct SharpClient(bool);

impl Clone for SharpClient {
    fn clone(&self) -> Self {
        Self(false)
    }
}

impl Drop for SharpClient {
    fn drop(&mut self) {
        assert!(!self.0, "drop a client");
    }
}

struct SharpDeployer(Diary);

#[async_trait]
impl Deployer<Sharps> for SharpDeployer {
    fn name(&self) -> &'static str {
        "sharp"
    }
    async fn deploy(&self, _: &SharpDeployment) -> Result<Box<dyn RunningCluster<Sharps>>, DeployError> {
        let clients = NodeClients::new();
        clients.insert("n1", SharpClient(true));
        clients.insert("n2", SharpClient(true));
        Ok(Box::new(SharpCluster { clients, diary: self.0.clone(), _held: Sharp("cluster") }))
    }
}

struct SharpCluster {
    clients: NodeClients<SharpClient>,
    diary: Diary,
    _held: Sharp,
}

#[async_trait]
impl RunningCluster<Sharps> for SharpCluster {
    fn node_clients(&self) -> NodeClients<SharpClient> {
        self.clients.clone()
    }
    fn node_control(&self) -> Arc<dyn NodeControl> {
        Arc::new(SharpControl(Sharp("control")))
    }
    async fn shut_down(&self) -> Result<(), DeployError> {
        self.diary.note("down");
        Ok(())
    }
}

struct SharpControl(#[expect(dead_code, reason = "for its destructor")] Sharp);

#[async_trait]
impl NodeControl for SharpControl {
    fn deployer(&self) -> &'static str {
        "sharp"
    }
    fn nodes(&self) -> Vec<String> {
        vec!["n1".to_owned(), "n2".to_owned()]
    }
    async fn wait_ready(&self, node: &str, _: Duration) -> Result<(), NodeControlError> {
        Err(self.unknown(node))
    }
}

#[tokio::test(start_paused = true)]
async fn deployment_cluster_and_clients_may_panic_when_they_are_dropped() {
    let diary = Diary::default();
    let scenario = Scenario::<Sharps>::builder("sharp", SharpDeployment(Sharp("deployment")))
        .workload("w", |_| async { Ok(()) });
    let failure = scenario.build().unwrap().run(&SharpDeployer(diary.clone())).await.unwrap_err();
    let all = recorded(&failure);
    assert_eq!(
        all,
        [
            r#"cleanup deployer "sharp": panicked: in a destructor: drop cluster"#,
            r#"cleanup deployer "sharp": panicked: in a destructor: drop a client"#,
            r#"cleanup deployer "sharp": panicked: in a destructor: drop a client"#,
            r#"cleanup deployer "sharp": panicked: in a destructor: drop control"#,
            "cleanup the deployment: panicked: in a destructor: drop deployment",
        ]
    );
    assert_eq!(diary.read(), ["down"]);
}

#[tokio::test(start_paused = true)]
async fn a_manual_cluster_reports_the_panic_of_its_cluster() {
    let memory = Memory { down: Goes::Panics, ..Memory::default() };
    let cluster = ManualCluster::<Numbers>::deploy(&memory, &2).await.unwrap();
    let error = cluster.shut_down().await.unwrap_err();
    assert!(matches!(&error, ShutDownError::Panicked { .. }), "{error}");
    assert!(error.to_string().ends_with("stop the nodes panics"), "{error}");
    assert_eq!(memory.diary.read(), ["up", "down", "cluster dropped"]);

    let deployment = SharpDeployment(Sharp("deployment"));
    let cluster =
        ManualCluster::<Sharps>::deploy(&SharpDeployer(Diary::default()), &deployment).await.unwrap();
    let error = cluster.shut_down().await.unwrap_err();
    assert!(error.to_string().ends_with("in a destructor: drop cluster"), "{error}");
    std::mem::forget(deployment);
}

/// A deployer whose `name` panics.
#[tokio::test(start_paused = true)]
async fn a_deployer_without_a_name_is_a_failure() {
    struct Nameless;
    #[async_trait]
    impl Deployer<Numbers> for Nameless {
        fn name(&self) -> &str {
            panic!("no name")
        }
        async fn deploy(&self, _: &usize) -> Result<Box<dyn RunningCluster<Numbers>>, DeployError> {
            unreachable!("it has no name")
        }
    }
    let failure = scenario().workload("w", nothing).build().unwrap().run(&Nameless).await.unwrap_err();
    assert_eq!(recorded(&failure), [r#"deploy deployer "unnamed": panicked: no name"#]);
}

/// The future that cancels a run is code of the caller.
#[tokio::test(start_paused = true)]
async fn the_future_that_cancels_a_run_may_panic() {
    async fn run(memory: &Memory, cancel: impl Future<Output = Sharp>) -> ScenarioFailure {
        let scenario = observed(memory).workload("long", |context| async move {
            context.cancelled().await;
            Ok(())
        });
        scenario.build().unwrap().run_until(memory, cancel).await.unwrap_err()
    }
    let memory = Memory::default();
    let failure = run(&memory, async {
        sleep(secs(1)).await;
        panic!("in what cancels")
    });
    let failure = failure.await;
    assert_eq!(recorded(&failure), ["workloads the run: panicked: in what cancels"]);
    assert_eq!(memory.diary.read(), ENDS_IN_ORDER);

    let memory = Memory::default();
    let failure = run(&memory, async {
        sleep(secs(1)).await;
        Sharp("what it resolves with")
    });
    let failure = failure.await;
    assert!(matches!(failure.failures()[0].problem, Problem::Panicked(_)), "{failure}");
    assert_eq!(memory.diary.read(), ENDS_IN_ORDER);
}
