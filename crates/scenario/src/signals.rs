//! Signals that end a run.

use std::io;
use std::os::unix::process::CommandExt;
use std::pin::Pin;
use std::process::{Command, exit};
use std::sync::{Mutex, mpsc};
use std::task::{Context, Poll};
use std::thread;

use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::sync::lock;

/// Resolves at SIGINT (Ctrl-C) or SIGTERM, for [`Scenario::run_until`](crate::Scenario::run_until).
///
/// A run that was cancelled by a signal ends within its limits. A second signal ends the process at once, with exit
/// code 130 for SIGINT and 143 for SIGTERM. That may leave containers and pods, but no child processes that die with
/// their parent.
///
/// After the future is dropped, which `run_until` does at the end of the run, the signals have their default
/// effect again: they end the process. An app that handles these signals itself awaits its own handlers
/// instead. Several of these futures may be awaited at a time; a signal resolves all of them.
///
/// A separate thread waits for the signals, so that a second signal also ends a process whose other threads are
/// blocked.
///
/// # Errors
///
/// The handlers could not be installed, or no thread could be started.
///
/// # Cancel safety
///
/// Dropping the future restores the default effect of the signals, also if it has not resolved.
pub fn ctrl_c() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    LISTENER.wait()
}

/// The signals, with the exit code of a shell, and the name for `kill`.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Interrupt,
    Terminate,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "INT",
            Self::Terminate => "TERM",
        }
    }

    fn exit_code(self) -> i32 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

static LISTENER: Listener =
    Listener { waiting: Mutex::new(Waiting { started: false, begun: 0, runs: Vec::new() }) };

struct Listener {
    waiting: Mutex<Waiting>,
}

struct Waiting {
    /// Whether the thread runs.
    started: bool,
    /// How many waits have begun: the number of the next one.
    begun: u64,
    runs: Vec<(u64, CancellationToken)>,
}

/// A run that is cancelled by a signal.
struct CtrlC {
    number: u64,
    signalled: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Listener {
    fn wait(&'static self) -> io::Result<CtrlC> {
        let mut waiting = lock(&self.waiting);
        if !waiting.started {
            self.start()?;
            waiting.started = true;
        }
        let (number, token) = (waiting.begun, CancellationToken::new());
        waiting.begun += 1;
        waiting.runs.push((number, token.clone()));
        Ok(CtrlC { number, signalled: Box::pin(token.cancelled_owned()) })
    }

    /// Returns when the handlers are installed. They stay until the process ends.
    fn start(&'static self) -> io::Result<()> {
        let (report, installed) = mpsc::sync_channel(1);
        let listen = move || {
            let signals = runtime::Builder::new_current_thread().enable_io().build().and_then(|runtime| {
                let _context = runtime.enter();
                let signals = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
                Ok((runtime, signals))
            });
            let (runtime, (mut interrupt, mut terminate)) = match signals {
                Ok(signals) => signals,
                Err(error) => return drop(report.send(Err(error))),
            };
            let _ = report.send(Ok(()));
            runtime.block_on(async {
                loop {
                    let kind = tokio::select! {
                        _ = interrupt.recv() => Kind::Interrupt,
                        _ = terminate.recv() => Kind::Terminate,
                    };
                    self.signalled(kind);
                }
            });
        };
        thread::Builder::new().name("watchkeeper-signals".to_owned()).spawn(listen)?;
        installed.recv().unwrap_or_else(|_| Err(io::Error::other("the thread that waits for signals died")))
    }

    fn signalled(&self, kind: Kind) {
        let waiting = lock(&self.waiting);
        if waiting.runs.is_empty() {
            drop(waiting);
            die_of(kind);
        }
        let name = kind.name();
        if waiting.runs.iter().any(|(_, run)| run.is_cancelled()) {
            tracing::error!("SIG{name} again: the process ends at once");
            exit(kind.exit_code());
        }
        tracing::warn!("SIG{name}: the run is cancelled; a second signal ends the process at once");
        waiting.runs.iter().for_each(|(_, run)| run.cancel());
    }
}

/// Ends the process as the default handler does. There is no safe call to remove a handler, but a program that replaces
/// another one by `exec` has none.
fn die_of(kind: Kind) -> ! {
    let (name, code) = (kind.name(), kind.exit_code());
    let _ = Command::new("/bin/sh").arg("-c").arg(format!("kill -{name} $$; exit {code}")).exec();
    exit(code)
}

impl Future for CtrlC {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.signalled.as_mut().poll(context)
    }
}

impl Drop for CtrlC {
    fn drop(&mut self) {
        lock(&LISTENER.waiting).runs.retain(|(number, _)| *number != self.number);
    }
}
