//! Starts an observation with one call.

use crate::config::ObservationConfig;
use crate::error::DynError;
use crate::error::ObservationRuntimeError;
use crate::per_source::PerSource;
use crate::runtime::ObservationRuntime;
use crate::source::{ObservedSource, SourceProvider};

/// Starts an observation that probes each of `sources` at each interval.
///
/// It returns when each source has answered or failed once, or after half an interval (at most 5 s). It is
/// [`ObservationRuntime::start`] with a [`PerSource`]. `config` is an interval or an [`ObservationConfig`], for
/// example with a [parent](ObservationConfig::parent). `sources` is an array or a `Vec` of pairs `(name, source)`, or
/// any other [`SourceProvider`].
///
/// # Errors
///
/// [`ObservationRuntimeError`]: the interval is zero or over 24 h; another field of the config is out of range; the
/// provider failed; the parent was cancelled; or there is no tokio runtime. A failed probe is no error of this call.
///
/// # Examples
///
/// ```
/// use std::{net::SocketAddr, time::Duration};
/// use tokio::{io::AsyncReadExt, net::TcpStream};
/// use watchkeeper::ObservedSource;
///
/// async fn greeting(server: ObservedSource<SocketAddr>) -> std::io::Result<String> {
///     let mut said = String::new();
///     TcpStream::connect(server.source).await?.read_to_string(&mut said).await?;
///     Ok(said)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), watchkeeper::DynError> {
/// # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// # let address = listener.local_addr()?;
/// # tokio::spawn(async move {
/// #     while let Ok((mut stream, _)) = listener.accept().await {
/// #         let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"220 ready").await;
/// #     }
/// # });
/// let runtime = watchkeeper::observe(Duration::from_millis(50), [("mail", address)], greeting).await?;
/// let ready = runtime.handle().all_sources("the server is ready", |said| said.starts_with("220"));
/// ready.within(Duration::from_secs(10)).await?;
/// # let _ = runtime.stop().await;
/// # Ok(())
/// # }
/// ```
///
/// Cancelling a parent is a requested stop:
///
/// ```
/// # use std::time::Duration;
/// use watchkeeper::{ObservationConfig, ObservedSource};
/// use watchkeeper::runtime::{CancellationToken, StopReason};
///
/// async fn length(file: ObservedSource<&'static str>) -> std::io::Result<usize> {
///     Ok(file.source.len())
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), watchkeeper::DynError> {
/// let parent = CancellationToken::new();
/// let config = ObservationConfig { parent: Some(parent.clone()), ..Duration::from_millis(50).into() };
/// let runtime = watchkeeper::observe(config, [("motd", "hello")], length).await?;
/// parent.cancel();
/// assert_eq!(runtime.handle().stopped().await, StopReason::Requested);
/// # Ok(())
/// # }
/// ```
pub async fn observe<S, V, E, P, F, Fut>(
    config: impl Into<ObservationConfig>,
    sources: P,
    probe: F,
) -> Result<ObservationRuntime<PerSource<S, V>>, ObservationRuntimeError>
where
    S: Clone + Send + Sync + 'static,
    V: PartialEq + Send + Sync + 'static,
    E: Into<DynError>,
    P: SourceProvider<S>,
    F: Fn(ObservedSource<S>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<V, E>> + Send + 'static,
{
    ObservationRuntime::start(sources, PerSource::new(probe), config.into()).await
}
