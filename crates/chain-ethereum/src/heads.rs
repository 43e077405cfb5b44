//! New heads over WebSocket.

mod state;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{SinkExt, StreamExt};
use http::HeaderValue;
use http::header::AUTHORIZATION;
use rustls::ClientConfig;
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};
use tracing::{debug, info, warn};

use super::{Endpoint, EndpointError, tls};

pub use state::{HeadsLost, HeadsState, HeadsStates};

const SUBSCRIBE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["newHeads"]}"#;

/// How long a node may take to connect and to subscribe.
const PATIENCE: Duration = Duration::from_secs(10);
/// A connection that is silent for this time is pinged, and closed after the same time again.
const QUIET: Duration = Duration::from_secs(15);
/// A subscription that stood for this time is no failure.
const STEADY: Duration = Duration::from_secs(10);
/// The time before the first attempt to connect again; it doubles with each that fails.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A head has some kilobytes.
const LARGEST_MESSAGE: usize = 1 << 20;

/// Wakes an observation when a node announces a new head, until this value is dropped.
///
/// Give the same [`Notify`] to [`ObservationConfig::wake`](watchkeeper::ObservationConfig::wake). An announced head is
/// not read: it only starts the next poll sooner, and only the poll counts. So a lost connection loses nothing.
///
/// A lost connection is made again after 100 ms. That time doubles with each connection that does not stand for 10 s,
/// up to 10 s, also if the server grants each subscription and breaks it. Each new connection wakes once, for the heads
/// that were missed. A connection that is silent for 30 s, or sends what is not JSON, counts as lost.
/// [`states`](Self::states) reports all this.
#[derive(Debug)]
pub struct NewHeads {
    task: JoinHandle<()>,
    state: watch::Receiver<HeadsState>,
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
        let tls = Arc::new(tls::config()?);
        let network = Network { endpoint: endpoint.clone(), tls };
        let (publish, state) = watch::channel(HeadsState::Connecting);
        let follower = HeadFollower { endpoint, dial: network, wake, state: publish };
        Ok(Self { task: tokio::spawn(follower.run()), state })
    }

    /// Reads whether the node announces its heads, and why not. A new reader has read nothing of what was published
    /// before.
    #[must_use]
    pub fn states(&self) -> HeadsStates {
        HeadsStates(self.state.clone())
    }
}

impl Drop for NewHeads {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Makes connections.
#[async_trait]
trait Dial: Send + Sync {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send;

    async fn dial(&self) -> Result<WebSocketStream<Self::Stream>, Lost>;
}

struct Network {
    endpoint: Endpoint,
    tls: Arc<ClientConfig>,
}

#[async_trait]
impl Dial for Network {
    type Stream = MaybeTlsStream<TcpStream>;

    async fn dial(&self) -> Result<WebSocketStream<Self::Stream>, Lost> {
        let mut request = self.endpoint.secret_url().into_client_request().map_err(lost)?;
        if let Some(authorization) = self.endpoint.secret_authorization() {
            let value = HeaderValue::from_str(authorization).map_err(lost)?;
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let config = WebSocketConfig::default()
            .max_message_size(Some(LARGEST_MESSAGE))
            .max_frame_size(Some(LARGEST_MESSAGE))
            .max_write_buffer_size(LARGEST_MESSAGE);
        let connector = Connector::Rustls(Arc::clone(&self.tls));
        let connected = connect_async_tls_with_config(request, Some(config), true, Some(connector)).await;
        connected.map(|(socket, _)| socket).map_err(lost)
    }
}

struct HeadFollower<D> {
    endpoint: Endpoint,
    dial: D,
    wake: Arc<Notify>,
    state: watch::Sender<HeadsState>,
}

/// The fields of a node's message that are used.
#[derive(Deserialize)]
struct NodeMessage {
    method: Option<String>,
    result: Option<Value>,
    error: Option<Value>,
}

/// Why a connection was lost. The text may be long, and may contain secrets of the address.
struct Lost(String);

impl<D: Dial> HeadFollower<D> {
    async fn run(self) {
        let mut pause = FIRST_PAUSE;
        let mut failures = 0;
        loop {
            let Lost(reason) = match subscribe(&self.dial).await {
                Ok(socket) => {
                    self.wake.notify_one();
                    let granted = Instant::now();
                    let lost = tokio::select! {
                        lost = listen(socket, &self.wake) => lost,
                        never = self.report_connected(failures) => match never {},
                    };
                    if granted.elapsed() >= STEADY {
                        (pause, failures) = (FIRST_PAUSE, 0);
                    }
                    lost
                }
                Err(lost) => lost,
            };
            failures += 1;
            self.report_lost(&reason, failures, pause);
            sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    /// Publishes a subscription, after failures only once it stood for a while.
    async fn report_connected(&self, failures: u64) -> std::convert::Infallible {
        if failures > 0 {
            sleep(STEADY).await;
            info!(endpoint = %self.endpoint, failures, "new heads are announced again");
        }
        self.state.send_replace(HeadsState::Connected);
        pending().await
    }

    /// Publishes a failure if it is the first, or their number has doubled.
    fn report_lost(&self, reason: &str, failures: u64, again_in: Duration) {
        let reason = self.endpoint.clear(reason);
        if failures.is_power_of_two() {
            warn!(endpoint = %self.endpoint, reason, failures, ?again_in, "no connection for new heads");
            self.state.send_replace(HeadsState::Lost(HeadsLost { reason, failures, again_in }));
        } else {
            debug!(endpoint = %self.endpoint, reason, failures, ?again_in, "no connection for new heads");
        }
    }
}

/// Connects, and returns once the subscription is granted.
async fn subscribe<D: Dial>(dial: &D) -> Result<WebSocketStream<D::Stream>, Lost> {
    timeout(PATIENCE, async {
        let mut socket = dial.dial().await?;
        socket.send(Message::text(SUBSCRIBE)).await.map_err(lost)?;
        loop {
            match read(socket.next().await)? {
                // The answer, or a head that came before it.
                Some(NodeMessage { result: Some(_), .. } | NodeMessage { method: Some(_), .. }) => {
                    return Ok(socket);
                }
                Some(_) => {
                    return Err(lost("it answered the subscription with neither a result nor an error"));
                }
                None => {}
            }
        }
    })
    .await
    .unwrap_or_else(|_| Err(lost("it took too long to subscribe")))
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
        Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
            Ok(NodeMessage { error: Some(error), .. }) => Err(lost(refusal(&error))),
            Ok(message) => Ok(Some(message)),
            Err(error) => Err(lost(format!("it sent a text that is no JSON-RPC ({error}): {text}"))),
        },
        Some(Ok(Message::Binary(bytes))) => {
            let (length, text) = (bytes.len(), String::from_utf8_lossy(&bytes));
            Err(lost(format!("it sent a binary message of {length} bytes, where a text is expected: {text}")))
        }
        Some(Ok(Message::Close(Some(CloseFrame { code, reason })))) if reason.is_empty() => {
            Err(lost(format!("it closed the connection with code {code}")))
        }
        Some(Ok(Message::Close(Some(CloseFrame { code, reason })))) => {
            Err(lost(format!("it closed the connection with code {code}: {reason}")))
        }
        Some(Ok(Message::Close(None))) | None => Err(lost("it closed the connection")),
        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(None),
        Some(Err(error)) => Err(lost(error)),
    }
}

fn refusal(error: &Value) -> String {
    match (error["message"].as_str(), error["code"].as_i64()) {
        (Some(message), Some(code)) => format!("it answered with an error: {message} (code {code})"),
        _ => format!("it answered with an error: {error}"),
    }
}

fn lost(reason: impl fmt::Display) -> Lost {
    Lost(reason.to_string())
}
