//! Watches: streams of changes without an end, unless they are cut.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::watch as signal;

use super::Shared;
use super::routes::{Selection, refused, status};

/// How open watches end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// The server ends the answer, as it does when the time of a watch is over.
    Close,
    /// The connection breaks in the middle of the answer.
    Drop,
}

pub(super) fn watch(shared: &Arc<Shared>, selection: Selection, version: u64, bookmarks: bool) -> Response {
    let (is_gone, by_status) = {
        let state = shared.lock();
        (state.store.has_forgotten(version), state.gone_by_status)
    };
    if is_gone && by_status {
        return refused(410, gone());
    }
    if is_gone {
        return line(&json!({ "type": "ERROR", "object": gone() })).into_response();
    }
    let (mut changes, mut cuts) = (shared.changes.subscribe(), shared.cuts.subscribe());
    changes.mark_changed();
    cuts.mark_unchanged();
    let open = Open { shared: shared.clone(), selection, version, bookmarks, changes, cuts };
    let events = stream::unfold((Some(open), VecDeque::new()), |(mut open, mut ready)| async move {
        loop {
            if let Some(event) = ready.pop_front() {
                return Some((Ok::<_, io::Error>(line(&event)), (open, ready)));
            }
            match open.as_mut()?.next().await {
                Next::Events(events) => ready.extend(events),
                Next::End(Cut::Close) => return None,
                Next::End(Cut::Drop) => {
                    return Some((Err(io::ErrorKind::ConnectionReset.into()), (None, ready)));
                }
            }
        }
    });
    Body::from_stream(events).into_response()
}

struct Open {
    shared: Arc<Shared>,
    selection: Selection,
    version: u64,
    bookmarks: bool,
    changes: signal::Receiver<u64>,
    cuts: signal::Receiver<(u64, Cut)>,
}

enum Next {
    Events(Vec<Value>),
    End(Cut),
}

impl Open {
    async fn next(&mut self) -> Next {
        // Changes are sent before the connection is cut: a test cuts it after its own changes.
        tokio::select! {
            biased;
            changed = self.changes.changed() => if changed.is_err() { return Next::End(Cut::Close) },
            _ = self.cuts.changed() => return Next::End(self.cuts.borrow().1),
        }
        let state = self.shared.lock();
        let mut events = Vec::new();
        for change in state.store.since(self.version) {
            self.version = change.version;
            let wanted = match &change.key {
                Some(key) => self.selection.matches(key, &change.object),
                None => self.bookmarks,
            };
            if wanted {
                let mut object = change.object;
                object["apiVersion"] = json!(self.selection.api_version());
                object["kind"] = json!(self.selection.kind());
                events.push(json!({ "type": change.word, "object": object }));
            }
        }
        Next::Events(events)
    }
}

/// Cut by a test, or given up by the client.
impl Drop for Open {
    fn drop(&mut self) {
        self.shared.change(|state| state.watches_ended += 1);
    }
}

fn gone() -> Value {
    status(410, "Expired", "too old resource version")
}

fn line(event: &Value) -> Bytes {
    format!("{event}\n").into()
}
