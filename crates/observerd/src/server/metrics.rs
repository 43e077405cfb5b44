//! What is counted for `/metrics`.

use std::time::Duration;

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::operation::{KNOWN_SOURCES, Operation};

/// Upper bounds of the buckets of durations, in seconds.
const BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

type ByRoute = Family<RouteLabel, Histogram, fn() -> Histogram>;

/// Counters that are kept; what is known elsewhere is read for each scrape.
pub(crate) struct Metrics {
    operations: Family<OperationLabels, Counter>,
    repeated: Counter,
    refused: Family<ReasonLabel, Counter>,
    requests: Family<RequestLabels, Counter>,
    durations: ByRoute,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OperationLabels {
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

impl Default for Metrics {
    fn default() -> Self {
        Self {
            operations: Family::default(),
            repeated: Counter::default(),
            refused: Family::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
        }
    }
}

impl Metrics {
    /// How an operation is counted. A source that is not known is `other`: anybody may invent one.
    #[expect(clippy::unused_self, reason = "it is of these metrics")]
    pub(crate) fn labels(&self, operation: &Operation) -> OperationLabels {
        let known = KNOWN_SOURCES.iter().find(|known| **known == operation.source);
        let outcome = if operation.success { "success" } else { "failure" };
        OperationLabels { source: known.copied().unwrap_or("other"), outcome }
    }

    /// Operations were recorded, or a repeated request was answered again.
    pub(crate) fn recorded(&self, labels: &[OperationLabels], is_repeated: bool) {
        if is_repeated {
            self.repeated.inc_by(labels.len() as u64);
            return;
        }
        for labels in labels {
            self.operations.get_or_create(labels).inc();
        }
    }

    /// Valid operations were not recorded.
    pub(crate) fn refused(&self, reason: &'static str, count: usize) {
        self.refused.get_or_create(&ReasonLabel { reason }).inc_by(count as u64);
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("operations", "Operations of requests that were recorded", self.operations.clone());
        registry.register(
            "operations_repeated",
            "Operations of requests that were sent again with their key",
            self.repeated.clone(),
        );
        registry.register(
            "operations_refused",
            "Valid operations that were not recorded, or of which that is not known",
            self.refused.clone(),
        );
        registry.register("http_requests", "Requests that were answered", self.requests.clone());
        let durations = self.durations.clone();
        registry.register_with_unit(
            "http_request_duration",
            "Until the head of the answer",
            Unit::Seconds,
            durations,
        );
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
