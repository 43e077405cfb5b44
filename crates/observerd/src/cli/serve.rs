//! `observerd serve`.

use std::fmt::Write as _;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;
use watchkeeper::report::error_chain;
use watchkeeper_journal::Durability;

use super::outcome::note;
use crate::config::{self, Auth, Flags, ObserverdConfig};
use crate::server::token::Token;
use crate::service::Service;

/// How long the stop may take beyond the drain: the loops, and the journal's last sync.
const AFTER_DRAIN: Duration = Duration::from_secs(15);

/// Files that are no connections: segments, readers of them, webhooks.
const OTHER_FILES: u64 = 512;

/// Runs the service until SIGTERM or SIGINT
///
/// The first signal drains it: it accepts no more, answers what is open, and writes what was answered. A second one ends it at once.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  observerd serve\n  observerd serve --data-dir data --listen 127.0.0.1:0\n  \
    observerd serve --config observerd.toml --log debug"
)]
pub struct ServeArgs {
    /// The configuration, a TOML file with a block [observerd]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen; wins over `bind`
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// The directory of the journal; wins over `persist_path`
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A file with the token; wins over `token_file` and `OBSERVERD_TOKEN`
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// What is written to standard error
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: Level,
}

/// Standard error. A log that cannot be written, on a full disk for one, must not end what is logged.
struct QuietStderr;

impl Write for QuietStderr {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = std::io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let _ = std::io::stderr().flush();
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Level {
    Off,
    Error,
    Warn,
    Info,
    Debug,
}

impl From<Level> for tracing_subscriber::filter::LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Off => Self::OFF,
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
        }
    }
}

pub(super) async fn run(args: ServeArgs) -> ExitCode {
    let filter = tracing_subscriber::filter::LevelFilter::from(args.log);
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_max_level(filter)
        .with_ansi(is_terminal)
        .with_writer(|| QuietStderr)
        // It would print them to where they come from, and panic.
        .log_internal_errors(false)
        .init();
    let served = match args.config().and_then(|config| token(&config).map(|token| (config, token))) {
        Ok((config, token)) => serve(config, token).await,
        Err(error) => Err(error),
    };
    match served {
        Ok(code) => code,
        Err(error) => {
            note(&error);
            ExitCode::from(2)
        }
    }
}

impl ServeArgs {
    /// The configuration with what the flags say.
    fn config(self) -> Result<ObserverdConfig, String> {
        let flags = Flags { listen: self.listen, data_dir: self.data_dir, token_file: self.token_file };
        let config = config::load(self.config.as_deref(), &flags).map_err(|error| error_chain(&error))?;
        Ok(config.observerd)
    }
}

/// The token that the configuration or the environment gives.
fn token(config: &ObserverdConfig) -> Result<Option<Token>, String> {
    if config.auth == Auth::LoopbackOpen {
        return Ok(None);
    }
    let given = if config.token_file.as_os_str().is_empty() {
        std::env::var_os("OBSERVERD_TOKEN").map(|value| Token::from_environment(&value))
    } else {
        Some(Token::from_file(&config.token_file))
    };
    given.transpose().map_err(|error| error_chain(&error))
}

/// The signals that end the service.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

async fn serve(config: ObserverdConfig, token: Option<Token>) -> Result<ExitCode, String> {
    let mut signals = Signals::new().map_err(|error| format!("cannot wait for signals: {error}"))?;
    // What programs report may be private: files are for this user alone.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    raise_open_files(config.limits.connections);
    let limit = config.limits.drain + AFTER_DRAIN;
    let starting = Service::start(config, token);
    let service = tokio::select! {
        started = starting => started.map_err(|error| error_chain(&error))?,
        () = signals.next() => return Ok(ExitCode::SUCCESS),
    };
    say(&service);
    notify(&[NotifyState::Ready]);
    let watchdog = sd_notify::watchdog_enabled().map(|limit| tokio::spawn(watchdog(limit / 2)));
    let temporary = service.temporary_directory().map(Path::to_path_buf);
    signals.next().await;
    notify(&[NotifyState::Stopping]);
    tracing::info!("stopping: a second signal ends it at once");
    let stopped = tokio::select! {
        stopped = timeout(limit, service.stop()) => stopped,
        () = signals.next() => {
            end_at_once("ended at once by a second signal: what was not answered may be lost", temporary.as_deref());
        }
    };
    if let Some(watchdog) = watchdog {
        watchdog.abort();
    }
    match stopped {
        Ok(Ok(())) => Ok(ExitCode::SUCCESS),
        Ok(Err(error)) => {
            note(&error_chain(&error));
            Ok(ExitCode::FAILURE)
        }
        Err(_) => {
            // What hangs, a disk for one, would keep the executor from ending.
            let why = format!("not stopped within {} s: is the disk answering?", limit.as_secs());
            end_at_once(&why, temporary.as_deref());
        }
    }
}

/// Ends the process without the destructors: what a token was in goes first.
fn end_at_once(why: &str, temporary: Option<&Path>) -> ! {
    note(why);
    if let Some(Err(error)) = temporary.map(std::fs::remove_dir_all) {
        note(&format!("the directory of the token is left: {error}"));
    }
    std::process::exit(1);
}

/// What a person or a script waits for. The service goes on if nobody reads it.
fn say(service: &Service) {
    let mut lines = String::new();
    if service.store().journal().durability() == Durability::Memory {
        lines.push_str(
            "everything is in memory, and is gone with this process: give --data-dir DIR to keep it\n",
        );
    }
    if let Some(path) = service.token_path() {
        let _ = writeln!(lines, "the token is in {}", path.display());
    }
    let _ = writeln!(lines, "listening on http://{}", service.address());
    let mut out = std::io::stdout();
    if let Err(error) = out.write_all(lines.as_bytes()).and_then(|()| out.flush()) {
        tracing::warn!(%error, address = %service.address(), "standard output cannot be written");
    }
}

/// Connections are files: as many as the settings allow, if the system does.
fn raise_open_files(connections: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let (limit, wanted) = (getrlimit(Resource::Nofile), connections as u64 + OTHER_FILES);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let current = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: limit.maximum });
    if raised.is_err() || current < wanted {
        tracing::warn!(
            connections,
            current,
            "the system allows fewer open files than limits.connections: raise LimitNOFILE, or lower the setting"
        );
    }
}

/// Says something to systemd, if it has started us.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd cannot be notified");
    }
}

/// An executor that does not run this is restarted by systemd.
async fn watchdog(every: Duration) {
    let mut ticks = tokio::time::interval(every.max(Duration::from_millis(100)));
    loop {
        ticks.tick().await;
        notify(&[NotifyState::Watchdog]);
    }
}
