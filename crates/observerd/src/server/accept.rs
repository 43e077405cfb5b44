//! The accept loop: connections within a limit, and an end within a deadline.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tower::Service;
use watchkeeper::report::one_line;

use super::connection::{self, Deadlines};
use super::rate::network;
use super::raw;
use crate::config::LimitsConfig;

/// How many connections over the limit are answered at a time. Further ones are closed without an answer.
const MOST_REFUSALS: usize = 64;

/// How long a connection over the limit has to send its first bytes.
const REFUSAL: Duration = Duration::from_secs(1);

/// The pause after the first failure to accept; each further one is twice as long, up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_millis(10);

/// The longest pause after a failure to accept.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The limits of connections.
#[derive(Clone, Debug)]
pub struct AcceptConfig {
    /// The most open connections; at least one. A further one is answered with 503 and closed.
    pub connections: usize,
    /// The most open connections of one address; at least one. An IPv6 address counts as its network of 64 bits.
    pub connections_per_address: usize,
    /// In which time a request's head must be there; also how long an idle connection is kept.
    pub head: Duration,
    /// For how long a client may read nothing of an answer.
    pub write: Duration,
    /// In which time open requests must end after a stop.
    pub drain: Duration,
    /// Where connections are counted.
    pub counts: Arc<ConnectionCounts>,
}

impl From<&LimitsConfig> for AcceptConfig {
    fn from(limits: &LimitsConfig) -> Self {
        Self {
            connections: limits.connections,
            connections_per_address: limits.connections_per_address,
            head: limits.head,
            write: limits.write,
            drain: limits.drain,
            counts: Arc::default(),
        }
    }
}

/// What an accept loop has done so far.
#[derive(Debug, Default)]
pub struct ConnectionCounts {
    accepted: AtomicU64,
    ended: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

impl ConnectionCounts {
    /// Connections that were served, or are being served.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections that are open.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.accepted().saturating_sub(self.ended.load(Ordering::Relaxed))
    }

    /// Connections over a limit: that of all, or that of their address.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Failures to accept a connection, such as too many open files.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// How an accept loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were served.
    pub served: u64,
    /// Connections over a limit.
    pub refused: u64,
    /// Connections that were still open at the deadline, and were aborted.
    pub aborted: usize,
}

/// Where connections come from.
pub(crate) trait Accept: Send {
    /// The next connection. Cancel-safe.
    fn accept(&mut self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send;
}

impl Accept for TcpListener {
    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        Self::accept(self).await
    }
}

/// Serves HTTP/1.1 on `listener` until `stop` is cancelled. Then it closes the listener, lets open requests end within
/// `config.drain`, and aborts the rest. A request has the address of its client as `ConnectInfo<SocketAddr>`.
///
/// A failure to accept (too many open files) is logged, and followed by a pause of up to a second.
///
/// # Cancel safety
///
/// When the future is dropped, each connection is aborted.
pub async fn serve<S>(
    listener: TcpListener,
    service: S,
    config: AcceptConfig,
    stop: CancellationToken,
) -> Drained
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Unpin + 'static,
    S::Future: Send,
{
    serve_from(listener, service, config, stop).await
}

/// [`serve`] on connections from anywhere.
pub(crate) async fn serve_from<A, S>(
    mut listener: A,
    service: S,
    config: AcceptConfig,
    stop: CancellationToken,
) -> Drained
where
    A: Accept,
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Unpin + 'static,
    S::Future: Send,
{
    let mut open = Connections::new(config.clone(), stop.clone());
    let mut failures = Failures::default();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = open.served.join_next() => open.ended(ended),
            Some(_) = open.refused.join_next() => {}
            () = sleep_until(failures.until()), if failures.is_pausing() => failures.resume(),
            accepted = listener.accept(), if !failures.is_pausing() => match accepted {
                Ok((stream, peer)) => {
                    failures = Failures::default();
                    open.admit(stream, peer, &service);
                }
                Err(error) => {
                    config.counts.failed.fetch_add(1, Ordering::Relaxed);
                    failures.add(&error);
                }
            },
        }
    }
    drop(listener);
    open.drain().await
}

/// The open connections. They are aborted when it is dropped.
struct Connections {
    config: AcceptConfig,
    stop: CancellationToken,
    places: Arc<Places>,
    served: JoinSet<()>,
    refused: JoinSet<()>,
}

impl Connections {
    fn new(config: AcceptConfig, stop: CancellationToken) -> Self {
        Self { config, stop, places: Arc::default(), served: JoinSet::new(), refused: JoinSet::new() }
    }

    fn admit<S>(&mut self, stream: TcpStream, peer: SocketAddr, service: &S)
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Unpin
            + 'static,
        S::Future: Send,
    {
        while let Some(ended) = self.served.try_join_next() {
            self.ended(ended);
        }
        if self.served.len() >= self.config.connections.max(1) {
            self.refuse(stream);
            return;
        }
        let Some(place) = self.places.take(peer.ip(), self.config.connections_per_address.max(1)) else {
            self.refuse(stream);
            return;
        };
        self.config.counts.accepted.fetch_add(1, Ordering::Relaxed);
        let deadlines = Deadlines { head: self.config.head, write: self.config.write };
        let serving = connection::run(stream, peer, service.clone(), deadlines, self.stop.clone());
        self.served.spawn(async move {
            let _place = place;
            serving.await;
        });
    }

    /// Answers with 503, after the first bytes of a request: some clients take an answer before that for an error of the protocol.
    fn refuse(&mut self, stream: TcpStream) {
        if self.config.counts.refused.fetch_add(1, Ordering::Relaxed).is_multiple_of(1_000) {
            tracing::warn!(
                connections = self.config.connections,
                connections_per_address = self.config.connections_per_address,
                "a connection over a limit was refused; this is logged once in 1,000 times"
            );
        }
        while self.refused.try_join_next().is_some() {}
        if self.refused.len() >= MOST_REFUSALS {
            return;
        }
        let stop = self.stop.clone();
        self.refused.spawn(async move {
            let mut byte = [0];
            let _ = timeout_at(Instant::now() + REFUSAL, stream.peek(&mut byte)).await;
            connection::refuse(stream, &raw::crowded(), &stop).await;
        });
    }

    fn ended(&self, ended: Result<(), JoinError>) {
        self.config.counts.ended.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = ended
            && error.is_panic()
        {
            tracing::error!(
                error = one_line(&error.to_string(), 500),
                "an answer panicked while it was sent: its connection was closed"
            );
        }
    }

    async fn drain(mut self) -> Drained {
        let deadline = Instant::now() + self.config.drain;
        while let Ok(Some(ended)) = timeout_at(deadline, self.served.join_next()).await {
            self.ended(ended);
        }
        let aborted = self.served.len();
        self.served.abort_all();
        while let Some(ended) = self.served.join_next().await {
            self.ended(ended);
        }
        self.refused.shutdown().await;
        let counts = &self.config.counts;
        Drained { served: counts.accepted(), refused: counts.refused(), aborted }
    }
}

/// How many connections each address has. Only those are here that have one.
#[derive(Debug, Default)]
struct Places {
    taken: Mutex<HashMap<IpAddr, usize>>,
}

impl Places {
    /// A place for a connection of an address, if it has fewer than `most`.
    fn take(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<PlaceTaken> {
        let address = network(address);
        let mut taken = self.lock();
        let count = taken.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(PlaceTaken { places: Arc::clone(self), address })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place, until it is dropped.
#[derive(Debug)]
struct PlaceTaken {
    places: Arc<Places>,
    address: IpAddr,
}

impl Drop for PlaceTaken {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

/// Consecutive failures to accept.
#[derive(Debug, Default)]
struct Failures {
    pause: Duration,
    until: Option<Instant>,
}

impl Failures {
    fn add(&mut self, error: &io::Error) {
        if is_of_one_connection(error) {
            return;
        }
        self.pause = (self.pause * 2).clamp(PAUSE, LONGEST_PAUSE);
        self.until = Some(Instant::now() + self.pause);
        tracing::error!(
            error = one_line(&error.to_string(), 500),
            pause = ?self.pause,
            "cannot accept connections: if there are too many open files, raise LimitNOFILE or lower limits.connections"
        );
    }

    fn is_pausing(&self) -> bool {
        self.until.is_some()
    }

    fn until(&self) -> Instant {
        self.until.unwrap_or_else(Instant::now)
    }

    fn resume(&mut self) {
        self.until = None;
    }
}

/// Whether only the connection failed that was to be accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
            | io::ErrorKind::WouldBlock
    )
}

#[cfg(test)]
mod tests;
