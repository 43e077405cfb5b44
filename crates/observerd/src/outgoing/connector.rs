//! Resolve, refuse, connect, compare.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::ServerName;

use super::error::{OutgoingError, Step};
use super::filter::OutgoingFilter;
use super::net::{Net, SystemNet};
use super::tls::{TlsFault, connector, native_roots};
use super::url::{Host, Origin, OutgoingUrl};

/// How many addresses of a name are tried.
const MOST_ADDRESSES: usize = 16;

/// The longest time that is waited, even if a caller allows for more.
const LONGEST: Duration = Duration::from_hours(24);

/// What connects: the one way out of the service. Cloneable.
#[derive(Clone)]
pub struct Connector {
    shared: Arc<Shared>,
}

struct Shared {
    filter: OutgoingFilter,
    net: Box<dyn Net>,
    /// `None`: those of this machine.
    roots: Option<RootCertStore>,
    tls: OnceCell<TlsConnector>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("filter", &self.shared.filter).finish_non_exhaustive()
    }
}

impl Connector {
    /// A connector to what `filter` allows.
    #[must_use]
    pub fn new(filter: OutgoingFilter) -> Self {
        Self::with(filter, Box::new(SystemNet), None)
    }

    pub(crate) fn with(filter: OutgoingFilter, net: Box<dyn Net>, roots: Option<RootCertStore>) -> Self {
        Self { shared: Arc::new(Shared { filter, net, roots, tls: OnceCell::new() }) }
    }

    /// Checks what can be checked without a look-up: an address that the URL has in place of a name.
    ///
    /// # Errors
    ///
    /// [`OutgoingError::Refused`].
    pub fn check(&self, url: &OutgoingUrl) -> Result<(), OutgoingError> {
        match url.origin().host {
            Host::Literal(address) => self
                .shared
                .filter
                .check_literal(address)
                .map_err(|class| OutgoingError::Refused { origin: url.origin().clone(), address, class }),
            Host::Name(_) => Ok(()),
        }
    }

    /// Connects to an address of the URL's host that is allowed, with TLS for `https`, within `within`.
    ///
    /// The name is resolved once. Addresses that are refused are skipped; the others are tried in their order, at most 16, each
    /// for its share of the time.
    ///
    /// # Errors
    ///
    /// [`OutgoingError`].
    ///
    /// # Cancel safety
    ///
    /// Dropped, it closes what it has opened.
    pub async fn connect(&self, url: &OutgoingUrl, within: Duration) -> Result<Connection, OutgoingError> {
        let origin = url.origin();
        let deadline = Instant::now() + within.min(LONGEST);
        let addresses = self.allowed(origin, deadline).await?;
        let (stream, peer) = self.open_any(origin, &addresses, deadline).await?;
        let stream = if origin.is_https {
            Stream::Tls(Box::new(self.secure(origin, stream, deadline).await?))
        } else {
            Stream::Plain(stream)
        };
        Ok(Connection { stream, peer })
    }

    async fn allowed(&self, origin: &Origin, deadline: Instant) -> Result<Vec<SocketAddr>, OutgoingError> {
        let Shared { filter, net, .. } = &*self.shared;
        let refused = |address, class| OutgoingError::Refused { origin: origin.clone(), address, class };
        let name = match &origin.host {
            Host::Literal(address) => {
                filter.check_literal(*address).map_err(|class| refused(*address, class))?;
                return Ok(vec![SocketAddr::new(*address, origin.port)]);
            }
            Host::Name(name) => name,
        };
        let resolved = timeout_at(deadline, net.resolve(name, origin.port))
            .await
            .map_err(|_| OutgoingError::Timeout { origin: origin.clone(), step: Step::Resolve })?
            .map_err(|source| OutgoingError::Resolve { origin: origin.clone(), source })?;
        let mut first_refused = None;
        let mut allowed = Vec::new();
        for found in resolved {
            match filter.check(found.ip()) {
                // What the resolver says of the port does not count. A scope of a listed link-local address does.
                Ok(()) if allowed.len() < MOST_ADDRESSES => {
                    let mut address = found;
                    address.set_port(origin.port);
                    allowed.push(address);
                }
                Ok(()) => {}
                Err(class) => first_refused = first_refused.or(Some((found.ip(), class))),
            }
        }
        match first_refused {
            Some((address, class)) if allowed.is_empty() => Err(refused(address, class)),
            None if allowed.is_empty() => Err(OutgoingError::NoAddress { origin: origin.clone() }),
            _ => Ok(allowed),
        }
    }

    async fn open_any(
        &self,
        origin: &Origin,
        addresses: &[SocketAddr],
        deadline: Instant,
    ) -> Result<(TcpStream, SocketAddr), OutgoingError> {
        let mut failed = OutgoingError::NoAddress { origin: origin.clone() };
        for (at, address) in addresses.iter().enumerate() {
            let now = Instant::now();
            let left = u32::try_from(addresses.len() - at).unwrap_or(u32::MAX);
            let share = now + deadline.saturating_duration_since(now) / left;
            match timeout_at(share, self.shared.net.open(*address)).await {
                Err(_) => failed = OutgoingError::Timeout { origin: origin.clone(), step: Step::Connect },
                Ok(Err(source)) => failed = connect_error(origin, *address, source),
                Ok(Ok(stream)) => {
                    let ends = stream.peer_addr().and_then(|found| Ok((found, stream.local_addr()?)));
                    let (found, local) = match ends {
                        Ok(ends) => ends,
                        Err(source) => {
                            failed = connect_error(origin, *address, source);
                            continue;
                        }
                    };
                    if !is_same(found, *address) {
                        return Err(OutgoingError::Peer {
                            origin: origin.clone(),
                            expected: *address,
                            found,
                        });
                    }
                    let own = self.shared.filter.check_own(local.ip(), found.ip());
                    own.map_err(|class| OutgoingError::Refused {
                        origin: origin.clone(),
                        address: found.ip(),
                        class,
                    })?;
                    return Ok((stream, found));
                }
            }
        }
        Err(failed)
    }

    async fn secure(
        &self,
        origin: &Origin,
        stream: TcpStream,
        deadline: Instant,
    ) -> Result<TlsStream<TcpStream>, OutgoingError> {
        let tls = self.shared.tls.get_or_try_init(|| self.shared.tls());
        let secured = async {
            let tls =
                tls.await.map_err(|message| OutgoingError::NoRoots { origin: origin.clone(), message })?;
            let name = server_name(&origin.host)
                .map_err(|message| OutgoingError::Tls { origin: origin.clone(), message })?;
            tls.connect(name, stream).await.map_err(|error| match TlsFault::of(&error) {
                TlsFault::Certificate(fault) => OutgoingError::Certificate { origin: origin.clone(), fault },
                TlsFault::Other(message) => OutgoingError::Tls { origin: origin.clone(), message },
            })
        };
        timeout_at(deadline, secured)
            .await
            .unwrap_or_else(|_| Err(OutgoingError::Timeout { origin: origin.clone(), step: Step::Tls }))
    }
}

impl Shared {
    async fn tls(&self) -> Result<TlsConnector, String> {
        let roots = match &self.roots {
            Some(roots) => roots.clone(),
            None => tokio::task::spawn_blocking(native_roots).await.map_err(|error| error.to_string())??,
        };
        connector(roots)
    }
}

fn connect_error(origin: &Origin, address: SocketAddr, source: io::Error) -> OutgoingError {
    OutgoingError::Connect { origin: origin.clone(), address, source }
}

/// A scope that the system adds makes no difference.
fn is_same(found: SocketAddr, expected: SocketAddr) -> bool {
    let canonical = |address: SocketAddr| -> (IpAddr, u16) { (address.ip().to_canonical(), address.port()) };
    canonical(found) == canonical(expected)
}

fn server_name(host: &Host) -> Result<ServerName<'static>, String> {
    match host {
        Host::Literal(address) => Ok(ServerName::from(*address)),
        Host::Name(_) => ServerName::try_from(host.to_string())
            .map_err(|_| "its host is no name that a certificate can have".to_owned()),
    }
}

/// An open connection: to an address that was allowed, and with TLS for `https`.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    peer: SocketAddr,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    /// The address that it leads to.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
