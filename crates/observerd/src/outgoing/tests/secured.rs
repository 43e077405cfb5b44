//! TLS: which certificates are refused, and why.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_util::task::AbortOnDropHandle;

use super::peers::{FakeNet, Leads, allow, read_request, url};
use crate::outgoing::{Answer, CertificateFault, Connector, OutgoingError, Step};

const LONG: Duration = Duration::from_secs(20);

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }

    /// A server with a certificate for `name`, valid in these years.
    async fn server(&self, name: &str, years: [i32; 2]) -> (SocketAddr, AbortOnDropHandle<()>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        [params.not_before, params.not_after] = years.map(|year| date_time_ymd(year, 1, 1));
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                assert_eq!(stream.get_ref().1.server_name(), Some("hooks.example"));
                read_request(&mut stream).await;
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
                let _ = stream.shutdown().await;
            }
        });
        (address, AbortOnDropHandle::new(task))
    }
}

async fn post(roots: RootCertStore, address: SocketAddr) -> Result<Answer, OutgoingError> {
    let net = FakeNet::answering(&[&["127.0.0.1"]], Leads::There);
    let connector = Connector::with(allow(&["127.0.0.1"]), Box::new(net), Some(roots));
    let url = url(format!("https://hooks.example.:{}/SECRET", address.port()));
    connector.post_json(&url, Bytes::from_static(b"{}"), HeaderMap::new(), LONG).await
}

#[tokio::test]
async fn a_certificate_is_checked() {
    // Of one name and two keys.
    let (authority, other) = (Authority::new(), Authority::new());
    let years = [2000, 4000];
    let cases = [
        (authority.roots(), "hooks.example", years, None),
        (authority.roots(), "hooks.example", [2000, 2001], Some(CertificateFault::Expired)),
        (authority.roots(), "hooks.example", [3000, 4000], Some(CertificateFault::NotYetValid)),
        (authority.roots(), "other.example", years, Some(CertificateFault::OtherName)),
        (other.roots(), "hooks.example", years, Some(CertificateFault::UnknownIssuer)),
    ];
    for (roots, name, years, expected) in cases {
        let (address, _server) = authority.server(name, years).await;
        let found = match post(roots, address).await {
            Ok(answer) => {
                assert_eq!(answer.status, 204);
                None
            }
            Err(OutgoingError::Certificate { fault, .. }) => Some(fault),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(found, expected, "{name} {years:?}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused() {
    for answer in ["HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", ""] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let _server = AbortOnDropHandle::new(tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4_096]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }));
        let error = post(Authority::new().roots(), address).await.unwrap_err();
        assert!(matches!(error, OutgoingError::Tls { .. }), "{error}");
        assert!(error.to_string().contains("is http meant?"), "{error}");
        assert!(!format!("{error:?}").contains("SECRET"));
    }
}

#[tokio::test]
async fn a_handshake_that_hangs_is_a_time_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connector = Connector::with(
        allow(&["127.0.0.1"]),
        Box::new(FakeNet::answering(&[&["127.0.0.1"]], Leads::There)),
        Some(Authority::new().roots()),
    );
    let url = url(format!("https://hooks.example:{}/", listener.local_addr().unwrap().port()));
    let error = connector.connect(&url, Duration::from_millis(100)).await.unwrap_err();
    assert!(matches!(error, OutgoingError::Timeout { step: Step::Tls, .. }), "{error}");
}

#[tokio::test]
async fn no_authorities_are_an_error_of_the_certificate() {
    let (address, _server) = Authority::new().server("hooks.example", [2000, 4000]).await;
    let error = post(RootCertStore::empty(), address).await.unwrap_err();
    let expected = CertificateFault::UnknownIssuer;
    assert!(matches!(error, OutgoingError::Certificate { fault, .. } if fault == expected));
}
