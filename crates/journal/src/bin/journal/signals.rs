//! Ending on SIGINT and SIGTERM.

use std::io;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// How long the output may take after a signal.
const GRACE: Duration = Duration::from_millis(500);

/// Whether a signal has come.
pub(crate) struct Stop {
    is_stopped: Arc<AtomicBool>,
    stopped: Receiver<()>,
}

impl Stop {
    /// Handles the signals from now on. A process whose output is blocked ends by itself half a second after one.
    pub(crate) fn on_signals() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (sender, stopped) = channel();
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stop = Self { is_stopped: Arc::clone(&is_stopped), stopped };
        let signal = {
            let _entered = runtime.enter();
            signal()?
        };
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || wait_for(&runtime, signal, &is_stopped, &sender))?;
        Ok(stop)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// Waits, and returns false if a signal has come.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        !self.is_stopped() && self.stopped.recv_timeout(time) == Err(RecvTimeoutError::Timeout)
    }
}

fn wait_for(
    runtime: &Runtime,
    signal: impl Future<Output = ()>,
    is_stopped: &AtomicBool,
    sender: &Sender<()>,
) {
    runtime.block_on(signal);
    is_stopped.store(true, Ordering::Relaxed);
    // The program may have ended.
    let _ = sender.send(());
    thread::sleep(GRACE);
    process::exit(0);
}

/// Handles the signals from now on, and waits for one. It needs a tokio runtime.
#[cfg(unix)]
pub(crate) fn signal() -> io::Result<impl Future<Output = ()> + Send> {
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
pub(crate) fn signal() -> io::Result<impl Future<Output = ()> + Send> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}
