//! The routes, and their description in `OpenAPI`.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use tokio::time::Instant;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::App;
use super::auth::require_token;
use super::document::document;
use super::{analysis, health, read, record, scrape};

/// The two prefixes of each route.
pub(crate) const PREFIXES: [&str; 2] = ["/v1/observer", "/observer"];

#[derive(OpenApi)]
#[openapi(
    info(
        title = "observerd",
        description = "A witness: it records the operations of programs, and what it learns of them. Each route is under `/observer` too. \
            Every refusal is a problem document (RFC 9457).",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    tags(
        (name = "operations", description = "What programs did"),
        (name = "analysis", description = "What the service learns of it"),
        (name = "service", description = "The service itself"),
    ),
    components(schemas(
        super::problem::Problem,
        super::events::query::OutcomeFilter,
        super::events::page::EventsItem,
        super::events::page::EventsGap,
        health::HealthCheck,
    )),
    security(("token" = [])),
)]
struct Description;

/// The routes. All but the health and the description need a token.
pub(crate) fn routes(app: &Arc<App>) -> Router {
    let guarded = OpenApiRouter::<Arc<App>>::with_openapi(Description::openapi())
        .routes(routes!(record::event))
        .routes(routes!(record::events, read::events))
        .routes(routes!(read::stats))
        .routes(routes!(analysis::clusters))
        .routes(routes!(analysis::playbooks))
        .routes(routes!(analysis::review_operation));
    let open = OpenApiRouter::<Arc<App>>::new().routes(routes!(health::health));
    let (guarded, described) = guarded.split_for_parts();
    let (open, more) = open.split_for_parts();
    let described = Arc::new(document(described, more, PREFIXES[0]));
    let open = open.route(
        "/openapi.json",
        get(move || {
            let described = Arc::clone(&described);
            async move { Json(described) }
        }),
    );
    let under_prefixes = |router: &Router<Arc<App>>| {
        let nested = PREFIXES.iter().fold(Router::new(), |all, prefix| all.nest(prefix, router.clone()));
        nested.with_state(Arc::clone(app))
    };
    let metrics = Router::new().route("/metrics", get(scrape::metrics)).with_state(Arc::clone(app));
    let guarded = under_prefixes(&guarded)
        .merge(metrics)
        // Not for what is no route: 404 and 405 need no token.
        .route_layer(from_fn_with_state(Arc::clone(&app.access), require_token));
    guarded.merge(under_prefixes(&open))
}

/// Counts each answer by its route, refusals of the shell among them.
pub(crate) async fn count(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>().cloned();
    // A path that is no route's is no label.
    let route = matched.as_ref().map_or("none", MatchedPath::as_str);
    let (method, begun) = (request.method().clone(), Instant::now());
    let response = next.run(request).await;
    app.metrics.answered(route, &method, response.status(), begun.elapsed());
    response
}
