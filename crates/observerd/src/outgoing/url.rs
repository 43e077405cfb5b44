//! The URL of a peer. It is shown without its path and query, which hold secrets.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use http::Uri;
use http::uri::Scheme;

use super::literal::{self, Ipv4Literal};

/// The longest URL.
const MAX_URL: usize = 8 * 1024;

/// An `http` or `https` URL without credentials. `Debug` and `Display` show scheme, host and port alone.
#[derive(Clone, PartialEq, Eq)]
pub struct OutgoingUrl {
    origin: Origin,
    target: String,
}

/// Scheme, host and port: what may be shown of a URL.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    pub(super) is_https: bool,
    pub(super) host: Host,
    pub(super) port: u16,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Host {
    Literal(IpAddr),
    /// Lower case; with the dot at its end, if it had one.
    Name(String),
}

/// Why a text is no URL to connect to. It holds nothing of the text.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlFault {
    /// It is no URL.
    #[error(
        "it is no URL: write it as https://host/path, a name in another script as xn--, and other characters as %XX"
    )]
    Malformed,
    /// It is too long.
    #[error("it has more than 8192 bytes")]
    TooLong,
    /// It is neither `http` nor `https`.
    #[error("its scheme must be http or https")]
    Scheme,
    /// It has a user or a password.
    #[error("it has a user or a password before `@`: take them out")]
    Credentials,
    /// Its host is neither a name nor an address.
    #[error("its host is neither a name nor an IP address")]
    Host,
    /// Its port is no number from 1 to 65535.
    #[error("its port must be a number from 1 to 65535")]
    Port,
}

impl OutgoingUrl {
    /// Parses a URL. A fragment is dropped.
    ///
    /// # Errors
    ///
    /// [`UrlFault`].
    pub fn parse(text: &str) -> Result<Self, UrlFault> {
        if text.len() > MAX_URL {
            return Err(UrlFault::TooLong);
        }
        let uri: Uri = text.parse().map_err(|_| UrlFault::Malformed)?;
        Self::of(&uri)
    }

    /// The same of a URI that is parsed.
    ///
    /// # Errors
    ///
    /// [`UrlFault`].
    pub fn of(uri: &Uri) -> Result<Self, UrlFault> {
        let is_https = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(_) => return Err(UrlFault::Scheme),
            None => return Err(UrlFault::Malformed),
        };
        let authority = uri.authority().ok_or(UrlFault::Malformed)?.as_str();
        if authority.contains('@') {
            return Err(UrlFault::Credentials);
        }
        let (host, port) = split(authority)?;
        let port = match port {
            None if is_https => 443,
            None => 80,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|port| *port != 0).ok_or(UrlFault::Port)?
            }
            Some(_) => return Err(UrlFault::Port),
        };
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Self { origin: Origin { is_https, host: host.parse()?, port }, target })
    }

    /// Scheme, host and port.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Path and query: with secrets.
    pub(super) fn target(&self) -> &str {
        &self.target
    }
}

/// Host and port of an authority. The port is `None` if it is not there or empty.
fn split(authority: &str) -> Result<(HostText<'_>, Option<&str>), UrlFault> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(UrlFault::Host)?;
        let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or(UrlFault::Host)?) };
        (HostText::Brackets(host), port)
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (HostText::Plain(host), Some(port)),
            None => (HostText::Plain(authority), None),
        }
    };
    Ok((host, port.filter(|port| !port.is_empty())))
}

#[derive(Clone, Copy)]
enum HostText<'a> {
    Brackets(&'a str),
    Plain(&'a str),
}

impl HostText<'_> {
    fn parse(self) -> Result<Host, UrlFault> {
        match self {
            Self::Brackets(text) => text
                .parse::<Ipv6Addr>()
                .map(|address| Host::Literal(address.into()))
                .map_err(|_| UrlFault::Host),
            Self::Plain(text) => {
                let name = text.strip_suffix('.').unwrap_or(text);
                match literal::parse(name) {
                    Ipv4Literal::Yes(address) => Ok(Host::Literal(address.into())),
                    Ipv4Literal::No if is_name(name) => Ok(Host::Name(text.to_ascii_lowercase())),
                    Ipv4Literal::No | Ipv4Literal::Malformed => Err(UrlFault::Host),
                }
            }
        }
    }
}

/// Underscores are in no host name, but in names of containers.
fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

impl Origin {
    /// The value of the header `Host`.
    pub(super) fn host_header(&self) -> String {
        let default = if self.is_https { 443 } else { 80 };
        if self.port == default { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }
}

/// Without the dot at its end, as headers and certificates have it.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Literal(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Name(name) => f.write_str(name.strip_suffix('.').unwrap_or(name)),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for OutgoingUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.origin, f)
    }
}

impl fmt::Debug for OutgoingUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.origin, f)
    }
}

watchkeeper::report::debug_as_text!(UrlFault);
