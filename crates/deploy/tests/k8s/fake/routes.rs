//! Requests: which object, and which verb.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, Query, Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::store::Key;
use super::{Asked, Shared, forward, watch};

type Parameters = HashMap<String, String>;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(answer).with_state(shared)
}

/// The objects of a list or watch.
pub(super) struct Selection {
    kind: String,
    namespace: Option<String>,
    label: Option<(String, String)>,
    name: Option<String>,
}

/// What a path names.
struct Path {
    kind: String,
    namespace: String,
    name: Option<String>,
    subresource: Option<String>,
}

impl Path {
    fn parse(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/api/v1/").or_else(|| path.strip_prefix("/apis/apps/v1/"))?;
        let words: Vec<String> = rest.split('/').map(str::to_owned).collect();
        let mut words = words.into_iter();
        let first = words.next()?;
        if first != "namespaces" {
            return Some(Self {
                kind: first,
                namespace: String::new(),
                name: words.next(),
                subresource: None,
            });
        }
        let namespace = words.next();
        let Some(kind) = words.next() else {
            return Some(Self { kind: first, namespace: String::new(), name: namespace, subresource: None });
        };
        let (name, subresource) = (words.next(), words.next());
        Some(Self { kind, namespace: namespace?, name, subresource })
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    if request.uri().path() == "/version" {
        return Json(json!({
            "major": "1", "minor": "33", "gitVersion": "v1.33.0-fake", "gitCommit": "", "gitTreeState": "",
            "buildDate": "", "goVersion": "", "compiler": "", "platform": "",
        }))
        .into_response();
    }
    let Some(path) = Path::parse(request.uri().path()) else {
        return refused(404, status(404, "NotFound", "the fake has no such path"));
    };
    let Query(parameters) = Query::<Parameters>::try_from_uri(request.uri()).unwrap();
    let watches = parameters.get("watch").is_some_and(|watch| watch == "true");
    let verb = match (request.method(), &path.name, watches) {
        (&Method::GET, _, true) => "watch",
        (&Method::GET, None, _) => "list",
        (&Method::GET, Some(_), _) => "get",
        (&Method::POST, ..) => "create",
        (&Method::PATCH, ..) => "patch",
        (&Method::DELETE, ..) => "delete",
        _ => return refused(405, status(405, "MethodNotAllowed", "the fake has no such method")),
    };
    let version = parameters.get("resourceVersion").and_then(|version| version.parse().ok());
    let refusal = shared.change(|state| {
        state.asked.push(Asked { verb, kind: path.kind.clone(), version });
        let refusal = state.refusals.iter().find(|refusal| refusal.verb == verb && refusal.kind == path.kind);
        refusal.cloned()
    });
    if let Some(refusal) = refusal {
        return refused(refusal.code, refusal.status);
    }
    match path.subresource.as_deref() {
        None => {}
        Some("log") => return log(&shared, &path),
        Some("portforward") => {
            let (mut parts, _) = request.into_parts();
            let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
            return match upgrade {
                Ok(upgrade) => forward::forward(&shared, &key(&path), upgrade, &parameters["ports"]),
                Err(rejection) => rejection.into_response(),
            };
        }
        Some(_) => return refused(404, status(404, "NotFound", "the fake has no such subresource")),
    }
    let selection = Selection::new(&path, &parameters);
    match verb {
        "watch" => {
            let bookmarks = parameters.get("allowWatchBookmarks").is_some_and(|allowed| allowed == "true");
            watch::watch(&shared, selection, version.unwrap_or_default(), bookmarks)
        }
        "list" => list(&shared, &selection),
        "get" => match shared.change(|state| state.store.get(&key(&path)).cloned()) {
            Some(object) => Json(object).into_response(),
            None => not_found(&path),
        },
        _ => {
            let applies = request
                .headers()
                .get("content-type")
                .is_some_and(|kind| kind.as_bytes() == b"application/apply-patch+yaml");
            let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
            write(&shared, verb, &path, &body, applies && parameters.contains_key("fieldManager"))
        }
    }
}

fn write(shared: &Shared, verb: &str, path: &Path, body: &Bytes, applies: bool) -> Response {
    let body: Value = if body.is_empty() { json!({}) } else { serde_json::from_slice(body).unwrap() };
    shared.change(|state| {
        let mut key = key(path);
        if key.name.is_empty() {
            body["metadata"]["name"].as_str().unwrap_or_default().clone_into(&mut key.name);
        }
        let exists = state.store.get(&key).is_some();
        let home = Key::of("namespaces", "", &key.namespace);
        match verb {
            "create" if exists => {
                let message = format!("{} {:?} already exists", key.kind, key.name);
                refused(409, status(409, "AlreadyExists", &message))
            }
            "create" | "patch" if !key.namespace.is_empty() && state.store.get(&home).is_none() => {
                let message = format!("namespaces {:?} not found", key.namespace);
                refused(404, status(404, "NotFound", &message))
            }
            "create" => (StatusCode::CREATED, Json(state.store.put(&key, body))).into_response(),
            "patch" if applies => Json(state.store.put(&key, body)).into_response(),
            "delete" if exists => delete(state, &key, &body),
            "delete" => not_found(path),
            _ => refused(415, status(415, "UnsupportedMediaType", "the fake takes server-side apply only")),
        }
    })
}

fn delete(state: &mut super::State, key: &Key, options: &Value) -> Response {
    let mut object = state.store.get(key).cloned().unwrap_or_default();
    let expected = &options["preconditions"]["uid"];
    if !expected.is_null() && *expected != object["metadata"]["uid"] {
        let message = format!("the UID in the precondition ({expected}) does not match");
        return refused(409, status(409, "Conflict", &message));
    }
    let at_once = options["gracePeriodSeconds"] == json!(0);
    let lingers = match key.kind.as_str() {
        "namespaces" => state.held.contains("namespaces"),
        "pods" => state.has_kubelet && !at_once,
        _ => false,
    };
    if lingers {
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        return Json(state.store.put(key, object)).into_response();
    }
    let deleted = if key.kind == "namespaces" {
        state.store.remove_namespace(&key.name)
    } else {
        state.store.remove(key)
    };
    Json(deleted).into_response()
}

fn list(shared: &Shared, selection: &Selection) -> Response {
    let state = shared.lock();
    let objects = state.store.of_kind(&selection.kind);
    let items: Vec<Value> = objects
        .into_iter()
        .filter(|(key, object)| selection.matches(key, object))
        .map(|(_, object)| object)
        .collect();
    Json(json!({
        "apiVersion": selection.api_version(), "kind": format!("{}List", selection.kind()),
        "metadata": { "resourceVersion": state.store.version().to_string() },
        "items": items,
    }))
    .into_response()
}

fn log(shared: &Shared, path: &Path) -> Response {
    let state = shared.lock();
    let uid = state.store.get(&key(path)).and_then(|pod| pod["metadata"]["uid"].as_str());
    match uid.and_then(|uid| state.logs.get(uid)).map(std::fs::read_to_string) {
        Some(Ok(text)) => text.into_response(),
        _ => not_found(path),
    }
}

impl Selection {
    fn new(path: &Path, parameters: &Parameters) -> Self {
        let pair = |parameter: &str| {
            let (name, value) = parameters.get(parameter)?.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        };
        Self {
            kind: path.kind.clone(),
            namespace: Some(path.namespace.clone()).filter(|namespace| !namespace.is_empty()),
            label: pair("labelSelector"),
            name: pair("fieldSelector").map(|(field, name)| {
                assert_eq!(field, "metadata.name", "the fake selects by no other field");
                name
            }),
        }
    }

    pub(super) fn matches(&self, key: &Key, object: &Value) -> bool {
        key.kind == self.kind
            && self.namespace.as_ref().is_none_or(|namespace| *namespace == key.namespace)
            && self.name.as_ref().is_none_or(|name| *name == key.name)
            && self.label.as_ref().is_none_or(|(label, value)| object["metadata"]["labels"][label] == *value)
    }

    pub(super) fn kind(&self) -> &'static str {
        match self.kind.as_str() {
            "namespaces" => "Namespace",
            "services" => "Service",
            "statefulsets" => "StatefulSet",
            _ => "Pod",
        }
    }

    pub(super) fn api_version(&self) -> &'static str {
        if self.kind == "statefulsets" { "apps/v1" } else { "v1" }
    }
}

fn key(path: &Path) -> Key {
    Key::of(&path.kind, &path.namespace, path.name.as_deref().unwrap_or_default())
}

pub(super) fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {},
        "status": "Failure", "code": code, "reason": reason, "message": message,
    })
}

pub(super) fn refused(code: u16, status: Value) -> Response {
    (StatusCode::from_u16(code).unwrap(), Json(status)).into_response()
}

fn not_found(path: &Path) -> Response {
    let message = format!("{} {:?} not found", path.kind, path.name.as_deref().unwrap_or_default());
    refused(404, status(404, "NotFound", &message))
}
