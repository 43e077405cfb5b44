//! Reading and writing keys.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use tokio::time::timeout;

use super::body::Body;
use super::error::Refusal;
use super::{Answer, App};
use crate::api::{ErrorCode, ReadAnswer, ReadRequest, WriteRequest, Written};
use crate::node::raft::AppliedEntry;

pub(super) async fn write(State(app): State<Arc<App>>, Body(request): Body<WriteRequest>) -> Answer<Written> {
    check_key(&request.key)?;
    let (key, serial) = (request.key.clone(), request.serial);
    let written = timeout(app.request_timeout, app.raft.client_write(request)).await;
    let applied = written.map_err(|_| not_committed(&app))??;
    match applied.data {
        AppliedEntry::Written(written) => Ok(Json(written)),
        AppliedEntry::Stale { last } => Err(Refusal::new(
            ErrorCode::StaleSerial,
            format!(
                "serial {serial} of `{key}` is older than its last write, {last}: \
                 use a greater one for a new write"
            ),
        )),
        AppliedEntry::Nothing => {
            Err(Refusal::new(ErrorCode::Internal, "a write was applied as something else"))
        }
    }
}

pub(super) async fn read(
    State(app): State<Arc<App>>,
    Body(request): Body<ReadRequest>,
) -> Answer<ReadAnswer> {
    check_key(&request.key)?;
    timeout(app.request_timeout, app.raft.ensure_linearizable()).await.map_err(|_| not_committed(&app))??;
    let key = request.key;
    match app.data.get(&key)? {
        Some(record) => Ok(Json(ReadAnswer { key, value: record.value })),
        None => Err(Refusal::new(ErrorCode::KeyNotFound, format!("`{key}` was never written"))),
    }
}

fn check_key(key: &str) -> Result<(), Refusal> {
    if key.is_empty() {
        return Err(Refusal::bad_request("`key` is empty: give it a name"));
    }
    Ok(())
}

pub(super) fn not_committed(app: &App) -> Refusal {
    Refusal::new(
        ErrorCode::NotCommitted,
        format!(
            "no quorum answered within {:?}; the request may still be executed: repeat it, \
             a write with the same serial",
            app.request_timeout
        ),
    )
}
