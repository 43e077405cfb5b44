//! The load: `wrk`, with one thread of its own.

use std::net::SocketAddr;

use tokio::process::Command;

use super::server::TOKEN;

/// What one run has measured. Times are microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) per_second: f64,
    pub(crate) requests: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

/// # Panics
///
/// It is missing.
pub(crate) fn is_there() {
    let found = std::process::Command::new("wrk").arg("-v").output();
    assert!(found.is_ok(), "`wrk` is missing: install it (Debian: apt install wrk), or choose other rows");
}

/// Requests for so many seconds. A body makes it a POST.
pub(crate) async fn run(
    address: SocketAddr,
    path: &str,
    body: Option<&str>,
    connections: usize,
    seconds: usize,
) -> Measured {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/wrk.lua");
    let output = Command::new("wrk")
        .args(["--threads", "1", "--timeout", "10s", "--script", script])
        .args(["--connections", &connections.to_string(), "--duration", &format!("{seconds}s")])
        .arg(format!("http://{address}{path}"))
        .env("OBSERVERD_TOKEN", TOKEN)
        .env("FIGURES_METHOD", if body.is_some() { "POST" } else { "GET" })
        .env("FIGURES_BODY", body.unwrap_or_default())
        .kill_on_drop(true)
        .output()
        .await
        .expect("wrk runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("figures "));
    let line = line.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    let numbers: Vec<f64> = line.split(' ').map(|number| number.parse().expect("a number")).collect();
    let [requests, micros, failed, p50, p99, p999] = numbers[..] else { panic!("{line}") };
    assert!(failed == 0.0, "{failed} of {requests} requests to {path} have failed: {text}");
    Measured { per_second: requests / micros * 1e6, requests, p50, p99, p999 }
}
