//! Why a connection or a request failed.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use watchkeeper::report::debug_as_text;

use super::class::AddressClass;
use super::network::NetworkFault;
use super::tls::CertificateFault;
use super::url::{Origin, UrlFault};

/// Why a connection or a request failed. Its text has scheme, host and port of the URL, and nothing else of it.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum OutgoingError {
    /// An entry of the list of allowed addresses is neither an address nor a network.
    #[error(
        "outgoing.allow: \"{entry}\": {fault}; an entry is an address such as 127.0.0.1 or a network such as 10.2.0.0/16"
    )]
    Allow {
        /// The entry, on one line.
        entry: String,
        /// What is wrong with it.
        fault: NetworkFault,
    },
    /// The URL cannot be connected to.
    #[error("the URL: {fault}")]
    Url {
        /// What is wrong with it.
        fault: UrlFault,
    },
    /// The address is not public, and is not listed.
    #[error("{origin} is refused: {address} is {class}; to allow it, add \"{listed}\" to outgoing.allow", listed = address.to_canonical())]
    Refused {
        /// Whose address.
        origin: Origin,
        /// The first address that is refused.
        address: IpAddr,
        /// Why.
        class: AddressClass,
    },
    /// The name was not resolved.
    #[error("{origin}: cannot resolve the name: check it, and the resolver of this machine")]
    Resolve {
        /// Whose name.
        origin: Origin,
        /// The resolver's error.
        source: io::Error,
    },
    /// The name has no address.
    #[error("{origin}: the name has no address: check it")]
    NoAddress {
        /// Whose name.
        origin: Origin,
    },
    /// No address could be connected to.
    #[error("{origin}: cannot connect to {address}: check that a server listens there")]
    Connect {
        /// The peer.
        origin: Origin,
        /// The address that was tried last.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The connection has led to another address.
    #[error(
        "{origin} is refused: connected to {found} in place of {expected}; something on this machine redirects connections"
    )]
    Peer {
        /// The peer.
        origin: Origin,
        /// The address that was allowed.
        expected: SocketAddr,
        /// Where the connection leads.
        found: SocketAddr,
    },
    /// It took too long.
    #[error("{origin}: {step} took too long: check that the server answers, or raise the time-out")]
    Timeout {
        /// The peer.
        origin: Origin,
        /// What took too long.
        step: Step,
    },
    /// This machine trusts no authority.
    #[error(
        "{origin}: no certificates of authorities were found: install ca-certificates, or set SSL_CERT_FILE ({message})"
    )]
    NoRoots {
        /// The peer.
        origin: Origin,
        /// The first problem with them.
        message: String,
    },
    /// The peer's certificate is refused.
    #[error("{origin}: its certificate {fault}")]
    Certificate {
        /// The peer.
        origin: Origin,
        /// Why.
        fault: CertificateFault,
    },
    /// The TLS handshake failed.
    #[error("{origin}: no TLS connection: {message}")]
    Tls {
        /// The peer.
        origin: Origin,
        /// Why.
        message: String,
    },
    /// The answer is a redirect.
    #[error("{origin}: answered {status}, a redirect, which is not followed: set the URL that it leads to")]
    Redirect {
        /// The peer.
        origin: Origin,
        /// The status code.
        status: u16,
    },
    /// The request was not answered by HTTP.
    #[error("{origin}: no answer: {message}")]
    Http {
        /// The peer.
        origin: Origin,
        /// Why.
        message: String,
    },
}

debug_as_text!(OutgoingError);

/// What took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// The name was being resolved.
    Resolve,
    /// The connection was being opened.
    Connect,
    /// The TLS handshake.
    Tls,
    /// The request was being sent, or its answer was awaited.
    Answer,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "the resolution of the name",
            Self::Connect => "connecting",
            Self::Tls => "the TLS handshake",
            Self::Answer => "the request",
        })
    }
}

impl OutgoingError {
    /// Whether it is a fault of the settings or of what a name resolves to: the same request fails again until somebody mends it.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Allow { .. } | Self::Url { .. } | Self::Refused { .. } | Self::Peer { .. })
    }
}
