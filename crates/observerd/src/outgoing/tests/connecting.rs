//! Which address is connected to.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::net::TcpListener;

use super::peers::{FakeNet, Leads, Server, allow, url};
use crate::outgoing::{AddressClass, Connector, OutgoingError, OutgoingFilter, Step};

const LONG: Duration = Duration::from_secs(20);

fn over(net: &FakeNet, filter: OutgoingFilter) -> Connector {
    Connector::with(filter, Box::new(net.clone()), None)
}

#[tokio::test]
async fn loopback_is_connected_to_if_it_is_listed() {
    let server = Server::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let url = server.url("/SECRET");
    let error = Connector::new(OutgoingFilter::default()).connect(&url, LONG).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "http://{} is refused: 127.0.0.1 is a loopback address; to allow it, add \"127.0.0.1\" to outgoing.allow",
            server.address
        )
    );
    assert!(error.is_refusal());
    let connection = Connector::new(allow(&["127.0.0.1"])).connect(&url, LONG).await.unwrap();
    assert_eq!(connection.peer(), server.address);
}

#[tokio::test]
async fn a_mapped_literal_is_connected_to_if_its_address_is_listed() {
    let server = Server::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let url = url(format!("http://[::ffff:127.0.0.1]:{}/", server.address.port()));
    let refused = Connector::new(OutgoingFilter::default()).connect(&url, LONG).await;
    assert!(matches!(refused, Err(OutgoingError::Refused { class: AddressClass::Ipv4Mapped, .. })));
    assert!(Connector::new(allow(&["127.0.0.1"])).connect(&url, LONG).await.is_ok());
}

#[tokio::test]
async fn the_systems_resolver_is_filtered_too() {
    let url = url("http://localhost:9/");
    let refused = Connector::new(OutgoingFilter::default()).connect(&url, LONG).await;
    assert!(matches!(refused, Err(OutgoingError::Refused { class: AddressClass::Loopback, .. })));
}

/// The name is public when it is resolved, and private each time after that.
#[tokio::test]
async fn a_name_that_is_bound_again_is_resolved_once() {
    let server = Server::answering("HTTP/1.1 200 OK\r\n\r\n").await;
    let leads = Leads::To(server.address);
    let net = FakeNet::answering(&[&["93.184.216.34"], &["10.0.0.1"]], leads);
    let connector = over(&net, OutgoingFilter::default());
    let url = url(format!("http://rebind.example:{}/", server.address.port()));
    let error = connector.connect(&url, LONG).await.unwrap_err();
    // The socket led to loopback, as one through a redirecting firewall.
    assert!(matches!(error, OutgoingError::Peer { found, .. } if found == server.address), "{error}");
    assert_eq!(net.resolved.lock().unwrap().len(), 1);
    assert_eq!(net.opened(), [format!("93.184.216.34:{}", server.address.port())]);
    let error = connector.connect(&url, LONG).await.unwrap_err();
    assert!(matches!(error, OutgoingError::Refused { class: AddressClass::Private, .. }), "{error}");
    assert_eq!(net.opened().len(), 1, "a refused address is not connected to");
    assert_eq!(server.requests(), [""; 0], "nothing was sent");
}

#[tokio::test]
async fn refused_addresses_are_skipped_and_further_ones_tried() {
    let server = Server::answering("HTTP/1.1 200 OK\r\n\r\n").await;
    // Nothing listens on this address: the port is bound on 127.0.0.1 alone.
    let net = FakeNet::answering(&[&["10.0.0.1", "::1", "127.0.0.9", "127.0.0.1"]], Leads::There);
    let connector = over(&net, allow(&["127.0.0.0/8"]));
    let port = server.address.port();
    let connection = connector.connect(&url(format!("http://many.example:{port}/")), LONG).await.unwrap();
    assert_eq!(connection.peer(), server.address);
    assert_eq!(net.opened(), [format!("127.0.0.9:{port}"), format!("127.0.0.1:{port}")]);
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_an_error_with_its_cause() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let connector = Connector::new(allow(&["127.0.0.1"]));
    let error = connector.connect(&url(format!("http://{address}/SECRET")), LONG).await.unwrap_err();
    assert!(matches!(error, OutgoingError::Connect { .. }) && !error.is_refusal());
    assert!(
        format!("{error:?}").contains("refused") && !format!("{error:?}").contains("SECRET"),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_hangs_ends_in_time() {
    let many: Vec<String> = (0..40).map(|n| format!("93.184.216.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let cases = [(Leads::Silent, Step::Resolve, 0), (Leads::Nowhere, Step::Connect, 16)];
    for (leads, expected, tried) in cases {
        let net = FakeNet::answering(&[&many], leads);
        let connector = over(&net, OutgoingFilter::default());
        let began = tokio::time::Instant::now();
        let error = connector.connect(&url("http://slow.example/"), LONG).await.unwrap_err();
        assert!(matches!(error, OutgoingError::Timeout { step, .. } if step == expected), "{error}");
        assert_eq!(net.opened().len(), tried, "each address has its share, and 16 are tried");
        assert!(began.elapsed() <= LONG + Duration::from_millis(50), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_name_without_an_address_is_an_error() {
    let connector = over(&FakeNet::default(), OutgoingFilter::default());
    let error = connector.connect(&url("http://none.example/"), LONG).await.unwrap_err();
    assert!(matches!(error, OutgoingError::Resolve { .. }), "{error}");
    let connector = over(&FakeNet::answering(&[&[]], Leads::There), OutgoingFilter::default());
    let error = connector.connect(&url("http://none.example/"), LONG).await.unwrap_err();
    assert!(matches!(error, OutgoingError::NoAddress { .. }), "{error}");
}

#[tokio::test]
async fn the_longest_time_is_no_overflow() {
    let server = Server::answering("HTTP/1.1 200 OK\r\n\r\n").await;
    let connector = Connector::new(allow(&["127.0.0.1"]));
    let answer =
        connector.post_json(&server.url("/"), Bytes::new(), HeaderMap::new(), Duration::MAX).await.unwrap();
    assert_eq!(answer.status, 200);
}
