//! The names that a client may call the service by: the defence against DNS rebinding, and against foreign pages.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use watchkeeper::report::{debug_as_text, one_line};

use super::authority::{Authority, Host};
use super::problem::Problem;

/// What a browser says of the page that a request comes from.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The names of the service: `localhost`, each loopback address, the address it is bound to, and the configured ones.
#[derive(Clone, Debug)]
pub struct Hosts {
    bound: Option<IpAddr>,
    port: u16,
    configured: Vec<Authority>,
}

impl Hosts {
    /// The names of a service that is bound to `bind`. Each of `configured` is `name`, `name:port`, or the same with an address; a
    /// configured port is compared. A service that is bound to each address (`0.0.0.0`) has no name from that.
    ///
    /// # Errors
    ///
    /// [`HostsError`] for a configured name that is not valid.
    pub fn new(bind: SocketAddr, configured: &[String]) -> Result<Self, HostsError> {
        let bound = Some(bind.ip().to_canonical()).filter(|address| !address.is_unspecified());
        let configured = configured
            .iter()
            .map(|name| Authority::parse(name).ok_or_else(|| HostsError { name: one_line(name, 100) }))
            .collect::<Result<_, _>>()?;
        Ok(Self { bound, port: bind.port(), configured })
    }

    /// Checks the host of a request, and from where it comes unless it is `OPTIONS`. A client that is no browser says nothing of that.
    ///
    /// A page of the service has one of its names and the bound port, or is configured: with its port if that is not the scheme's. Other
    /// pages may not read either: a stream or a scan costs.
    ///
    /// # Errors
    ///
    /// - 400 if `Host` is missing, repeated, not valid, or not the one of the request line;
    /// - 421 if it is not a name of the service;
    /// - 403 if `Origin` is not a page of the service, or if it is missing and `Sec-Fetch-Site` is `cross-site` or `same-site`.
    pub fn check<B>(&self, request: &Request<B>) -> Result<(), Problem> {
        let host = host(request)?;
        if !self.is_ours(&host, 80) {
            return Err(Problem::new(
                StatusCode::MISDIRECTED_REQUEST,
                "misdirected",
                "This service has another name",
                "the host of the request is not a name of this service: add it to hosts in the configuration",
            ));
        }
        if request.method() == Method::OPTIONS || self.is_own_page(request.method(), request.headers()) {
            return Ok(());
        }
        Err(Problem::new(
            StatusCode::FORBIDDEN,
            "foreign-origin",
            "Pages of other sites must not call",
            "the origin of the request is not this service: add its host, with its port, to hosts in the configuration",
        ))
    }

    fn is_ours(&self, asked: &Authority, default: u16) -> bool {
        let is_asked = |known: &Authority| {
            known.host == asked.host && known.port.is_none_or(|port| port == asked.port.unwrap_or(default))
        };
        self.is_own(&asked.host) || self.configured.iter().any(is_asked)
    }

    /// Whether it is a name of the service by itself.
    fn is_own(&self, host: &Host) -> bool {
        match host {
            Host::Address(address) => address.is_loopback() || self.bound == Some(*address),
            Host::Name(name) => name == "localhost",
        }
    }

    fn is_own_page(&self, method: &Method, headers: &HeaderMap) -> bool {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let Some(origin) = origins.next() else {
            // Another port is the same site. A person who follows a link is no page that calls.
            let is_foreign = |site: &HeaderValue| site == "cross-site" || site == "same-site";
            let is_link = matches!(*method, Method::GET | Method::HEAD)
                && headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate")
                && headers.get("sec-fetch-dest").is_some_and(|dest| dest == "document");
            return is_link || !headers.get_all(SEC_FETCH_SITE).iter().any(is_foreign);
        };
        origins.next().is_none() && origin.to_str().is_ok_and(|origin| self.is_own_origin(origin))
    }

    fn is_own_origin(&self, origin: &str) -> bool {
        let (authority, default) = match origin.split_once("://") {
            Some(("http", authority)) => (authority, 80),
            Some(("https", authority)) => (authority, 443),
            _ => return false,
        };
        let Some(page) = Authority::parse(authority) else { return false };
        let port = page.port.unwrap_or(default);
        let is_configured = |known: &Authority| known.is_same(&page, default);
        self.configured.iter().any(is_configured) || (port == self.port && self.is_ours(&page, default))
    }
}

/// The host that a request is for.
fn host<B>(request: &Request<B>) -> Result<Authority, Problem> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(invalid("the request must have one Host"));
    };
    let host = host.to_str().ok().and_then(Authority::parse);
    let host = host.ok_or_else(|| invalid("Host must be a name or an address, with or without a port"))?;
    let uri = request.uri();
    if uri.scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return Err(invalid("an absolute address in the request line must begin with http://"));
    }
    if let Some(authority) = uri.authority() {
        let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let is_same = Authority::parse(authority.as_str()).is_some_and(|line| line.is_same(&host, default));
        if !is_same {
            return Err(invalid("Host and the address in the request line must be the same"));
        }
    }
    Ok(host)
}

fn invalid(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "invalid-host", "The request is for no clear host", detail)
}

/// A configured name is not valid.
#[derive(thiserror::Error)]
#[error("{name:?} in hosts is not a name: write \"example.org\", \"example.org:3219\" or \"[2001:db8::1]\"")]
pub struct HostsError {
    name: String,
}

debug_as_text!(HostsError);

#[cfg(test)]
mod tests;
