//! The description in `OpenAPI`: what the routes say of themselves, and what holds for each of them.

use http::StatusCode;
use utoipa::openapi::path::{Operation, Parameter, PathItem};
use utoipa::openapi::schema::{Schema, SchemaType, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Paths, Ref, RefOr, ResponseBuilder};

use super::problem::PROBLEM_JSON;

/// Problems of each route.
const ALL: [StatusCode; 6] = [
    StatusCode::BAD_REQUEST,
    StatusCode::FORBIDDEN,
    StatusCode::MISDIRECTED_REQUEST,
    StatusCode::TOO_MANY_REQUESTS,
    StatusCode::INTERNAL_SERVER_ERROR,
    StatusCode::SERVICE_UNAVAILABLE,
];

/// Further problems of routes with a body.
const WITH_BODY: [StatusCode; 6] = [
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::CONFLICT,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    StatusCode::UNPROCESSABLE_ENTITY,
    StatusCode::INSUFFICIENT_STORAGE,
];

/// The document: routes that need a token, and routes that need none, under a prefix.
pub(crate) fn document(guarded: OpenApi, open: OpenApi, prefix: &str) -> OpenApi {
    let mut both = guarded;
    both.merge(open);
    for item in both.paths.paths.values_mut() {
        for operation in operations(item) {
            add_problems(operation);
            for parameter in operation.parameters.iter_mut().flatten() {
                if let RefOr::T(parameter) = parameter {
                    forbid_null(parameter);
                }
            }
        }
    }
    let mut all = OpenApi::new(both.info.clone(), Paths::new());
    std::mem::swap(&mut all.components, &mut both.components);
    std::mem::swap(&mut all.tags, &mut both.tags);
    std::mem::swap(&mut all.security, &mut both.security);
    let mut all = all.nest(prefix, both);
    let token = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    all.components.get_or_insert_default().add_security_scheme("token", token);
    all
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post].into_iter().flatten()
}

/// A parameter may be missing, and is never `null`, which is a text in a URL and in a head.
fn forbid_null(parameter: &mut Parameter) {
    if let Some(RefOr::T(Schema::Object(object))) = &mut parameter.schema
        && let SchemaType::Array(types) = &object.schema_type
        && let Some(given) = types.iter().find(|known| !matches!(known, Type::Null))
    {
        object.schema_type = SchemaType::Type(given.clone());
    }
}

fn add_problems(operation: &mut Operation) {
    // Its own security says that none is needed.
    let has_token = operation.security.is_none();
    let with_body: &[_] = if operation.request_body.is_some() { &WITH_BODY } else { &[] };
    let token: &[_] = if has_token { &[StatusCode::UNAUTHORIZED] } else { &[] };
    for status in ALL.iter().chain(with_body).chain(token) {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let reason = status.canonical_reason().unwrap_or("Problem");
        let response = || RefOr::T(ResponseBuilder::new().description(reason).build());
        let documented = operation.responses.responses.entry(status.as_str().to_owned());
        if let RefOr::T(response) = documented.or_insert_with(response) {
            response.content.insert(PROBLEM_JSON.to_owned(), RefOr::T(content));
        }
    }
}
