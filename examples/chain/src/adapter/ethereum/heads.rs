//! New heads over WebSocket.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::HeaderValue;
use http::header::AUTHORIZATION;
use rustls::ClientConfig;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};
use tracing::debug;

use super::{Endpoint, EndpointError, tls};

const SUBSCRIBE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["newHeads"]}"#;

/// How long a node may take to connect and to subscribe.
const PATIENCE: Duration = Duration::from_secs(10);
/// A connection that is silent for this time is pinged, and closed after the same time again.
const QUIET: Duration = Duration::from_secs(15);
/// The time before the first attempt to connect again; it doubles with each that fails.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A head has some kilobytes.
const LARGEST_MESSAGE: usize = 1 << 20;

/// Wakes an observation when a node announces a new head, until this value is dropped.
///
/// Give the same [`Notify`] to [`ObservationConfig::wake`](watchkeeper::ObservationConfig::wake). An announced head is
/// not read: it only starts the next poll sooner, and only the poll counts. So a lost connection loses nothing. It is
/// made again after 100 ms, then 200 ms, up to 10 s; each new connection wakes too, for the heads that were missed. A
/// connection that is silent for 30 s counts as lost.
#[derive(Debug)]
pub struct NewHeads {
    task: JoinHandle<()>,
}

impl NewHeads {
    /// Follows the heads of the node at an address of ws or wss.
    ///
    /// # Errors
    ///
    /// [`EndpointError::WrongScheme`] for an address of another protocol, [`EndpointError::Tls`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn follow(endpoint: Endpoint, wake: Arc<Notify>) -> Result<Self, EndpointError> {
        endpoint.require(["ws", "wss"], "ws or wss")?;
        let follower = HeadFollower { endpoint, tls: Arc::new(tls::config()?), wake };
        Ok(Self { task: tokio::spawn(follower.run()) })
    }
}

impl Drop for NewHeads {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct HeadFollower {
    endpoint: Endpoint,
    tls: Arc<ClientConfig>,
    wake: Arc<Notify>,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The fields of a node's message that are used.
#[derive(Deserialize)]
struct NodeMessage {
    method: Option<String>,
    error: Option<serde_json::Value>,
}

/// Why a connection was lost.
struct Lost(String);

impl HeadFollower {
    async fn run(self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let Lost(reason) = match self.subscribe().await {
                Ok(socket) => {
                    pause = FIRST_PAUSE;
                    self.wake.notify_one();
                    listen(socket, &self.wake).await
                }
                Err(lost) => lost,
            };
            let reason = self.endpoint.clear(&reason);
            debug!(endpoint = %self.endpoint, reason, again_in = ?pause, "no connection for new heads");
            sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    async fn subscribe(&self) -> Result<Socket, Lost> {
        timeout(PATIENCE, async {
            let mut request = self.endpoint.secret_url().into_client_request().map_err(lost)?;
            if let Some(authorization) = self.endpoint.secret_authorization() {
                let value = HeaderValue::from_str(authorization).map_err(lost)?;
                request.headers_mut().insert(AUTHORIZATION, value);
            }
            let config = WebSocketConfig::default()
                .max_message_size(Some(LARGEST_MESSAGE))
                .max_frame_size(Some(LARGEST_MESSAGE));
            let connector = Connector::Rustls(Arc::clone(&self.tls));
            let (mut socket, _) = connect_async_tls_with_config(request, Some(config), true, Some(connector))
                .await
                .map_err(lost)?;
            socket.send(Message::text(SUBSCRIBE)).await.map_err(lost)?;
            loop {
                match read(socket.next().await)? {
                    Some(NodeMessage { error: Some(error), .. }) => return Err(lost(error)),
                    // The answer, or a head that came before it.
                    Some(_) => return Ok(socket),
                    None => {}
                }
            }
        })
        .await
        .unwrap_or_else(|_| Err(lost("it took too long to subscribe")))
    }
}

/// Wakes with each head, until the connection is lost.
async fn listen<S: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocketStream<S>, wake: &Notify) -> Lost {
    let mut asked = false;
    loop {
        match timeout(QUIET, socket.next()).await {
            Ok(message) => match read(message) {
                Ok(message) => {
                    asked = false;
                    if message.is_some_and(|message| message.method.as_deref() == Some("eth_subscription")) {
                        wake.notify_one();
                    }
                }
                Err(lost) => return lost,
            },
            Err(_) if asked => return lost("it was silent for too long"),
            Err(_) => {
                asked = true;
                match timeout(QUIET, socket.send(Message::Ping(Bytes::new()))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return lost(error),
                    Err(_) => return lost("it accepts no data"),
                }
            }
        }
    }
}

/// The content of a message; `None` for a control message of the connection.
fn read(
    message: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>,
) -> Result<Option<NodeMessage>, Lost> {
    match message {
        Some(Ok(Message::Text(text))) => serde_json::from_str(&text).map(Some).map_err(lost),
        Some(Ok(Message::Close(_))) | None => Err(lost("it closed the connection")),
        Some(Ok(_)) => Ok(None),
        Some(Err(error)) => Err(lost(error)),
    }
}

fn lost(reason: impl fmt::Display) -> Lost {
    Lost(reason.to_string())
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};
    use tokio::net::TcpListener;
    use tokio::time::Instant;
    use tokio_tungstenite::accept_async;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    const LONG: Duration = Duration::from_mins(1);
    const ANSWER: &str = r#"{"jsonrpc":"2.0","id":1,"result":"0x1"}"#;
    const REFUSAL: &str = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no subscriptions"}}"#;
    const HEAD: &str = r#"{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"0x1"}}"#;

    /// A WebSocket server that is no node, and its follower.
    struct Fake {
        listener: TcpListener,
        wake: Arc<Notify>,
        _heads: NewHeads,
    }

    impl Fake {
        async fn followed() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let endpoint = format!("ws://{}", listener.local_addr().unwrap()).parse().unwrap();
            let wake = Arc::new(Notify::new());
            let heads = NewHeads::follow(endpoint, Arc::clone(&wake)).unwrap();
            Self { listener, wake, _heads: heads }
        }

        /// Accepts a connection and reads its subscription.
        async fn asked(&self) -> WebSocketStream<TcpStream> {
            let (stream, _) = timeout(LONG, self.listener.accept()).await.unwrap().unwrap();
            let mut socket = accept_async(stream).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(SUBSCRIBE));
            socket
        }

        /// Accepts a connection and grants its subscription.
        async fn subscribed(&self) -> WebSocketStream<TcpStream> {
            let mut socket = self.asked().await;
            socket.send(Message::text(ANSWER)).await.unwrap();
            self.is_woken().await;
            socket
        }

        async fn is_woken(&self) {
            timeout(LONG, self.wake.notified()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_refused_subscription_wakes_nobody_and_is_tried_again() {
        let fake = Fake::followed().await;
        for _ in 0..2 {
            fake.asked().await.send(Message::text(REFUSAL)).await.unwrap();
        }
        let mut socket = fake.asked().await;
        assert!(timeout(Duration::ZERO, fake.wake.notified()).await.is_err());
        socket.send(Message::text(ANSWER)).await.unwrap();
        fake.is_woken().await;
        socket.send(Message::text(HEAD)).await.unwrap();
        fake.is_woken().await;
    }

    #[tokio::test]
    async fn an_unreadable_message_ends_the_connection_and_the_next_one_wakes() {
        let fake = Fake::followed().await;
        let mut socket = fake.subscribed().await;
        socket.send(Message::text("{")).await.unwrap();
        fake.subscribed().await;
    }

    /// Both ends of a connection in memory with a buffer of `room` bytes: the node's, and ours.
    async fn connection(room: usize) -> (WebSocketStream<DuplexStream>, WebSocketStream<DuplexStream>) {
        let (node, ours) = duplex(room);
        let node = WebSocketStream::from_raw_socket(node, Role::Server, None).await;
        (node, WebSocketStream::from_raw_socket(ours, Role::Client, None).await)
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_is_kept_while_it_answers_pings() {
        let (mut node, ours) = connection(1024).await;
        let wake = Notify::new();
        let began = Instant::now();
        let answers = async {
            for nth in 1..=5 {
                // Reading a ping answers it.
                let message = node.next().await.unwrap().unwrap();
                assert!(message.is_ping(), "{message:?}");
                assert_eq!(began.elapsed().as_secs(), nth * QUIET.as_secs());
            }
        };
        tokio::select! {
            Lost(reason) = listen(ours, &wake) => panic!("{reason}"),
            () = answers => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_that_answers_no_ping_is_closed() {
        for (room, says) in [(1024, "it was silent for too long"), (1, "it accepts no data")] {
            let (_node, ours) = connection(room).await;
            let began = Instant::now();
            let Lost(reason) = listen(ours, &Notify::new()).await;
            assert_eq!((&*reason, began.elapsed().as_secs()), (says, 2 * QUIET.as_secs()));
        }
    }
}
