//! What a group knows, as metrics: `scrape` is what an HTTP handler of `/metrics` returns, in the `OpenMetrics` format.
//!
//! `cargo run --example metrics`

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;
use watchkeeper::{
    DynError, ObservationConfig, ObservationGroup, ObservationRuntime, ObservedSource, PerSource,
    StaticSourceProvider,
};

type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge>;
type Seconds = Family<Labels, Gauge<f64, AtomicU64>>;
type Counters = Family<Labels, Counter>;

/// Names of sources come from outside: each observation has so many at most, each of so many bytes. An error is no label.
const SOURCES: usize = 50;
const NAME: usize = 64;

/// Made for each scrape, so that a source that has left takes its series along.
fn scrape(group: &ObservationGroup) -> Result<String, DynError> {
    let mut registry = Registry::with_prefix("watchkeeper");
    let (fresh, sources, hidden, answering) = <(Gauges, Gauges, Gauges, Gauges)>::default();
    registry.register("data_fresh", "Whether the loop runs", fresh.clone());
    registry.register("sources", "Sources in the set", sources.clone());
    registry.register("sources_hidden", "Sources without series of their own", hidden.clone());
    registry.register("source_answering", "Whether the source answers", answering.clone());
    let (age, took) = <(Seconds, Seconds)>::default();
    registry.register_with_unit("data_age", "Age of the last success", Unit::Seconds, age.clone());
    registry.register_with_unit("source_probe", "Time of the last answer", Unit::Seconds, took.clone());
    let (cycles, missed, failures) = <(Counters, Counters, Counters)>::default();
    registry.register("cycles", "Cycles begun after the first", cycles.clone());
    registry.register("missed_ticks", "Ticks that a long cycle passed over", missed.clone());
    registry.register("source_failures", "Probes that failed", failures.clone());
    for (handle, status) in group.handles().iter().map(|handle| (handle, handle.status())) {
        let of = vec![("observation", status.name.to_string())];
        let shown = status.source_names.iter().filter(|name| name.len() <= NAME).take(SOURCES);
        fresh.get_or_create(&of).set(status.freshness.is_fresh().into());
        sources.get_or_create(&of).set(i64::try_from(status.source_names.len())?);
        hidden.get_or_create(&of).set(i64::try_from(status.source_names.len() - shown.clone().count())?);
        cycles.get_or_create(&of).inc_by(status.cycle);
        missed.get_or_create(&of).inc_by(status.missed_ticks);
        status.freshness.age().map(|known| age.get_or_create(&of).set(known.as_secs_f64()));
        for name in shown {
            let Some(health) = handle.look(|seen| seen.source_health(name)).flatten() else { continue };
            let of = [&of[..], &[("source", name.to_string())]].concat();
            answering.get_or_create(&of).set(health.is_answering(Instant::now()).into());
            failures.get_or_create(&of).inc_by(health.facts.failures);
            health.facts.last_elapsed.map(|known| took.get_or_create(&of).set(known.as_secs_f64()));
        }
    }
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

#[tokio::main]
async fn main() -> Result<(), DynError> {
    let interval = Duration::from_millis(50);
    let probe = |node: ObservedSource<u64>| async move {
        if node.source == 1 { Err(DynError::from("refused: password=hunter2")) } else { Ok(node.source) }
    };
    let odd = [ObservedSource::new("a \"quote\"\n", 0), ObservedSource::new("long".repeat(100), 0)];
    let nodes = odd.into_iter().chain((0..60).map(|nth| ObservedSource::new(format!("n{nth}"), nth)));
    let config = ObservationConfig { name: Some("nodes".to_owned()), interval, ..Default::default() };
    let nodes = StaticSourceProvider::new(nodes.collect());
    let group = ObservationGroup::new();
    group.add(ObservationRuntime::start(nodes, PerSource::new(probe), config).await?)?;
    let nodes = group.handle("nodes").ok_or("it was added")?;
    nodes.source_fresh("n0").within(Duration::from_secs(10)).await?;
    nodes.source_failing("n1").within(Duration::from_secs(10)).await?;

    let text = scrape(&group)?;
    text.lines().filter(|line| !line.contains("source=")).for_each(|line| println!("{line}"));
    for line in [
        "# TYPE watchkeeper_data_age_seconds gauge\n# UNIT watchkeeper_data_age_seconds seconds\n",
        "watchkeeper_data_age_seconds{observation=\"nodes\"} 0.",
        "watchkeeper_data_fresh{observation=\"nodes\"} 1\n",
        "watchkeeper_cycles_total{observation=\"nodes\"} ",
        "watchkeeper_sources{observation=\"nodes\"} 62\n",
        "watchkeeper_sources_hidden{observation=\"nodes\"} 12\n", // the long one, and 11 of the 61 others
        "watchkeeper_source_answering{observation=\"nodes\",source=\"n0\"} 1\n",
        "watchkeeper_source_answering{observation=\"nodes\",source=\"n1\"} 0\n",
        "watchkeeper_source_answering{observation=\"nodes\",source=\"a \\\"quote\\\"\\n\"} ",
        "watchkeeper_source_failures_total{observation=\"nodes\",source=\"n0\"} 0\n",
        "watchkeeper_source_probe_seconds{observation=\"nodes\",source=\"n0\"} ",
    ] {
        assert!(text.contains(line), "{line:?} is missing");
    }
    assert!(text.ends_with("# EOF\n") && !text.contains("hunter2") && !text.contains("source=\"n49\""));
    assert!(!text.contains("source_failures_total{observation=\"nodes\",source=\"n1\"} 0\n"));
    println!("stop: {:?}", group.stop_all().await);
    Ok(())
}

#[test]
fn the_metrics_of_a_group_are_bounded_and_named_by_convention() {
    main().unwrap();
}
