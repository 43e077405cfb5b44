use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test(start_paused = true)]
async fn a_write_without_progress_ends_at_the_deadline() {
    let (socket, _client) = duplex(64);
    let activity = Arc::new(Activity::default());
    let _open = activity.begin(false);
    let mut socket = Socket::new(socket, activity, LIMIT);

    let began = Instant::now();
    let error = socket.write_all(&[0; 1_000]).await.unwrap_err();

    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(began.elapsed(), LIMIT);
}

#[tokio::test(start_paused = true)]
async fn progress_renews_the_deadline() {
    let (socket, mut client) = duplex(64);
    let activity = Arc::new(Activity::default());
    let _open = activity.begin(false);
    let mut socket = Socket::new(socket, activity, LIMIT);
    let writing = tokio::spawn(async move {
        socket.write_all(&[0; 1_000]).await?;
        io::Result::Ok(Instant::now())
    });

    let began = Instant::now();
    let mut read = 0;
    while read < 900 {
        sleep(LIMIT * 9 / 10).await;
        read += client.read(&mut [0; 64]).await.unwrap();
    }
    client.read_to_end(&mut Vec::new()).await.unwrap();

    // Longer than several limits in all.
    let ended = writing.await.unwrap().unwrap();
    assert!(ended - began > LIMIT * 5);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_of_an_earlier_write_does_not_end_a_later_one() {
    let (socket, mut client) = duplex(64);
    let activity = Arc::new(Activity::default());
    let _open = activity.begin(false);
    let mut socket = Socket::new(socket, activity, LIMIT);
    socket.write_all(&[0; 64]).await.unwrap();
    let mut stalled = Box::pin(socket.write_all(&[0; 64]));
    assert!(tokio::time::timeout(LIMIT / 2, &mut stalled).await.is_err());
    client.read_exact(&mut [0; 64]).await.unwrap();
    stalled.await.unwrap();

    // The buffer is full again, after a pause that is longer than the rest of the first deadline.
    sleep(LIMIT).await;
    let began = Instant::now();
    assert_eq!(socket.write_all(&[0]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(began.elapsed(), LIMIT);
}

#[tokio::test]
async fn what_is_written_without_a_request_is_replaced() {
    let (socket, mut client) = duplex(4_096);
    let mut socket = Socket::new(socket, Arc::new(Activity::default()), LIMIT);
    socket.write_all(b"HTTP/1.1 431 Request Header Fields Too Large\r\n").await.unwrap();
    socket.write_all(b"content-length: 0\r\n\r\n").await.unwrap();
    socket.flush().await.unwrap();
    drop(socket);

    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer.matches("HTTP/1.1 431 ").count(), 1, "{answer}");
    assert!(answer.contains("urn:observerd:problem:head-too-large"), "{answer}");
}

#[tokio::test]
async fn an_answer_is_not_replaced_before_all_of_it_is_sent() {
    let (socket, mut client) = duplex(4_096);
    let activity = Arc::new(Activity::default());
    let open = activity.begin(false);
    let mut socket = Socket::new(socket, activity, LIMIT);
    // Hyper has the whole body before it writes.
    drop(open);
    socket.write_all(b"one ").await.unwrap();
    socket.write_all(b"two").await.unwrap();
    socket.flush().await.unwrap();
    socket.write_all(b"HTTP/1.1 400 Bad Request\r\n").await.unwrap();
    socket.flush().await.unwrap();
    drop(socket);

    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("one twoHTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\n")
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_system_takes_at_the_deadline_is_progress() {
    static LEFT: AtomicUsize = AtomicUsize::new(3);

    let (socket, _client) = duplex(64);
    let activity = Arc::new(Activity::default());
    let _open = activity.begin(false);
    let mut socket = Socket::new(socket, activity, LIMIT).probed_by(|_, bytes| {
        let left = LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left.is_ok() { Ok(bytes.len().min(1)) } else { Err(io::ErrorKind::WouldBlock.into()) }
    });

    let began = Instant::now();
    let error = socket.write_all(&[0; 1_000]).await.unwrap_err();

    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(began.elapsed(), LIMIT * 4, "three bytes have left");
}
