//! `GET /metrics`: what the service knows of itself, in the `OpenMetrics` format.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::app::App;

/// The media type of the format.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LoopLabel {
    r#loop: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

/// Metrics in the `OpenMetrics` format.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    match scrape(&app) {
        Ok(text) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn scrape(app: &App) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("observerd");
    app.metrics.register(&mut registry);
    let build = Family::<BuildLabels, Gauge>::default();
    build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
    registry.register("build_info", "The version", build);
    let gauge = |registry: &mut Registry, name: &str, help: &str, value: usize| {
        let gauge = Gauge::<i64>::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    };
    let open = usize::try_from(app.connections.open()).unwrap_or(usize::MAX);
    gauge(&mut registry, "http_connections", "Open connections", open);
    gauge(&mut registry, "streams", "Readers of streams", app.streams.readers());
    gauge(&mut registry, "body_bytes", "Memory of bodies that are read or stored", app.bodies.used());
    let refused = Counter::<u64>::default();
    refused.inc_by(app.connections.refused());
    registry.register("http_connections_refused", "Connections over the limit", refused);
    gauge(&mut registry, "ring_operations", "Operations that the statistics are of", app.store.stats().total);
    let health = app.health();
    gauge(
        &mut registry,
        "ready",
        "Whether operations are recorded as promised",
        usize::from(health.is_ready()),
    );
    let journal = app.store.journal();
    let (next, oldest) = (journal.cursor().seq(), journal.oldest().seq());
    let records = usize::try_from(next - oldest.min(next)).unwrap_or(usize::MAX);
    gauge(&mut registry, "journal_records", "Sequences that are kept", records);
    let behind = usize::try_from(next.saturating_sub(app.live.next())).unwrap_or(usize::MAX);
    gauge(&mut registry, "streams_behind", "Records that streams do not have yet", behind);
    let problems = Counter::<u64>::default();
    problems.inc_by(journal.health().problems);
    registry.register("journal_problems", "Problems of the journal", problems);
    loops(&mut registry, app);
    if let Some(escalation) = app.loops.escalation() {
        let status = escalation.status();
        gauge(
            &mut registry,
            "escalation_failing",
            "Whether the last attempts have failed",
            usize::from(status.failing),
        );
        gauge(&mut registry, "escalation_waiting", "Clusters that wait to be posted", status.waiting);
        let [posted, failed] = <[Counter; 2]>::default();
        posted.inc_by(status.posted);
        failed.inc_by(status.failed);
        registry.register("escalation_posted", "Clusters that were posted", posted);
        registry.register("escalation_failed", "Clusters that were given up", failed);
    }
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// The loops, whose names are ours.
fn loops(registry: &mut Registry, app: &App) {
    let [fresh, age] = <[Family<LoopLabel, Gauge<f64, AtomicU64>>; 2]>::default();
    registry.register("loop_fresh", "Whether the last success is recent", fresh.clone());
    registry.register_with_unit("loop_age", "Age of the last success", Unit::Seconds, age.clone());
    for known in app.loops.health() {
        let label = LoopLabel { r#loop: known.name };
        fresh.get_or_create(&label).set(f64::from(u8::from(known.fresh)));
        if let Some(seconds) = known.age_seconds {
            age.get_or_create(&label).set(seconds);
        }
    }
}
