//! The service as a whole: what it is made of, and in which order it starts and stops.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watchkeeper::report::debug_as_text;
use watchkeeper_journal::{CloseError, JournalConfig};

use crate::config::ObserverdConfig;
use crate::live::Live;
use crate::loops::Loops;
use crate::server::app::App;
use crate::server::metrics::Metrics;
use crate::server::routes::routes;
use crate::store::{Store, StoreConfig, StoreError};

/// A service that runs.
pub struct Service {
    app: Arc<App>,
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Service {
    /// Starts the service: when this returns, it is ready.
    ///
    /// # Errors
    ///
    /// [`ServiceError`]; nothing is left running.
    pub async fn start(config: ObserverdConfig) -> Result<Self, ServiceError> {
        let store = Store::open(store_config(&config)).await?;
        Self::with_store(config, store).await
    }

    /// The same over a store that is open.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn with_store(config: ObserverdConfig, store: Store) -> Result<Self, ServiceError> {
        Self::with_routes(config, store, Router::new()).await
    }

    /// The same with further routes that need a token: figures are beside a route that stores nothing.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    #[doc(hidden)]
    pub async fn with_routes(
        config: ObserverdConfig,
        store: Store,
        further: Router,
    ) -> Result<Self, ServiceError> {
        let listener = TcpListener::bind(config.bind)
            .await
            .map_err(|source| ServiceError::Bind { address: config.bind, source })?;
        let address =
            listener.local_addr().map_err(|source| ServiceError::Bind { address: config.bind, source })?;
        let app = Arc::new(App {
            live: Live::follow(store.journal()),
            store,
            loops: Loops::default(),
            streams: Arc::new(Semaphore::new(config.limits.streams)),
            limits: config.limits.clone(),
            metrics: Metrics::default(),
            auth: config.auth,
            stop: CancellationToken::new(),
            started: Instant::now(),
        });
        let routes = routes(&app, further);
        let router = routes.guarded.merge(routes.open);
        let accepting = tokio::spawn(accept(listener, router, app.stop.clone()));
        Ok(Self { app, address, accepting })
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

    /// Stops accepting, drains, stops the loops, and closes the journal.
    ///
    /// # Errors
    ///
    /// [`CloseError`]: what was answered may be lost.
    pub async fn stop(self) -> Result<(), CloseError> {
        self.app.stop.cancel();
        let _ = self.accepting.await;
        self.app.loops.group.stop_all().await;
        self.app.store.close().await
    }
}

async fn accept(listener: TcpListener, router: Router, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        let service = hyper_util::service::TowerToHyperService::new(router.clone());
        let io = hyper_util::rt::TokioIo::new(stream);
        tokio::spawn(async move {
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
        });
    }
}

fn store_config(config: &ObserverdConfig) -> StoreConfig {
    let is_memory = config.persist_path.as_os_str().is_empty();
    let defaults = JournalConfig::default();
    StoreConfig {
        directory: (!is_memory).then(|| PathBuf::from(&config.persist_path)),
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
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
}

debug_as_text!(ServiceError);
