//! What is sent.

/// An operation as a client sends it. The service adds the time of receipt and the source.
pub(crate) fn operation(n: usize) -> String {
    let success = !n.is_multiple_of(7);
    let milliseconds = n % 1_000;
    format!(
        r#"{{"endpoint":"/v1/playbooks/search","input_summary":"query {n:08}","success":{success},"duration_ms":{milliseconds},"output_summary":"3 hits","staffer_id":"s-17"}}"#
    )
}

/// So many of them as an array.
pub(crate) fn batch(count: usize) -> String {
    format!("[{}]", (0..count).map(operation).collect::<Vec<_>>().join(","))
}
