//! Where a node listens.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use alloy::transports::Authorization;
use url::Url;

/// The address of a node, parsed from a URL such as `https://user:password@node.example/v3/key`.
///
/// It is shown as scheme, host and port. Everything else in it may be a secret, so neither `Display` nor
/// `Debug` shows it, and the texts of errors are cleared of it.
///
/// # Examples
///
/// ```
/// use watchkeeper_chain::adapter::ethereum::Endpoint;
///
/// let endpoint: Endpoint = "https://me:password@node.example/v3/0123456789abcdef".parse()?;
/// assert_eq!(endpoint.to_string(), "https://node.example:443");
/// # Ok::<(), watchkeeper_chain::adapter::ethereum::EndpointError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Without user and password.
    url: Url,
    authorization: Option<String>,
    secrets: Vec<String>,
}

/// A text is no address of a node. The text itself is not shown: it may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// It is no URL.
    #[error("the address is no URL: {reason}; give one such as http://127.0.0.1:8545")]
    NotAUrl {
        /// Why.
        reason: String,
    },
    /// It names no host.
    #[error("the address names no host: give one such as http://127.0.0.1:8545")]
    NoHost,
    /// It is for another protocol.
    #[error("an address of {expected} is needed here, not of {found}")]
    WrongScheme {
        /// The schemes that would do.
        expected: &'static str,
        /// The one that was given.
        found: String,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {reason}")]
    Tls {
        /// Why.
        reason: String,
    },
}

/// What is too short to be a secret would only make a text unreadable if it were cut out.
const SHORTEST_SECRET: usize = 8;

impl Endpoint {
    /// Fails where the protocol is none of `schemes`; `expected` is how a person calls them.
    pub(super) fn require(&self, schemes: [&str; 2], expected: &'static str) -> Result<(), EndpointError> {
        let found = self.url.scheme();
        if schemes.contains(&found) {
            Ok(())
        } else {
            Err(EndpointError::WrongScheme { expected, found: found.to_owned() })
        }
    }

    /// The whole address but for user and password.
    pub(super) fn secret_url(&self) -> &str {
        self.url.as_str()
    }

    /// The header that user and password are sent by.
    pub(super) fn secret_authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }

    /// `text` for people: without the secrets of this address, and of a length that can be read.
    pub(super) fn clear(&self, text: &str) -> String {
        const LONGEST: usize = 300;
        let mut text = text.to_owned();
        for secret in &self.secrets {
            text = text.replace(secret, "***");
        }
        if let Some((end, _)) = text.char_indices().nth(LONGEST) {
            text.truncate(end);
            text.push_str("...");
        }
        text
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut url =
            Url::parse(text).map_err(|error| EndpointError::NotAUrl { reason: error.to_string() })?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err(EndpointError::NoHost);
        }
        let authorization = Authorization::extract_from_url(&url).map(|header| header.to_string());
        let secrets = secrets(&url, authorization.as_deref());
        // Neither fails for an address with a host.
        let _ = (url.set_username(""), url.set_password(None));
        Ok(Self { url, authorization, secrets })
    }
}

/// The parts of an address that may be secret, the longest first: one may be within another.
fn secrets(url: &Url, authorization: Option<&str>) -> Vec<String> {
    let values: Vec<_> = url.query_pairs().map(|(_, value)| value).collect();
    let header = authorization.and_then(|header| header.split(' ').next_back());
    let mut secrets: Vec<String> = (url.path_segments().into_iter().flatten())
        .chain(values.iter().map(AsRef::as_ref))
        .chain([url.username()])
        .chain(header)
        .filter(|part| part.len() >= SHORTEST_SECRET)
        .chain(url.password().filter(|password| !password.is_empty()))
        .map(str::to_owned)
        .collect();
    secrets.sort_by_key(|secret| Reverse(secret.len()));
    secrets
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.url.scheme(), self.url.host_str().unwrap_or_default())?;
        self.url.port_or_known_default().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_scheme_host_and_port_are_shown() {
        for (address, shown) in [
            ("http://127.0.0.1:8545", "http://127.0.0.1:8545"),
            ("https://node.example/v3/0123456789abcdef", "https://node.example:443"),
            ("wss://key@node.example:8546/?token=0123456789", "wss://node.example:8546"),
            ("http://me:password@[::1]:80/#part", "http://[::1]:80"),
        ] {
            let endpoint: Endpoint = address.parse().unwrap();
            assert_eq!(endpoint.to_string(), shown);
            assert_eq!(format!("{endpoint:?}"), shown);
        }
    }

    #[test]
    fn secrets_are_cut_out_of_what_a_node_says() {
        let endpoint: Endpoint =
            "https://username1:pw@node.example/v3/0123456789abcdef?token=tokentoken".parse().unwrap();
        assert_eq!(endpoint.secret_url(), "https://node.example/v3/0123456789abcdef?token=tokentoken");
        let header = endpoint.secret_authorization().unwrap();
        assert!(header.starts_with("Basic "), "{header}");
        let said = format!("v3: 0123456789abcdef of username1:pw ({header}) with token=tokentoken");
        assert_eq!(endpoint.clear(&said), "v3: *** of ***:*** (Basic ***) with token=***");
        assert_eq!(endpoint.clear(&"é".repeat(1_000)).chars().count(), 303);
    }

    #[test]
    fn what_is_no_address_is_refused_and_not_shown() {
        for wrong in ["", "password", "http://", "http://h:password", "data:password", "unix:/run/password"] {
            let error = wrong.parse::<Endpoint>().unwrap_err().to_string();
            assert!(!error.contains("password") && error.contains("give one such as http://"), "{error}");
        }
    }

    #[test]
    fn another_protocol_is_refused() {
        let endpoint: Endpoint = "ws://localhost:1".parse().unwrap();
        assert_eq!(endpoint.require(["ws", "wss"], "ws or wss"), Ok(()));
        let error = endpoint.require(["http", "https"], "http or https").unwrap_err();
        assert_eq!(error.to_string(), "an address of http or https is needed here, not of ws");
    }
}
