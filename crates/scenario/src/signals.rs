//! Signals that end a run.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Resolves at SIGINT (Ctrl-C) or SIGTERM, for [`Scenario::run_until`](crate::Scenario::run_until).
///
/// From this call on, and for the rest of the process's life, the signals no longer end the process: a
/// run that was cancelled by one ends within its limits.
///
/// # Errors
///
/// The handlers could not be installed.
///
/// # Panics
///
/// If there is no tokio runtime with I/O here (`enable_io`).
pub fn ctrl_c() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        let name = tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        };
        tracing::warn!("{name}: the run is cancelled");
    })
}
