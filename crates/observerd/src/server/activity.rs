//! What a connection is doing: shared by its service, its bodies and its socket.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tower::{Service, ServiceExt};

/// The state of one connection.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Requests whose answers are not yet in hyper's buffer.
    open: AtomicUsize,
    /// A request was received, and its answer is not yet in the socket.
    is_answering: AtomicBool,
    /// The newest request has a body that nobody has read to its end.
    is_unread: AtomicBool,
}

impl Activity {
    /// Whether no request is open, and each answer is in the socket.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.is_answering.load(Ordering::Acquire)
    }

    /// Whether the client may still be sending a body that nobody reads.
    pub(crate) fn is_unread(&self) -> bool {
        self.is_unread.load(Ordering::Acquire)
    }

    /// What hyper wrote is in the socket. Returns whether this ends an answer.
    pub(crate) fn flushed(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0 && self.is_answering.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn begin(self: &Arc<Self>, has_body: bool) -> Open {
        self.open.fetch_add(1, Ordering::AcqRel);
        self.is_answering.store(true, Ordering::Release);
        self.is_unread.store(has_body, Ordering::Release);
        Open(Arc::clone(self))
    }
}

/// An open request: from its head to the end of its answer's body.
#[derive(Debug)]
pub(crate) struct Open(Arc<Activity>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The service of one connection.
#[derive(Debug)]
pub(crate) struct Exchange<S> {
    pub(crate) service: S,
    pub(crate) peer: SocketAddr,
    pub(crate) activity: Arc<Activity>,
}

impl<S> hyper::service::Service<Request<Incoming>> for Exchange<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<AnswerBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let open = self.activity.begin(!request.body().is_end_stream());
        let activity = Arc::clone(&self.activity);
        let mut request = request.map(|body| Body::new(RequestBody { body, activity }));
        request.extensions_mut().insert(ConnectInfo(self.peer));
        let service = self.service.clone();
        let activity = Arc::clone(&self.activity);
        Box::pin(async move {
            let mut response = service.oneshot(request).await?;
            if activity.is_unread() {
                // The rest of the body is not worth reading: the connection ends with the answer.
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response.map(|body| AnswerBody { body, _open: open }))
        })
    }
}

/// The body of a request, which knows when it was read.
struct RequestBody {
    body: Incoming,
    activity: Arc<Activity>,
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.activity.is_unread.store(false, Ordering::Release);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer. Its request is open until it is dropped.
#[derive(Debug)]
pub(crate) struct AnswerBody {
    body: Body,
    _open: Open,
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
