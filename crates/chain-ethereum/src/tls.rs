//! TLS for addresses that ask for it.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};

use super::EndpointError;

/// Trusts the authorities that browsers trust.
///
/// The crypto provider is explicit: rustls panics if a build contains two and none is chosen.
pub(super) fn config() -> Result<ClientConfig, EndpointError> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| EndpointError::Tls { reason: error.to_string() })?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
