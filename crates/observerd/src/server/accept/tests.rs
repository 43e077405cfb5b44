use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use axum::Router;

use super::*;

/// Fails always, and notes when it was called.
struct Failing {
    kind: io::ErrorKind,
    calls: Arc<Mutex<Vec<Instant>>>,
}

impl Accept for Failing {
    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        self.calls.lock().unwrap().push(Instant::now());
        // As a listener does when it has been called often.
        tokio::task::yield_now().await;
        Err(self.kind.into())
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_to_accept_is_followed_by_a_pause() {
    let calls = Arc::default();
    let listener = Failing { kind: io::ErrorKind::Other, calls: Arc::clone(&calls) };
    let config = AcceptConfig::from(&LimitsConfig::default());
    let counts = Arc::clone(&config.counts);
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve_from(listener, Router::new(), config, stop.clone()));

    tokio::time::sleep(Duration::from_secs(5)).await;
    stop.cancel();
    let drained = serving.await.unwrap();

    let calls = calls.lock().unwrap();
    let pauses: Vec<_> = calls.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    // The timer of tokio has a grain of one millisecond.
    let expected = [10, 20, 40, 80, 160, 320, 640, 1_000, 1_000, 1_000];
    assert_eq!(pauses.len(), expected.len(), "{pauses:?}");
    assert!(pauses.iter().zip(expected).all(|(pause, expected)| pause.abs_diff(expected) <= 1), "{pauses:?}");
    assert_eq!(counts.failed(), calls.len() as u64);
    assert_eq!(drained, Drained { served: 0, refused: 0, aborted: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_failed_before_it_was_accepted_does_not_pause_the_others() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);

    struct Aborted(CancellationToken);

    impl Accept for Aborted {
        async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
            if CALLS.fetch_add(1, Ordering::Relaxed) == 100 {
                self.0.cancel();
            }
            tokio::task::yield_now().await;
            Err(io::ErrorKind::ConnectionAborted.into())
        }
    }

    let stop = CancellationToken::new();
    let config = AcceptConfig::from(&LimitsConfig::default());
    let began = Instant::now();
    serve_from(Aborted(stop.clone()), Router::new(), config, stop).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert!(CALLS.load(Ordering::Relaxed) >= 100);
}

#[test]
fn places_of_addresses_are_counted_while_they_are_taken() {
    let places: Arc<Places> = Arc::default();
    let take = |address: &str| places.take(address.parse().unwrap(), 2);
    let first = take("2001:db8::1");
    let second = take("2001:db8::2:1");
    assert!(first.is_some() && second.is_some());
    assert!(take("2001:db8::3").is_none(), "the same network of 64 bits");
    let other = take("2001:db8:0:1::1");
    let mapped = (take("::ffff:192.0.2.1"), take("192.0.2.1"));
    assert!(other.is_some() && mapped.1.is_some() && take("192.0.2.1").is_none());
    drop(second);
    assert!(take("2001:db8::3").is_some());
    drop((first, other, mapped));
    assert!(places.lock().is_empty(), "what has no connection is forgotten");
}
