//! From this machine to one pod, through the API server.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::error::K8sError;

/// A port of this machine that leads to a port of a pod; each connection is a stream of its own.
///
/// Dropping it closes the port and its connections: a pod that is gone refuses, like a process.
#[derive(Debug)]
pub(super) struct Forward {
    pub(super) addr: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl Forward {
    pub(super) async fn open(pods: Api<Pod>, pod: &str, port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let serving = serve(listener, pods, pod.to_owned(), port);
        Ok(Self { addr, _task: AbortOnDropHandle::new(tokio::spawn(serving)) })
    }
}

async fn serve(listener: TcpListener, pods: Api<Pod>, pod: String, port: u16) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((local, _)) => {
                    let (pods, pod) = (pods.clone(), pod.clone());
                    connections.spawn(async move {
                        if let Err(reason) = carry(local, pods, &pod, port).await {
                            debug!(pod, reason, "a forwarded connection broke");
                        }
                    });
                }
                Err(error) => {
                    // Out of descriptors, most likely: those of connections that end are what helps.
                    debug!(pod, %error, "cannot take a connection to forward");
                    if connections.join_next().await.is_none() {
                        return;
                    }
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
            // Told nothing: the stream itself says how it ends.
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        copied = copy_bidirectional(&mut local, &mut remote) => copied.map(drop).map_err(|error| error.to_string()),
        message = refused => Err(message),
    }
}
