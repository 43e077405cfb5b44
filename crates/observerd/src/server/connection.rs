//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::SendFlags;
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::activity::{Activity, Exchange};
use super::problem::Problem;
use super::raw;
use super::socket::Socket;

/// The most bytes of a request's line and header fields.
const MAX_HEAD: usize = 16 * 1024;

/// The most bytes that hyper buffers for a connection, in each direction.
const MAX_BUFFER: usize = 64 * 1024;

/// For how long a closed connection reads what the client still sends. A socket that is closed with unread bytes is reset, and the client
/// may lose the answer.
const LINGER: Duration = Duration::from_secs(1);

/// For how long it does so while the service stops.
const LINGER_STOPPING: Duration = Duration::from_millis(200);

/// The system's buffer for what is written to a connection, of which it says half: it doubles the number. Without this the buffer grows to some
/// MiB, which would be memory that no limit has, and bytes of which a deadline for writes knows nothing.
const SEND_BUFFER: usize = 256 * 1024 / 2;

/// The deadlines of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    pub(crate) head: Duration,
    /// For how long nothing may leave the system's buffer while it is full.
    pub(crate) write: Duration,
}

/// Serves a connection until the client closes it, a deadline ends it, or `stop` is cancelled and its open request is answered.
pub(crate) async fn run<S>(
    stream: TcpStream,
    peer: SocketAddr,
    service: S,
    deadlines: Deadlines,
    stop: CancellationToken,
) where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Unpin + 'static,
    S::Future: Send,
{
    // Without this, a small answer waits for the client's acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let _ = set_socket_send_buffer_size(&stream, SEND_BUFFER);
    let activity = Arc::new(Activity::default());
    let socket = Socket::new(stream, Arc::clone(&activity), deadlines.write).probed_by(send_now);
    let exchange = Exchange { service, peer, activity: Arc::clone(&activity) };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(deadlines.head)
        .max_header_size(MAX_HEAD)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(socket), exchange);

    let served = {
        let mut stopped = pin!(stop.cancelled());
        tokio::select! {
            biased;
            served = poll_fn(|cx| connection.poll_without_shutdown(cx)) => Some(served),
            () = &mut stopped => None,
        }
    };
    // At the stop, whether each answer was in the socket.
    let mut idle_at_stop = None;
    let served = if let Some(served) = served {
        Some(served)
    } else {
        idle_at_stop = Some(activity.is_quiet());
        Pin::new(&mut connection).graceful_shutdown();
        poll_fn(|cx| match connection.poll_without_shutdown(cx) {
            Poll::Ready(served) => Poll::Ready(Some(served)),
            // What there is of a head is not a request.
            Poll::Pending if activity.is_quiet() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    };

    let parts = connection.into_parts();
    let socket = parts.io.into_inner();
    // What came in one packet with the request before it.
    let has_rest = parts.read_buf.iter().any(|byte| !matches!(byte, b'\r' | b'\n'));
    let is_partial = (has_rest || socket.has_received()) && !activity.is_unread();
    let has_refused = socket.has_refused();
    let stream = socket.into_inner();
    match served {
        Some(Ok(())) if activity.is_unread() => close(stream, &stop).await,
        Some(Ok(())) if is_partial && idle_at_stop == Some(true) => {
            refuse(stream, &raw::stopping(), &stop).await;
        }
        // A client that is still sending would be reset, perhaps before it has read the answer.
        Some(Ok(())) if has_rest || idle_at_stop == Some(false) => close(stream, &stop).await,
        // Hyper has no answer to HTTP/2.
        Some(Err(error)) if error.is_parse() && !has_refused && activity.is_quiet() => {
            refuse(stream, &raw::refused_head(&[]), &stop).await;
        }
        Some(Err(error)) if error.is_parse() => close(stream, &stop).await,
        Some(Err(error)) if error.is_timeout() && is_partial => {
            refuse(stream, &raw::late_head(), &stop).await;
        }
        Some(Err(error)) => {
            tracing::debug!(%peer, %error, "a connection ended");
            if !activity.is_quiet() {
                // What the client did not read is of no use, and would stay in the system's memory.
                let _ = stream.set_zero_linger();
            }
        }
        None if is_partial => refuse(stream, &raw::stopping(), &stop).await,
        Some(Ok(())) | None => {}
    }
}

/// Sends what the system takes now, past the runtime: that waits until a third of the buffer is free.
fn send_now(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(stream, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
}

/// Answers with a problem, where no request was read, and closes the connection.
pub(crate) async fn refuse(mut stream: TcpStream, problem: &Problem, stop: &CancellationToken) {
    let answer = raw::answer(problem);
    if let Ok(Ok(())) = timeout(LINGER, stream.write_all(&answer)).await {
        close(stream, stop).await;
    }
}

/// Ends the answer, and reads and forgets what the client still sends: until it has ended too, or for a while, which a stop makes shorter.
async fn close(mut stream: TcpStream, stop: &CancellationToken) {
    let mut buffer = vec![0; 16 * 1024];
    let reading = timeout(LINGER, async {
        stream.shutdown().await?;
        while stream.read(&mut buffer).await? > 0 {}
        io::Result::Ok(())
    });
    let stopping = async {
        stop.cancelled().await;
        sleep(LINGER_STOPPING).await;
    };
    tokio::select! {
        biased;
        _ = reading => {}
        () = stopping => {}
    }
}
