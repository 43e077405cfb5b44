//! Ending on SIGINT and SIGTERM.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// How long the output may take after a signal.
const GRACE: Duration = Duration::from_millis(500);

/// Whether a command is to end.
#[derive(Clone, Default)]
pub(super) struct Stop {
    is_stopped: Arc<AtomicBool>,
    stopped: Arc<Notify>,
}

impl Stop {
    /// Handles the signals from now on. A process whose output is blocked ends by itself half a second after one.
    pub(super) fn on_signals() -> io::Result<Self> {
        let (signal, stop) = (signal()?, Self::default());
        let stopping = stop.clone();
        tokio::spawn(async move {
            signal.await;
            stopping.stop();
            tokio::time::sleep(GRACE).await;
            std::process::exit(0);
        });
        Ok(stop)
    }

    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        self.stopped.notify_one();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// Waits, and returns false if it is to end.
    pub(super) async fn wait(&self, time: Duration) -> bool {
        let ended = tokio::time::timeout(time, self.stopped.notified()).await;
        ended.is_err() && !self.is_stopped()
    }
}

/// Handles the signals from now on, and waits for one.
#[cfg(unix)]
pub(super) fn signal() -> io::Result<impl Future<Output = ()> + Send> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
pub(super) fn signal() -> io::Result<impl Future<Output = ()> + Send> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}
