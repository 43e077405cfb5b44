//! Where the service connects to: one connector that resolves, refuses, connects, and compares the peer's address.
//!
//! Only public addresses are connected to, unless `outgoing.allow` lists an address or its network. There is no way round it:
//! redirects are not followed, proxies are not used, a name is resolved once for a connection, and every spelling of an address
//! is read as that address.

mod class;
mod connector;
mod error;
mod filter;
mod literal;
mod net;
mod network;
mod post;
mod tls;
mod url;

pub use class::AddressClass;
pub use connector::{Connection, Connector};
pub use error::{OutgoingError, Step};
pub use filter::OutgoingFilter;
pub use network::NetworkFault;
pub use post::Answer;
pub use tls::CertificateFault;
pub use url::{Origin, OutgoingUrl, UrlFault};

#[cfg(test)]
mod tests;
