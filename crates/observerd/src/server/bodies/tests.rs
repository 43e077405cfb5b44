use std::io;

use futures_util::stream::{self, StreamExt};

use super::*;

const LIMIT: Duration = Duration::from_secs(30);

fn bodies(total: usize) -> Bodies {
    Bodies::new(&LimitsConfig { bodies: total, body: LIMIT, ..LimitsConfig::default() })
}

/// A body that comes in parts of some bytes.
fn parts(parts: usize, bytes: usize) -> Body {
    Body::from_stream(stream::iter(0..parts).map(move |_| io::Result::Ok(vec![b'x'; bytes])))
}

/// The status of a refusal.
async fn refused(bodies: &Bodies, body: Body, length: Option<u64>, most: usize) -> (u16, Option<u64>) {
    let problem = bodies.read(body, length, most).await.unwrap_err();
    assert_eq!(bodies.used(), 0, "the memory is free");
    (problem.status, problem.retry_after)
}

#[tokio::test]
async fn a_body_has_its_bytes_and_as_much_memory() {
    let bodies = bodies(1_000_000);
    for (body, length) in [(parts(30, 100), Some(3_000)), (parts(30, 100), None), (parts(1, 3_000), None)] {
        let (bytes, permit) = bodies.read(body, length, 3_000).await.unwrap();
        assert_eq!(bytes.len(), 3_000);
        assert_eq!(bodies.used(), 3_000);
        drop(permit);
        assert_eq!(bodies.used(), 0);
    }
    let (bytes, _permit) = bodies.read(Body::empty(), None, 3_000).await.unwrap();
    assert!(bytes.is_empty());
    assert_eq!(bodies.used(), 0);
}

#[tokio::test]
async fn a_body_of_unknown_length_takes_at_most_twice_its_bytes() {
    let bodies = bodies(100_000_000);
    let (bytes, _permit) = bodies.read(parts(100, 10_000), None, 50_000_000).await.unwrap();
    assert_eq!(bytes.len(), 1_000_000);
    assert!((1_000_000..=2_000_000).contains(&bodies.used()), "{}", bodies.used());
}

#[tokio::test]
async fn a_body_that_is_too_large() {
    let bodies = bodies(1_000_000);
    // By its length, before a byte of it is read.
    assert_eq!(refused(&bodies, Body::from_stream(never()), Some(101), 100).await.0, 413);
    assert_eq!(refused(&bodies, Body::from_stream(never()), Some(u64::MAX), 100).await.0, 413);
    // As it grows.
    assert_eq!(refused(&bodies, parts(usize::MAX, 10), None, 1_000).await.0, 413);
    // One that can never have memory: 503 would ask for it again and again.
    assert_eq!(refused(&bodies, parts(1, 10), Some(1_000_001), usize::MAX).await.0, 413);
    assert_eq!(refused(&bodies, parts(usize::MAX, 1_000), None, usize::MAX).await.0, 413);
}

#[tokio::test]
async fn a_body_without_memory() {
    let bodies = bodies(1_000);
    let (_bytes, permit) = bodies.read(parts(1, 600), Some(600), 1_000).await.unwrap();
    let problem = bodies.read(Body::from_stream(never()), Some(500), 1_000).await.unwrap_err();
    assert_eq!((problem.status, problem.retry_after), (503, Some(1)));
    let problem = bodies.read(parts(5, 100), None, 1_000).await.unwrap_err();
    assert_eq!((problem.status, problem.retry_after), (503, Some(1)));
    assert_eq!(bodies.used(), 600);
    let _ = bodies.read(parts(4, 100), Some(400), 1_000).await.unwrap();
    drop(permit);
    let _ = bodies.read(parts(10, 100), None, 1_000).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_slow() {
    let bodies = bodies(1_000);
    let began = Instant::now();
    assert_eq!(refused(&bodies, Body::from_stream(never()), None, 100).await.0, 408);
    assert_eq!(began.elapsed(), LIMIT);
    // A byte now and then does not help.
    let drops = stream::unfold((), |()| async {
        tokio::time::sleep(LIMIT / 10).await;
        Some((io::Result::Ok("x"), ()))
    });
    assert_eq!(refused(&bodies, Body::from_stream(drops), Some(100), 100).await.0, 408);
    assert_eq!(began.elapsed(), LIMIT * 2);
}

#[tokio::test]
async fn lengths_alone_take_no_memory() {
    let bodies = bodies(1_000);
    let mut slow: Vec<_> =
        (0..10).map(|_| Box::pin(bodies.read(Body::from_stream(never()), Some(900), 1_000))).collect();
    for read in &mut slow {
        assert!(futures_util::poll!(read).is_pending());
    }
    assert_eq!(bodies.used(), 0);
    let _ = bodies.read(parts(1, 900), Some(900), 1_000).await.unwrap();
}

#[tokio::test]
async fn a_body_that_breaks() {
    let bodies = bodies(1_000);
    let broken = stream::iter([Ok("some"), Err(io::Error::other("the connection is gone"))]);
    assert_eq!(refused(&bodies, Body::from_stream(broken), None, 100).await.0, 400);
}

#[tokio::test]
async fn a_read_that_is_dropped_frees_its_memory() {
    let bodies = bodies(10_000);
    let begun = stream::iter([io::Result::Ok(vec![0; 100])]).chain(never());
    let mut read = Box::pin(bodies.read(Body::from_stream(begun), None, 10_000));
    assert!(futures_util::poll!(&mut read).is_pending());
    assert_eq!(bodies.used(), FIRST);
    drop(read);
    assert_eq!(bodies.used(), 0);
}

fn never() -> impl stream::Stream<Item = io::Result<Vec<u8>>> + Send {
    stream::pending()
}

/// What never fits is 413: a client that tries again would do so for ever. What is used by others is 503.
#[tokio::test]
async fn more_memory_than_there_is() {
    let bodies = bodies(10_000);
    let (_, mut permit) = bodies.read(parts(1, 1_000), Some(1_000), 2_000).await.unwrap();
    let refused = bodies.take_more(&mut permit, 9_001).unwrap_err();
    assert_eq!((refused.status, refused.retry_after), (413, None));
    let other = bodies.reserve(5_000).unwrap();
    let refused = bodies.take_more(&mut permit, 9_000).unwrap_err();
    assert_eq!((refused.status, refused.retry_after), (503, Some(1)));
    drop(other);
    bodies.take_more(&mut permit, 9_000).unwrap();
    assert_eq!(bodies.used(), 10_000);
    drop(permit);
    assert_eq!(bodies.used(), 0);
}
