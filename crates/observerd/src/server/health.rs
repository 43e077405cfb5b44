//! `GET health`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use watchkeeper::report::one_line;
use watchkeeper_journal::Durability;

use super::app::App;
use super::query::Query;
use crate::loops::escalation::{Escalation, EscalationStatus};
use crate::loops::health::LoopHealth;

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HealthQuery {
    /// `ready`, the default: the status is 503 where the service is not ready. `live`: it is 200 as long as there is an answer.
    check: Option<HealthCheck>,
}

/// What the status code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum HealthCheck {
    Live,
    Ready,
}

/// The health of the service.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// Always true: there is an answer.
    live: bool,
    /// Whether operations are recorded as promised.
    ready: bool,
    /// If not, why.
    reasons: Vec<String>,
    /// What works, and is worth a look: a loop that is stale or fails, callers without a token.
    warnings: Vec<String>,
    /// What is for callers with the token; absent for others.
    #[serde(flatten)]
    details: Option<HealthDetails>,
    /// The loops, each with its freshness.
    loops: Vec<LoopHealth>,
}

/// What is for callers with the token.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HealthDetails {
    /// The version of the service.
    version: &'static str,
    /// For how long it runs.
    uptime_seconds: u64,
    /// `token` or `loopback-open`.
    auth: &'static str,
    /// Where operations go.
    storage: StorageHealth,
    /// The escalation of clusters of errors; `null` without a webhook.
    escalation: Option<EscalationStatus>,
}

/// Where operations go.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StorageHealth {
    /// What an answer promises: `memory`, `buffered`, `group` or `always`.
    durability: String,
    /// What is wrong now.
    problem: Option<String>,
    /// How many problems there were since the start.
    problems: u64,
    /// Operations that wait in memory for the disk.
    in_memory: u64,
    /// The sequence of the next operation.
    next_sequence: u64,
    /// Whether the start had to mend something, or found something missing: see the log.
    recovered: bool,
}

/// Whether the service is live and ready
///
/// It needs no token. Paths, addresses, errors and counts are for callers who have it.
#[utoipa::path(
    get, path = "/health", tag = "service", params(("check" = Option<HealthCheck>, Query, description = "`ready`, the default: 503 where the service is not ready; `live`: 200 as long as there is an answer")),
    security((), ("token" = [])),
    responses((status = 200, body = Health), (status = 503, body = Health, description = "It is not ready")),
)]
pub(crate) async fn health(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Query(query): Query<HealthQuery>,
) -> (StatusCode, Json<Health>) {
    let health = app.health();
    let health = if app.access.check(&headers).is_ok() { health } else { health.without_details() };
    let is_ok = health.ready || query.check == Some(HealthCheck::Live);
    (if is_ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(health))
}

impl Health {
    /// What anybody may know who reaches the port: no paths, addresses, errors or counts.
    fn without_details(self) -> Self {
        let short = |texts: Vec<String>| {
            let short = |text: String| text.split(':').next().unwrap_or_default().to_owned();
            texts.into_iter().map(short).collect()
        };
        let known = |known: LoopHealth| LoopHealth { last_error: None, ..known };
        Self {
            reasons: short(self.reasons),
            warnings: short(self.warnings),
            details: None,
            loops: self.loops.into_iter().map(known).collect(),
            ..self
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready
    }
}

impl App {
    pub(crate) fn health(&self) -> Health {
        let (storage, loops) = (self.storage_health(), self.loops.health());
        let mut reasons: Vec<String> =
            storage.problem.iter().map(|problem| format!("storage: {problem}")).collect();
        if self.stop.is_cancelled() {
            reasons.push("the service is stopping".to_owned());
        }
        let mut warnings: Vec<_> = loops.iter().filter_map(LoopHealth::warning).collect();
        warnings.extend(self.loops.corrections_warnings());
        let escalation = self.loops.escalation().map(Escalation::status);
        if let Some(EscalationStatus { failing: true, last_error, .. }) = &escalation {
            warnings.push(format!("escalation fails: {}", last_error.as_deref().unwrap_or("see the log")));
        }
        if self.access.is_open() {
            warnings.push(
                "each process of this machine may call without a token (auth = \"loopback-open\")".to_owned(),
            );
        }
        if self.store.journal().durability() == Durability::Memory {
            warnings.push("operations are in memory alone: set persist_path, or give --data-dir".to_owned());
        }
        Health {
            live: true,
            ready: reasons.is_empty(),
            reasons,
            warnings,
            details: Some(HealthDetails {
                version: env!("CARGO_PKG_VERSION"),
                uptime_seconds: self.started.elapsed().as_secs(),
                auth: if self.access.is_open() { "loopback-open" } else { "token" },
                storage,
                escalation,
            }),
            loops,
        }
    }

    fn storage_health(&self) -> StorageHealth {
        let journal = self.store.journal();
        let health = journal.health();
        StorageHealth {
            durability: journal.durability().to_string(),
            problem: health.problem.map(|problem| one_line(&problem.to_string(), 300)),
            problems: health.problems,
            in_memory: health.in_memory,
            next_sequence: journal.cursor().seq(),
            recovered: !journal.recovery().is_clean(),
        }
    }
}
