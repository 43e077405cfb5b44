//! The address of a node.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use alloy::transports::Authorization;
use url::{Host, Url, form_urlencoded};

use watchkeeper::report::debug_as_text;

/// The address of a node, parsed from a URL such as `https://user:password@node.example/v3/key`.
///
/// It is shown as scheme, host and port, and `/…` if there is more. Everything else in it may be a secret: neither
/// `Display` nor `Debug` shows it, and it is removed from the texts of errors. Some providers put the key into the host
/// name: a label that looks like a key (8 digits and letters mixed, or 20 letters) is shown as `…`, except the last two
/// labels, which are registered in public. Two addresses may look alike: distinguish them by the names of their nodes.
///
/// # Examples
///
/// ```
/// use watchkeeper_chain_ethereum::Endpoint;
///
/// let endpoint: Endpoint = "https://me:password@node.example/v3/0123456789abcdef".parse()?;
/// assert_eq!(endpoint.to_string(), "https://node.example:443/…");
/// # Ok::<(), watchkeeper_chain_ethereum::EndpointError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Without user and password.
    url: Url,
    authorization: Option<String>,
    secrets: Vec<String>,
    shown: String,
}

/// A text is no address of a node. The text is not shown: it may contain a secret.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
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
        /// The schemes that are accepted.
        expected: &'static str,
        /// The one that was given.
        found: String,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {reason}; give an address without it, such as http://127.0.0.1:8545")]
    Tls {
        /// Why.
        reason: String,
    },
}

debug_as_text!(EndpointError);

impl Endpoint {
    /// Fails if the protocol is none of `schemes`; `expected` names them for people.
    pub(super) fn require(&self, schemes: [&str; 2], expected: &'static str) -> Result<(), EndpointError> {
        let found = self.url.scheme();
        if schemes.contains(&found) {
            Ok(())
        } else {
            Err(EndpointError::WrongScheme { expected, found: found.to_owned() })
        }
    }

    /// The whole address without user and password.
    pub(super) fn secret_url(&self) -> &str {
        self.url.as_str()
    }

    /// The header with user and password.
    pub(super) fn secret_authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }

    /// `text` for people: without the secrets of this address, in one line, truncated and escaped.
    pub(super) fn clear(&self, text: &str) -> String {
        const MAX_CHARS: usize = 300;
        let mut text = text.to_owned();
        for secret in &self.secrets {
            text = text.replace(secret, "***");
        }
        let mut shown = String::new();
        for (nth, char) in text.chars().enumerate() {
            match char {
                _ if nth == MAX_CHARS => {
                    shown.push_str("...");
                    break;
                }
                '"' | '\'' | '\\' => shown.push(char),
                // Escapes control characters, and those that change the direction of writing.
                char => shown.extend(char.escape_debug()),
            }
        }
        shown
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
        let shown = shown(&url);
        // Neither fails for an address with a host.
        let _ = (url.set_username(""), url.set_password(None));
        Ok(Self { url, authorization, secrets, shown })
    }
}

fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let host: Vec<&str> = match keys_in_host(url)[..] {
        [] => vec![host],
        ref keys => host.split('.').map(|label| if keys.contains(&label) { "…" } else { label }).collect(),
    };
    let port = url.port_or_known_default().map_or_else(String::new, |port| format!(":{port}"));
    let rest = if url.path().len() > 1 || url.query().is_some() { "/…" } else { "" };
    format!("{}://{}{port}{rest}", url.scheme(), host.join("."))
}

/// The parts of a host's name that look like keys.
fn keys_in_host(url: &Url) -> Vec<&str> {
    let Some(Host::Domain(domain)) = url.host() else { return Vec::new() };
    let labels: Vec<&str> = domain.trim_end_matches('.').split('.').collect();
    let free = labels.len().saturating_sub(2);
    labels[..free].iter().copied().filter(|label| label.split(['-', '_']).any(looks_like_a_key)).collect()
}

/// A word of a name is not this long, and has no digits in it.
fn looks_like_a_key(word: &str) -> bool {
    word.len() >= 20 || word.len() >= 8 && has_digit(word)
}

fn has_digit(word: &str) -> bool {
    word.contains(|digit: char| digit.is_ascii_digit())
}

/// Whether a part of an address may be a secret. Removing shorter parts would make a text unreadable.
fn may_be_secret(part: &str) -> bool {
    part.len() >= 8 || part.len() >= 4 && has_digit(part)
}

/// The parts of an address that may be secret, as they are written and decoded; the longest first, as one may contain
/// another.
fn secrets(url: &Url, authorization: Option<&str>) -> Vec<String> {
    let query = url.query().unwrap_or_default();
    // A key may have no name in a query.
    let values = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
    let header = authorization.and_then(|header| header.split(' ').next_back());
    let written = (url.path_segments().into_iter().flatten())
        .chain(values)
        .chain([url.username(), query])
        .chain(header);
    let decoded_parts =
        written.clone().map(decoded).chain(url.query_pairs().map(|(_, value)| value.into_owned()));
    let parts = written.map(str::to_owned).chain(decoded_parts).filter(|part| may_be_secret(part));
    let password = url.password().into_iter().flat_map(|password| [password.to_owned(), decoded(password)]);
    let keys = keys_in_host(url);
    let host = url.host_str().filter(|_| !keys.is_empty());
    let host = keys.into_iter().chain(host).map(str::to_owned);
    // These appear in no text by chance.
    let whole = [url.path().to_owned(), format!("?{query}")].into_iter().filter(|part| part.len() > 1);
    let mut secrets: Vec<String> = parts.chain(password).chain(host).chain(whole).collect();
    secrets.retain(|secret| !secret.is_empty());
    secrets.sort_by_key(|secret| Reverse(secret.len()));
    secrets
}

/// A part with its percent-encoding decoded.
fn decoded(part: &str) -> String {
    // These are special in forms only.
    let part = part.replace('+', "%2B").replace('=', "%3D").replace('&', "%26");
    form_urlencoded::parse(part.as_bytes()).map(|(name, _)| name).collect()
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
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
            ("http://127.0.0.1:8545/", "http://127.0.0.1:8545"),
            ("http://localhost:8545/rpc", "http://localhost:8545/…"),
            ("http://me:password@[::1]:80/#part", "http://[::1]:80"),
            (
                "http://geth-mainnet-0.geth.svc.cluster.local:8545",
                "http://geth-mainnet-0.geth.svc.cluster.local:8545",
            ),
            ("https://node.example/v3/0123456789abcdef", "https://node.example:443/…"),
            ("https://node.example/xyz", "https://node.example:443/…"),
            ("https://node.example?xyz", "https://node.example:443/…"),
            ("wss://key@node.example:8546/?token=0123456789", "wss://node.example:8546/…"),
            ("https://eth-mainnet.g.alchemy.example/v2/key", "https://eth-mainnet.g.alchemy.example:443/…"),
            ("https://0123456789abcdef.eth.rpc.rivet.example", "https://….eth.rpc.rivet.example:443"),
            ("https://0123456789abcdef.eth.rpc.rivet.example.", "https://….eth.rpc.rivet.example.:443"),
            (
                "https://nd-6eaj5va43jgg.eth.us-east-1.amazonaws.example",
                "https://….eth.us-east-1.amazonaws.example:443",
            ),
            (
                "https://3f2a8c1e-9b7d-4e21-8c3a-5d6e7f8a9b0c.sub.quik.example/xyz",
                "https://….sub.quik.example:443/…",
            ),
            ("https://abcdefghijabcdefghij.sub.quik.example", "https://….sub.quik.example:443"),
            // The registered name is no secret.
            ("https://0123456789abcdef.example", "https://0123456789abcdef.example:443"),
        ] {
            let endpoint: Endpoint = address.parse().unwrap();
            assert_eq!(endpoint.to_string(), shown);
            assert_eq!(format!("{endpoint:?}"), shown);
        }
    }

    #[test]
    fn secrets_are_removed_from_what_a_node_says() {
        let endpoint: Endpoint =
            "https://username1:pw@node.example/v3/0123456789abcdef?token=tokentoken".parse().unwrap();
        assert_eq!(endpoint.secret_url(), "https://node.example/v3/0123456789abcdef?token=tokentoken");
        let header = endpoint.secret_authorization().unwrap();
        assert!(header.starts_with("Basic "), "{header}");
        let said = format!("v3: 0123456789abcdef of username1:pw ({header}) with token=tokentoken");
        assert_eq!(endpoint.clear(&said), "v3: *** of ***:*** (Basic ***) with ***");
        assert_eq!(endpoint.clear(&"é".repeat(1_000)).chars().count(), 303);
    }

    #[test]
    fn control_characters_of_a_node_are_escaped() {
        let endpoint: Endpoint = "https://node.example/v3/0123456789abcdef".parse().unwrap();
        let said = "it's \"\\\" é \u{1b}[2J\u{9b}31m\r\n\t\u{7}\u{202e}0123456789abcdef";
        let cleared = endpoint.clear(said);
        assert_eq!(cleared, r#"it's "\" é \u{1b}[2J\u{9b}31m\r\n\t\u{7}\u{202e}***"#);
    }

    /// An address, and its parts that must not be shown.
    #[test]
    fn secrets_are_removed_from_every_part_of_a_text() {
        for (address, secrets) in [
            ("https://node.example/v3/k3y5", &["k3y5"][..]),
            ("https://node.example/xyz", &["/xyz"]),
            ("https://node.example/?k3y5", &["k3y5"]),
            ("https://node.example/?key=xyz", &["?key=xyz"]),
            ("https://node.example/a%2Fb%2Bc1", &["a%2Fb%2Bc1", "a/b+c1"]),
            ("https://node.example/?key=to%20ken+12", &["to%20ken+12", "to ken+12", "to ken 12"]),
            ("https://node.example/key=k3y5&more", &["key=k3y5&more"]),
            ("https://k3y5:p%2Fw@node.example", &["k3y5", "p%2Fw", "p/w"]),
            ("https://0123456789abcdef.eth.rivet.example", &["0123456789abcdef"]),
        ] {
            let endpoint: Endpoint = address.parse().unwrap();
            for secret in secrets {
                assert_eq!(endpoint.clear(&format!("no {secret} here")), "no *** here", "{address}");
            }
            let cleared = endpoint.clear(&format!("for {}", endpoint.secret_url()));
            assert!(secrets.iter().all(|secret| !cleared.contains(secret)), "{cleared}");
        }
        let endpoint: Endpoint = "https://node.example/eth/rpc?x".parse().unwrap();
        assert_eq!(endpoint.clear("json-rpc of ethereum: extra"), "json-rpc of ethereum: extra");
    }

    #[test]
    fn a_text_that_is_no_address_is_refused_and_not_shown() {
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
