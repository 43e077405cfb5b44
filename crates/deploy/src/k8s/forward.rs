//! Port forwarding from this machine to one pod, through the API server.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::error::K8sError;
use super::options::Reach;

/// How long to wait after a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// A port of this machine that leads to a port of a pod; each connection has its own stream.
///
/// Dropping it closes the port and its connections: a pod that is gone refuses connections, like a process.
#[derive(Debug)]
pub(super) struct Forward {
    pub(super) addr: SocketAddr,
    task: AbortOnDropHandle<()>,
}

/// Opens a forwarded port for a pod, where one is needed.
pub(super) struct Opener {
    /// `None` where pods are reached by their own addresses.
    pods: Option<Api<Pod>>,
    listen: Box<dyn Fn() -> io::Result<std::net::TcpListener> + Send + Sync>,
}

impl Opener {
    pub(super) fn new(reach: Reach, pods: &Api<Pod>) -> Self {
        let pods = (reach == Reach::PortForward).then(|| pods.clone());
        Self { pods, listen: Box::new(|| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))) }
    }

    /// Forwards by the listeners that `listen` returns.
    #[cfg(test)]
    pub(super) fn listening(
        pods: Api<Pod>,
        listen: impl Fn() -> io::Result<std::net::TcpListener> + Send + Sync + 'static,
    ) -> Self {
        Self { pods: Some(pods), listen: Box::new(listen) }
    }

    pub(super) fn open(&self, pod: &str, port: u16) -> io::Result<Option<Forward>> {
        let Some(pods) = &self.pods else { return Ok(None) };
        let listener = (self.listen)()?;
        listener.set_nonblocking(true)?;
        Forward::start(TcpListener::from_std(listener)?, pods.clone(), pod, port).map(Some)
    }
}

impl Forward {
    /// Closes the port and returns when it is closed; its connections break.
    pub(super) async fn close(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    fn start(listener: TcpListener, pods: Api<Pod>, pod: &str, port: u16) -> io::Result<Self> {
        let addr = listener.local_addr()?;
        let listener = Arc::new(listener);
        let accept = move || {
            let listener = Arc::clone(&listener);
            async move { listener.accept().await.map(|(local, _)| local) }
        };
        let serving = serve(accept, pods, pod.to_owned(), port);
        Ok(Self { addr, task: AbortOnDropHandle::new(tokio::spawn(serving)) })
    }
}

/// Never ends by itself.
async fn serve<F>(mut accept: impl FnMut() -> F, pods: Api<Pod>, pod: String, port: u16)
where
    F: Future<Output = io::Result<TcpStream>>,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = accept() => match accepted {
                Ok(local) => {
                    let (pods, pod) = (pods.clone(), pod.clone());
                    connections.spawn(async move {
                        if let Err(reason) = carry(local, pods, &pod, port).await {
                            debug!(pod, reason, "a forwarded connection broke");
                        }
                    });
                }
                Err(error) => {
                    // Most likely out of file descriptors: some have to be closed first.
                    debug!(pod, %error, "cannot accept a connection to forward; retrying");
                    sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(mut local: TcpStream, pods: Api<Pod>, pod: &str, port: u16) -> Result<(), String> {
    let forwarding = pods.portforward(pod, &[port]).await;
    let mut forwarder =
        forwarding.map_err(K8sError::of("forward a port")).map_err(|error| error.to_string())?;
    let (Some(mut remote), Some(refusal)) = (forwarder.take_stream(port), forwarder.take_error(port)) else {
        return Err("the API server gave no stream".to_owned());
    };
    let refused = async {
        match refusal.await {
            Some(message) => message,
            // No error: the end of the stream itself decides.
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        copied = copy_bidirectional(&mut local, &mut remote) => copied.map(drop).map_err(|error| error.to_string()),
        message = refused => Err(message),
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use kube::{Client, Config};
    use tokio::sync::mpsc;
    use tokio::time::{Instant, timeout};

    use super::*;

    /// The first three connections cannot be accepted, and there is no open one whose end could help.
    #[tokio::test]
    async fn a_connection_that_cannot_be_accepted_does_not_end_the_forwarding() {
        // Nothing is sent there.
        let client = Client::try_from(Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
        let (asking, mut asked) = mpsc::unbounded_channel();
        let mut failures = 3;
        let accept = move || {
            asking.send(Instant::now()).unwrap();
            let fails = failures > 0;
            failures -= i32::from(fails);
            async move { if fails { Err(io::Error::other("too many open files")) } else { pending().await } }
        };
        let began = Instant::now();
        let serving = AbortOnDropHandle::new(tokio::spawn(serve(
            accept,
            Api::namespaced(client, "kv"),
            "kv-0".to_owned(),
            4000,
        )));
        for nth in 0..=3 {
            let asked = timeout(Duration::from_secs(15), asked.recv()).await.unwrap().unwrap();
            assert!(asked - began >= PAUSE * nth, "{:?}", asked - began);
        }
        assert!(!serving.is_finished());
    }
}
