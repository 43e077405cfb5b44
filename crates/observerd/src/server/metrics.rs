//! `GET /metrics`: what the service knows of itself, in the `OpenMetrics` format.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::app::App;
use crate::operation::{KNOWN_SOURCES, Operation};

/// The media type of the format.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the buckets of durations, in seconds.
const BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

type ByRoute = Family<RouteLabel, Histogram, fn() -> Histogram>;

/// Counters that are kept; what is known elsewhere is read for each scrape.
pub(crate) struct Metrics {
    operations: Family<SourceLabels, Counter>,
    refused: Family<ReasonLabel, Counter>,
    requests: Family<RequestLabels, Counter>,
    durations: ByRoute,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabels {
    source: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    method: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LoopLabel {
    r#loop: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            operations: Family::default(),
            refused: Family::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
        }
    }
}

impl Metrics {
    /// An operation that is valid has come in. A source that is not known is `other`: anybody may invent one.
    pub(crate) fn received(&self, operation: &Operation) {
        let known = KNOWN_SOURCES.iter().find(|known| **known == operation.source);
        let source = known.copied().unwrap_or("other");
        let outcome = if operation.success { "success" } else { "failure" };
        self.operations.get_or_create(&SourceLabels { source, outcome }).inc();
    }

    /// Valid operations were not recorded.
    pub(crate) fn refused(&self, reason: &'static str, count: usize) {
        self.refused.get_or_create(&ReasonLabel { reason }).inc_by(count as u64);
    }

    /// A request was answered. `route` is one of the router's, never a path.
    pub(crate) fn answered(&self, route: &str, method: &http::Method, status: StatusCode, took: Duration) {
        let labels =
            RequestLabels { route: route.to_owned(), method: known_method(method), status: status.as_u16() };
        self.requests.get_or_create(&labels).inc();
        let label = RouteLabel { route: route.to_owned() };
        self.durations.get_or_create(&label).observe(took.as_secs_f64());
    }
}

fn known_method(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
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
    let kept = &app.metrics;
    registry.register("operations", "Valid operations that came in", kept.operations.clone());
    registry.register("operations_refused", "Valid operations that were not recorded", kept.refused.clone());
    registry.register("http_requests", "Requests that were answered", kept.requests.clone());
    let durations = kept.durations.clone();
    registry.register_with_unit(
        "http_request_duration",
        "Until the head of the answer",
        Unit::Seconds,
        durations,
    );
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
    let problems = Counter::<u64>::default();
    problems.inc_by(journal.health().problems);
    registry.register("journal_problems", "Problems of the journal", problems);
    loops(&mut registry, app);
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
