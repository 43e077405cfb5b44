//! Port forwarding, as the API server does it over a web socket.

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Shared;
use super::routes::{refused, status};
use super::store::Key;

/// Data of the first port; the channel of its errors is the next one.
const DATA: u8 = 0;
const ERROR: u8 = 1;

pub(super) fn forward(shared: &Shared, key: &Key, upgrade: WebSocketUpgrade, port: &str) -> Response {
    let pod = shared.change(|state| state.store.get(key).cloned());
    let Some(ip) = pod.as_ref().and_then(|pod| pod["status"]["podIP"].as_str()).map(str::to_owned) else {
        return refused(404, status(404, "NotFound", "no such pod, or it does not run"));
    };
    let port: u16 = port.parse().unwrap();
    upgrade
        .protocols(["v4.channel.k8s.io"])
        .on_upgrade(move |socket| async move {
            // A peer may disconnect at any time.
            let _ = carry(socket, &ip, port).await;
        })
        .into_response()
}

async fn carry(
    mut socket: WebSocket,
    ip: &str,
    port: u16,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let [low, high] = port.to_le_bytes();
    for channel in [DATA, ERROR] {
        socket.send(Message::Binary(vec![channel, low, high].into())).await?;
    }
    let mut pod = match TcpStream::connect((ip, port)).await {
        Ok(pod) => pod,
        Err(error) => {
            let message = [&[ERROR], error.to_string().as_bytes()].concat();
            return Ok(socket.send(Message::Binary(message.into())).await?);
        }
    };
    let mut buffer = vec![0; 16 << 10];
    buffer[0] = DATA;
    loop {
        tokio::select! {
            read = pod.read(&mut buffer[1..]) => match read? {
                0 => return Ok(socket.send(Message::Close(None)).await?),
                length => socket.send(Message::Binary(buffer[..=length].to_vec().into())).await?,
            },
            message = socket.recv() => match message.transpose()? {
                Some(Message::Binary(bytes)) if bytes.first() == Some(&DATA) => pod.write_all(&bytes[1..]).await?,
                None | Some(Message::Close(_)) => return Ok(()),
                Some(_) => {}
            },
        }
    }
}
