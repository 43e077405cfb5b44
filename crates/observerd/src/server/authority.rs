//! The name and port that a client connects to.

use std::net::{IpAddr, Ipv6Addr};

/// The longest name of a host.
const MAX_NAME: usize = 253;

/// A host with or without a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authority {
    pub(crate) host: Host,
    pub(crate) port: Option<u16>,
}

/// A host. Two spellings of one host are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// An address, in its canonical form: `::ffff:127.0.0.1` is `127.0.0.1`.
    Address(IpAddr),
    /// A name in lower case, without the dot at its end.
    Name(String),
}

impl Authority {
    /// Reads `host[:port]`. `None` if it is not valid: it has a user, spaces, more than one port or the like.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (address, rest) = rest.split_once(']')?;
            let address: Ipv6Addr = address.parse().ok()?;
            (Host::Address(IpAddr::V6(address).to_canonical()), rest)
        } else {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            (Host::named(name)?, port)
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            // "An empty port is the default port": RFC 3986, 3.2.3.
            Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            None | Some(_) => return None,
        };
        Some(Self { host, port })
    }

    /// Whether both are the same, where a port that is not given is `default`.
    pub(crate) fn is_same(&self, other: &Self, default: u16) -> bool {
        self.host == other.host && self.port.unwrap_or(default) == other.port.unwrap_or(default)
    }
}

impl Host {
    fn named(text: &str) -> Option<Self> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if name.len() > MAX_NAME || !name.split('.').all(is_label) {
            return None;
        }
        Some(match name.parse() {
            Ok(address) => Self::Address(IpAddr::V4(address)),
            Err(_) => Self::Name(name.to_ascii_lowercase()),
        })
    }
}
