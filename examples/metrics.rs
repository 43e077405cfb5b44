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
use watchkeeper::{DynError, ObservedSource, observe};

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

async fn probe(node: ObservedSource<u64>) -> Result<u64, DynError> {
    if node.source == 1 { Err("refused: password=hunter2".into()) } else { Ok(node.source) }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), DynError> {
    let odd = [("a \"quote\"\n".to_owned(), 0), ("long".repeat(100), 0)];
    let nodes: Vec<_> = odd.into_iter().chain((0..60).map(|nth| (format!("n{nth}"), nth))).collect();
    let group = ObservationGroup::new();
    for (name, nodes) in (0..25).map(|nth| (format!("{nth}"), nodes[nth..].to_vec())) {
        group.add_as(&name, observe(Duration::from_secs(1), nodes, probe).await?)?;
    }
    let text = scrape(&group)?;
    let has = |line: &str| assert!(text.lines().any(|shown| shown == line), "{line} is missing");
    has("watchkeeper_data_fresh{observation=\"0\"} 1.0");
    has("watchkeeper_source_answering{observation=\"0\",source=\"n1\"} 0.0");
    has("watchkeeper_source_failures_total{observation=\"0\",source=\"a \\\"quote\\\"\\n\"} 0");
    has("watchkeeper_series_dropped 83.0"); // 5 of 25 observations, and 78 sources beyond their 50
    assert!(text.ends_with("# EOF\n") && !text.contains("hunter2") && !text.contains("longlong"));
    Ok(())
}
