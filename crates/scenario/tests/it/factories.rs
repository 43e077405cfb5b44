//! Observers and extensions that are built once the nodes run.

use watchkeeper::{ObservedSource, StaticSourceProvider};
use watchkeeper_scenario::{DynError, ObservationExtensionFactory, RunContext, async_trait};

use crate::common::{
    Diary, Drops, Memory, Number, Numbers, Watcher, nothing, observed, often, recorded, scenario, secs,
};

#[tokio::test(start_paused = true)]
async fn an_observer_over_the_nodes_follows_restarts() {
    let memory = Memory::default();
    let scenario = observed(&memory).workload("restart n2", |context| async move {
        let numbers = context.require_observer::<Watcher>("numbers")?;
        let old = context.node_client("n2")?;
        context.control().stop("n2").await?;
        numbers.eventually("n2 is gone", |seen| !seen.contains_key("n2")).within(secs(1)).await?;
        context.control().start("n2").await?;
        context.node_client("n2")?.set(22);
        old.set(99); // no observer reads the old client
        numbers.eventually("the new n2 is seen", |seen| seen.get("n2") == Some(&22)).within(secs(1)).await?;
        Ok(())
    });
    scenario.build().unwrap().run(&memory).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_observer_may_have_its_own_sources() {
    let memory = Memory::default();
    let diary = memory.diary.clone();
    let first_node = |context: RunContext<Numbers>| async move {
        let client = context.node_client("n1")?;
        Ok(StaticSourceProvider::new(vec![ObservedSource::new("only", client)]))
    };
    let scenario = scenario()
        .with_observer_over("one", first_node, move |_: &RunContext<Numbers>| Watcher::new(&diary), often())
        .expect_wait("only one is seen", |context| async move {
            let one = context.require_observer::<Watcher>("one")?;
            let seen = one.eventually("it is 1", |seen| seen["only"] == 1).within(secs(1)).await?;
            assert_eq!(seen.value.len(), 1);
            Ok(())
        });
    scenario.build().unwrap().run(&memory).await.unwrap();
}

type End = fn() -> Result<(), DynError>;

/// Starts two observers and an extension, then ends as it is given.
struct HalfWay {
    diary: Diary,
    end: End,
}

#[async_trait]
impl ObservationExtensionFactory<Numbers> for HalfWay {
    fn name(&self) -> &'static str {
        "half-way"
    }

    async fn build(&mut self, context: &RunContext<Numbers>) -> Result<(), DynError> {
        for name in ["first", "second"] {
            context.observe(name, context.clients().clone(), Watcher::new(&self.diary), often()).await?;
        }
        context.add_extension(Drops(self.diary.clone(), "extension dropped"))?;
        (self.end)()
    }
}

#[tokio::test(start_paused = true)]
async fn a_factory_that_fails_half_way_leaves_nothing() {
    let cases: [(End, &str); 2] = [
        (|| Err("no third one".into()), r#"prepare factory "half-way": no third one"#),
        (|| panic!("oh no"), r#"prepare factory "half-way": panicked: oh no"#),
    ];
    for (end, expected) in cases {
        let memory = Memory::default();
        let scenario = scenario()
            .with_factory(HalfWay { diary: memory.diary.clone(), end })
            .with_factory(HalfWay { diary: memory.diary.clone(), end: || Err("it was asked".into()) })
            .workload("never", |_| async { Err("it was started".into()) });
        let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
        assert_eq!(recorded(&failure), [expected]);
        let dropped = "observer dropped";
        let expected = ["up", dropped, dropped, "extension dropped", "down", "cluster dropped"];
        assert_eq!(memory.diary.read(), expected);
    }
}

/// The names of a factory's observers are not known to `build`.
#[tokio::test(start_paused = true)]
async fn a_name_that_a_factory_uses_twice_is_reported_when_it_builds() {
    let memory = Memory::default();
    let again = || HalfWay { diary: memory.diary.clone(), end: || Ok(()) };
    let scenario = scenario().with_factory(again()).with_factory(again()).workload("w", nothing);
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    let expected =
        r#"prepare factory "half-way": there is an observer called "first" already: give each its own name"#;
    assert_eq!(recorded(&failure), [expected]);
    assert_eq!(memory.diary.count("observer dropped"), 3, "two that ran, one that was refused");
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_does_not_start_is_reported_with_its_reason() {
    let memory = Memory::default();
    let diary = memory.diary.clone();
    let unreachable =
        |_: RunContext<Numbers>| async move { Err::<StaticSourceProvider<Number>, _>("no sources".into()) };
    let build = |interval_secs: u64| {
        let diary = diary.clone();
        let config = watchkeeper::ObservationConfig { interval: secs(interval_secs), ..often() };
        scenario().with_observer("slow", move |_| Watcher::new(&diary), config).workload("w", nothing)
    };
    let failure = build(0).build().unwrap().run(&memory).await.unwrap_err();
    let text = failure.to_string();
    assert!(text.contains(r#"the observer "slow" did not start"#), "{text}");
    assert!(text.contains("caused by: ObservationConfig::interval is 0ns"), "{text}");

    let diary = memory.diary.clone();
    let scenario = scenario()
        .with_observer_over("far", unreachable, move |_| Watcher::new(&diary), often())
        .workload("w", nothing);
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    assert_eq!(recorded(&failure), [r#"prepare factory "far": no sources"#]);
}
