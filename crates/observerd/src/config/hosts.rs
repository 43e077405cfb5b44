//! Names of hosts, addresses of networks and URLs, as text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;

/// Why an entry of `hosts` is none.
pub(super) fn host_problem(entry: &str) -> Option<&'static str> {
    if entry.contains("://") || entry.contains('/') {
        return Some(
            "must be a name without a scheme and a path, such as \"example.org\" or \"example.org:8443\"",
        );
    }
    if entry.contains('*') {
        return Some("has a `*`, which matches nothing here: list each name");
    }
    let (host, port) = match entry.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, rest)) if address.parse::<Ipv6Addr>().is_ok() => {
                ("v6", if rest.is_empty() { None } else { Some(rest.strip_prefix(':').unwrap_or("no port")) })
            }
            _ => return Some("must have an IPv6 address between [ and ]"),
        },
        None => match entry.split_once(':') {
            Some((_, rest)) if rest.contains(':') => {
                return Some("is an IPv6 address: write it in brackets, such as \"[::1]\"");
            }
            Some((host, port)) => (host, Some(port)),
            None => (entry, None),
        },
    };
    let is_digits = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if port.is_some_and(|port| !(is_digits(port) && port.parse::<u16>().is_ok_and(|port| port > 0))) {
        return Some("has a port that is no number from 1 to 65535");
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let looks_like_an_address = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let is_host = if looks_like_an_address {
        host.parse::<Ipv4Addr>().is_ok()
    } else {
        host.len() <= 253 && host.strip_suffix('.').unwrap_or(host).split('.').all(is_label)
    };
    (!is_host)
        .then_some("is no name of a host: it has letters, digits, `-` and dots, such as \"example.org\"")
}

/// Why an entry of `outgoing.allow` is none.
pub(super) fn network_problem(entry: &str) -> Option<&'static str> {
    let (address, bits) = match entry.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (entry, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return Some(
            "must be an address or a network, such as \"127.0.0.1\" or \"10.2.0.0/16\", and no name",
        );
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    let is_bits = |bits: &str| {
        bits.bytes().all(|byte| byte.is_ascii_digit()) && bits.parse::<u8>().is_ok_and(|bits| bits <= most)
    };
    match bits {
        Some(bits) if !is_bits(bits) => {
            Some("has a length that is no number of its bits, such as 10.2.0.0/16")
        }
        _ => None,
    }
}

/// Why a webhook is none. The text does not show it: it may have a secret.
pub(super) fn webhook_problem(webhook: &str) -> Option<&'static str> {
    const SHAPE: &str = "must be a URL such as \"https://example.org/hook\"";
    let Ok(uri) = webhook.parse::<Uri>() else { return Some(SHAPE) };
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Some("must be a URL that begins with http:// or https://");
    }
    let Some(authority) = uri.authority() else { return Some(SHAPE) };
    if authority.as_str().contains('@') {
        return Some("has a user or a password before the `@`, which is not sent: remove it");
    }
    let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    if authority.host().is_empty() || (!port.is_empty() && authority.port_u16().is_none_or(|port| port == 0))
    {
        return Some(SHAPE);
    }
    if webhook.contains('#') {
        return Some("has a fragment after `#`, which is not sent: remove it");
    }
    None
}
