//! What a group knows, as metrics: `scrape` is what an HTTP handler of `/metrics` returns, in the `OpenMetrics` format.
//!
//! `cargo run --example metrics`

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;
use watchkeeper::group::ObservationGroup;
use watchkeeper::{
    DynError, ObservationConfig, ObservationRuntime, ObservedSource, PerSource, StaticSourceProvider,
};

// What follows, up to `main`, is what there is to copy.

/// Names come from outside: there are series for so many observations and for so many sources of each, whose names have
/// so many bytes at most. The others are counted. An error is no label.
const OBSERVATIONS: usize = 20;
const SOURCES: usize = 50;
const NAME: usize = 64;

type Labelled<M> = Family<Vec<(&'static str, String)>, M>;

/// Made for each scrape, so that the series of what has left end.
fn scrape(group: &ObservationGroup) -> Result<String, DynError> {
    let mut registry = Registry::with_prefix("watchkeeper");
    let [fresh, age, answering, dropped] = <[Labelled<Gauge<f64, AtomicU64>>; 4]>::default();
    registry.register("data_fresh", "Whether the last success is recent", fresh.clone());
    registry.register_with_unit("data_age", "Age of the last success", Unit::Seconds, age.clone());
    registry.register("source_answering", "Whether the source answers", answering.clone());
    registry.register("series_dropped", "Observations and sources without series", dropped.clone());
    let [cycles, failures] = <[Labelled<Counter>; 2]>::default();
    registry.register("cycles", "Cycles begun after the first", cycles.clone());
    registry.register("source_failures", "Probes that failed", failures.clone());
    let handles = group.handles();
    let shown = handles.iter().filter(|handle| handle.name().len() <= NAME).take(OBSERVATIONS);
    let mut without = handles.len() - shown.clone().count();
    for handle in shown {
        let (status, of) = (handle.status(), vec![("observation", handle.name().to_string())]);
        let shown = status.source_names.iter().filter(|name| name.len() <= NAME).take(SOURCES);
        without += status.source_names.len() - shown.clone().count();
        fresh.get_or_create(&of).set(f64::from(u8::from(status.freshness.is_fresh())));
        status.freshness.age().map(|known| age.get_or_create(&of).set(known.as_secs_f64()));
        cycles.get_or_create(&of).inc_by(status.cycle);
        for name in shown {
            let Some(health) = handle.look(|seen| seen.source_health(name)).flatten() else { continue };
            let of = [&of[..], &[("source", name.to_string())]].concat();
            answering.get_or_create(&of).set(f64::from(u8::from(health.is_answering(Instant::now()))));
            failures.get_or_create(&of).inc_by(health.facts.failures);
        }
    }
    dropped.get_or_create(&vec![]).set(f64::from(u32::try_from(without)?));
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
    for name in (0..25).map(|nth| format!("more {nth}")).chain(["long".repeat(60)]) {
        group.add_as(&name, watchkeeper::observe(interval, [("n0", 0)], probe).await?)?;
    }
    let nodes = group.handle("nodes").ok_or("it was added")?;
    nodes.source_fresh("n0").within(Duration::from_secs(10)).await?;
    nodes.source_failing("n1").within(Duration::from_secs(10)).await?;

    let text = scrape(&group)?;
    text.lines().filter(|line| line.contains("\"nodes\"} ")).for_each(|line| println!("{line}"));
    for line in [
        "# TYPE watchkeeper_data_age_seconds gauge\n# UNIT watchkeeper_data_age_seconds seconds\n",
        "watchkeeper_data_age_seconds{observation=\"nodes\"} 0.",
        "watchkeeper_data_fresh{observation=\"nodes\"} 1.0\n",
        "watchkeeper_cycles_total{observation=\"nodes\"} ",
        // The long one, and 6 of the 26 other observations; the long one, and 11 of the 61 other sources.
        "watchkeeper_series_dropped 19.0\n",
        "watchkeeper_source_answering{observation=\"nodes\",source=\"n0\"} 1.0\n",
        "watchkeeper_source_answering{observation=\"nodes\",source=\"n1\"} 0.0\n",
        "watchkeeper_source_answering{observation=\"nodes\",source=\"a \\\"quote\\\"\\n\"} ",
        "watchkeeper_source_failures_total{observation=\"nodes\",source=\"n0\"} 0\n",
    ] {
        assert!(text.contains(line), "{line:?} is missing");
    }
    assert!(text.ends_with("# EOF\n") && !text.contains("hunter2") && !text.contains("source=\"n49\""));
    assert!(!text.contains("source_failures_total{observation=\"nodes\",source=\"n1\"} 0\n"));
    assert_eq!(text.lines().filter(|line| line.starts_with("watchkeeper_data_fresh{")).count(), OBSERVATIONS);
    println!("stop: {} runtimes", group.stop_all().await.len());
    Ok(())
}

/// What there is to copy is short: 30 lines, without its constants.
#[test]
fn it_has_30_lines() {
    let source = include_str!("metrics.rs");
    let body = source.split_once("fn scrape(").and_then(|(_, rest)| rest.split_once("\n}\n")).unwrap().0;
    assert_eq!(body.lines().skip(1).count(), 30);
}

#[test]
fn the_metrics_of_a_group_are_bounded_and_named_by_convention() {
    main().unwrap();
}
