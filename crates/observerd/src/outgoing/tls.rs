//! TLS with the certificates that this machine trusts.

use std::io;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error as RustlsError, RootCertStore};
use watchkeeper::report::one_line;

/// Why a certificate is refused.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateFault {
    /// Its time is over.
    #[error("has expired: renew it")]
    Expired,
    /// Its time has not begun.
    #[error("is not valid yet: check the clock of this machine")]
    NotYetValid,
    /// It is another name's.
    #[error("is for another name: check the host of the URL")]
    OtherName,
    /// No authority that this machine trusts has signed it.
    #[error(
        "is signed by no authority that this machine trusts: install the authority's certificate, or set SSL_CERT_FILE"
    )]
    UnknownIssuer,
    /// It was revoked.
    #[error("is revoked: renew it")]
    Revoked,
    /// Something else.
    #[error("is refused: {message}")]
    Other {
        /// What rustls says.
        message: String,
    },
}

/// Why there is no TLS connection.
pub(super) enum TlsFault {
    Certificate(CertificateFault),
    Other(String),
}

/// Reads the certificates that this machine trusts. It blocks.
pub(super) fn native_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(found
            .errors
            .first()
            .map_or_else(|| "none".to_owned(), |error| one_line(&error.to_string(), 200)));
    }
    Ok(roots)
}

pub(super) fn connector(roots: RootCertStore) -> Result<TlsConnector, String> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| one_line(&error.to_string(), 200))?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

impl TlsFault {
    pub(super) fn of(error: &io::Error) -> Self {
        let known = error.get_ref().and_then(|source| source.downcast_ref::<RustlsError>());
        match known {
            Some(RustlsError::InvalidCertificate(fault)) => Self::Certificate(certificate_fault(fault)),
            Some(RustlsError::InvalidMessage(_)) => {
                Self::Other("the server does not answer in TLS; is http meant?".to_owned())
            }
            Some(other) => Self::Other(one_line(&other.to_string(), 200)),
            None if is_closed(error) => {
                Self::Other("the server has closed the connection; is http meant?".to_owned())
            }
            None => Self::Other(one_line(&error.to_string(), 200)),
        }
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

fn certificate_fault(fault: &CertificateError) -> CertificateFault {
    match fault {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => CertificateFault::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            CertificateFault::NotYetValid
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            CertificateFault::OtherName
        }
        // A bad signature: another authority of the same name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => CertificateFault::UnknownIssuer,
        CertificateError::Revoked => CertificateFault::Revoked,
        other => CertificateFault::Other { message: one_line(&other.to_string(), 200) },
    }
}

watchkeeper::report::debug_as_text!(CertificateFault);
