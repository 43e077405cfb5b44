//! Answers as bytes, where no request was read: hyper's own refusals, late heads, too many connections.

use std::fmt::Write as _;

use http::StatusCode;

use super::problem::{PROBLEM_JSON, Problem};

/// A problem as a whole answer after which the connection is closed.
pub(crate) fn answer(problem: &Problem) -> Vec<u8> {
    let body = serde_json::to_vec(problem).unwrap_or_default();
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut head = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: {PROBLEM_JSON}\r\ncontent-length: {}\r\nconnection: close\r\n\
         cache-control: no-store\r\nx-content-type-options: nosniff\r\n\
         cross-origin-resource-policy: same-origin\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        body.len()
    );
    if let Some(seconds) = problem.retry_after {
        let _ = write!(head, "retry-after: {seconds}\r\n");
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend(body);
    bytes
}

/// The problem for an answer that hyper wrote by itself, which begins with a status line.
pub(crate) fn refused_head(written: &[u8]) -> Problem {
    match written.get(9..12) {
        Some(b"431") => Problem::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "head-too-large",
            "The head of the request is too large",
            "the request line and the header fields have over 16 KiB, or there are over 100 fields: send fewer",
        ),
        Some(b"414") => Problem::new(
            StatusCode::URI_TOO_LONG,
            "uri-too-long",
            "The address of the request is too long",
            "send a shorter address",
        ),
        _ => Problem::new(
            StatusCode::BAD_REQUEST,
            "malformed-request",
            "The request is not HTTP/1.1",
            "the head of the request cannot be read: send plain HTTP/1.1 (not TLS) with valid header fields",
        ),
    }
}

/// The problem for a head that came only in part.
pub(crate) fn late_head() -> Problem {
    Problem::new(
        StatusCode::REQUEST_TIMEOUT,
        "slow-head",
        "The request was too slow",
        "the head of the request was not there in time: send it at once",
    )
}

/// The problem for a head that was not complete when the service began to stop.
pub(crate) fn stopping() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "stopping",
        "The service is stopping",
        "nothing of the request was done: send it again when the service is back",
    )
    .retry_after(5)
}

/// The problem for a connection over a limit.
pub(crate) fn crowded() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "too-many-connections",
        "There are too many connections",
        "the limit of open connections, of all or of one address, is reached: use fewer connections, or try again later",
    )
    .retry_after(1)
}
