//! The shortest way in.

use std::time::Duration;

use crate::config::ObservationConfig;
use crate::error::ObservationRuntimeError;
use crate::observer::DynError;
use crate::per_source::PerSource;
use crate::runtime::ObservationRuntime;
use crate::source::{ObservedSource, SourceProvider};

/// Starts an observation that asks each of `sources` by `probe` at each `interval`, and returns when each was asked
/// once, or after half an interval.
///
/// It is [`ObservationRuntime::start`] with a [`PerSource`] and the defaults of [`ObservationConfig`]. `sources` may be an
/// array or a `Vec` of pairs `(name, source)`, or any other [`SourceProvider`].
///
/// # Errors
///
/// [`ObservationRuntimeError`]: `interval` is zero or over 24 h, the provider failed, or there is no tokio runtime. A probe
/// that fails is no error: it is known of its source.
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
pub async fn observe<S, V, E, P, F, Fut>(
    interval: Duration,
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
    let config = ObservationConfig { interval, ..ObservationConfig::default() };
    ObservationRuntime::start(sources, PerSource::new(probe), config).await
}
