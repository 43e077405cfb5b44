//! The service as a whole: what it is made of, and in which order it starts and stops.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::middleware::from_fn_with_state;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watchkeeper::report::debug_as_text;
use watchkeeper_journal::{CloseError, JournalConfig};

use crate::config::{Auth, ObserverdConfig};
use crate::live::Live;
use crate::loops::{Loops, LoopsError};
use crate::server::accept::{AcceptConfig, Drained, serve};
use crate::server::app::App;
use crate::server::auth::{Access, AuthError};
use crate::server::bodies::Bodies;
use crate::server::hosts::{Hosts, HostsError};
use crate::server::metrics::Metrics;
use crate::server::rate::RateLimit;
use crate::server::routes::{count, routes};
use crate::server::shell::{Gate, shell};
use crate::server::streams::Streams;
use crate::server::token::{TOKEN_FILE, Token, TokenError};
use crate::store::{Store, StoreConfig, StoreError};

/// How many large batches are parsed at a time.
const PARSING: usize = 2;

/// A service that runs.
pub struct Service {
    app: Arc<App>,
    address: SocketAddr,
    accepting: AbortOnDrop,
    token: Option<PathBuf>,
    directory: Option<TempDir>,
}

/// A service that is dropped accepts no more, and closes its connections.
struct AbortOnDrop(JoinHandle<Drained>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Who may call, and where the token is that the service has chosen.
struct TokenPlace {
    access: Access,
    path: Option<PathBuf>,
    directory: Option<TempDir>,
}

impl TokenPlace {
    fn find(config: &ObserverdConfig, token: Option<Token>) -> Result<Self, ServiceError> {
        let access = |access| Self { access, path: None, directory: None };
        if config.auth == Auth::LoopbackOpen {
            return Ok(access(Access::loopback_open(config.bind)?));
        }
        if let Some(token) = token {
            return Ok(access(Access::token(token)));
        }
        let (directory, temporary) = if data_directory(config).is_none() {
            let temporary = tempfile::Builder::new()
                .prefix("observerd-")
                .permissions(std::fs::Permissions::from_mode(0o700))
                .tempdir();
            let temporary = temporary.map_err(|source| ServiceError::TokenDirectory { source })?;
            (temporary.path().to_path_buf(), Some(temporary))
        } else {
            (config.persist_path.clone(), None)
        };
        let (token, _) = Token::in_directory(&directory)?;
        Ok(Self {
            access: Access::token(token),
            path: Some(directory.join(TOKEN_FILE)),
            directory: temporary,
        })
    }
}

impl Service {
    /// Starts the service: when this returns, it is ready. Without a token, and where one is needed, the one in the data directory is
    /// used, or generated there; a service in memory has a directory for it until it stops.
    ///
    /// # Errors
    ///
    /// [`ServiceError`]; nothing is left running.
    pub async fn start(config: ObserverdConfig, token: Option<Token>) -> Result<Self, ServiceError> {
        // First: an address that is in use must not cost the opening of a journal.
        let listener = bind(config.bind).await?;
        let store = Store::open(store_config(&config)).await?;
        Self::serve(listener, config, token, store).await
    }

    /// The same over a store that is open.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn with_store(
        config: ObserverdConfig,
        token: Option<Token>,
        store: Store,
    ) -> Result<Self, ServiceError> {
        match bind(config.bind).await {
            Ok(listener) => Self::serve(listener, config, token, store).await,
            Err(error) => {
                close(&store).await;
                Err(error)
            }
        }
    }

    async fn serve(
        listener: TcpListener,
        config: ObserverdConfig,
        token: Option<Token>,
        store: Store,
    ) -> Result<Self, ServiceError> {
        let closing = store.clone();
        // They outlive the requests that read them.
        let loops_stop = CancellationToken::new();
        let started = Self::assemble(listener, config, token, store, &loops_stop).await;
        if started.is_err() {
            loops_stop.cancel();
            close(&closing).await;
        }
        started
    }

    async fn assemble(
        listener: TcpListener,
        config: ObserverdConfig,
        token: Option<Token>,
        store: Store,
        loops_stop: &CancellationToken,
    ) -> Result<Self, ServiceError> {
        let address =
            listener.local_addr().map_err(|source| ServiceError::Bind { address: config.bind, source })?;
        let TokenPlace { access, path, directory } = TokenPlace::find(&config, token)?;
        let gate = Gate { hosts: Hosts::new(address, &config.hosts)?, rate: RateLimit::new(&config.limits) };
        let accepting = AcceptConfig::from(&config.limits);
        let live = Live::follow(store.journal()).map_err(StoreError::from)?;
        let loops = Loops::start(&store, &config, data_directory(&config), loops_stop).await?;
        let app = Arc::new(App {
            live,
            store,
            loops,
            streams: Streams::new(&config.limits),
            bodies: Bodies::new(&config.limits),
            answers: Bodies::new(&config.limits),
            parsing: Arc::new(Semaphore::new(PARSING)),
            connections: Arc::clone(&accepting.counts),
            limits: config.limits.clone(),
            metrics: Metrics::default(),
            access: Arc::new(access),
            stop: CancellationToken::new(),
            started: Instant::now(),
        });
        let router = shell(routes(&app), Arc::new(gate)).layer(from_fn_with_state(Arc::clone(&app), count));
        let accepting = tokio::spawn(serve(listener, router, accepting, app.stop.clone()));
        Ok(Self { app, address, accepting: AbortOnDrop(accepting), token: path, directory })
    }

    /// The file that has the token, where the service has chosen one.
    #[must_use]
    pub fn token_path(&self) -> Option<&Path> {
        self.token.as_deref()
    }

    /// The directory of the token of a service in memory. It goes with the service; a process that ends without that removes it.
    #[must_use]
    pub fn temporary_directory(&self) -> Option<&Path> {
        self.directory.as_ref().map(TempDir::path)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where operations go.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.app.store
    }

    /// The loops.
    #[must_use]
    pub fn loops(&self) -> &Loops {
        &self.app.loops
    }

    /// Stops accepting, drains, stops the loops, and closes the journal.
    ///
    /// # Errors
    ///
    /// [`CloseError`]: what was answered may be lost.
    pub async fn stop(mut self) -> Result<(), CloseError> {
        self.app.stop.cancel();
        if let Ok(Drained { served, aborted, .. }) = (&mut self.accepting.0).await {
            tracing::info!(served, aborted, "drained");
        }
        self.app.loops.stop().await;
        self.app.store.close().await
    }
}

/// Closes the journal of a service that did not start.
async fn close(store: &Store) {
    if let Err(error) = store.close().await {
        tracing::warn!(%error, "the journal of a service that did not start is not closed");
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, ServiceError> {
    TcpListener::bind(address).await.map_err(|source| ServiceError::Bind { address, source })
}

/// `None` for a service in memory.
fn data_directory(config: &ObserverdConfig) -> Option<&Path> {
    Some(config.persist_path.as_path()).filter(|path| !path.as_os_str().is_empty())
}

fn store_config(config: &ObserverdConfig) -> StoreConfig {
    let defaults = JournalConfig::default();
    StoreConfig {
        directory: data_directory(config).map(Path::to_path_buf),
        journal: JournalConfig {
            durability: config.durability.into(),
            segment_bytes: config.segment_bytes,
            segments: config.segments,
            ..defaults
        },
        idempotency_window: config.idempotency_window,
    }
}

/// Why the service does not start.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The address cannot be had.
    #[error("cannot listen on {address}: stop what listens there, or give another address with --listen")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// The service may not be left open.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// A name in `hosts` is none.
    #[error(transparent)]
    Hosts(#[from] HostsError),
    /// The token cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// There is no place for the token of a service in memory.
    #[error(
        "no directory can be made for the token: set OBSERVERD_TOKEN, or TMPDIR to a directory that can be written"
    )]
    TokenDirectory {
        /// The error.
        #[source]
        source: io::Error,
    },
    /// A loop cannot be started.
    #[error(transparent)]
    Loops(#[from] LoopsError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
}

debug_as_text!(ServiceError);
