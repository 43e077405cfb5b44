//! A server that is no node, over real sockets and in memory.

use std::sync::{Mutex, PoisonError};

use futures_util::future::BoxFuture;
use tokio::io::{DuplexStream, duplex};
use tokio::net::TcpListener;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::*;

const LONG: Duration = Duration::from_mins(1);
const ANSWER: &str = r#"{"jsonrpc":"2.0","id":1,"result":"0x1"}"#;
const REFUSAL: &str = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no subscriptions"}}"#;
const HEAD: &str = r#"{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"0x1"}}"#;

/// A WebSocket server that is no node, and its follower.
struct Fake {
    listener: TcpListener,
    wake: Arc<Notify>,
    _heads: NewHeads,
}

impl Fake {
    async fn followed() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("ws://{}", listener.local_addr().unwrap()).parse().unwrap();
        let wake = Arc::new(Notify::new());
        let heads = NewHeads::follow(endpoint, Arc::clone(&wake)).unwrap();
        Self { listener, wake, _heads: heads }
    }

    /// Accepts a connection and reads its subscription.
    async fn asked(&self) -> WebSocketStream<TcpStream> {
        let (stream, _) = timeout(LONG, self.listener.accept()).await.unwrap().unwrap();
        let mut socket = accept_async(stream).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(SUBSCRIBE));
        socket
    }

    /// Accepts a connection and grants its subscription.
    async fn subscribed(&self) -> WebSocketStream<TcpStream> {
        let mut socket = self.asked().await;
        socket.send(Message::text(ANSWER)).await.unwrap();
        self.is_woken().await;
        socket
    }

    async fn is_woken(&self) {
        timeout(LONG, self.wake.notified()).await.unwrap();
    }
}

#[tokio::test]
async fn a_refused_subscription_wakes_nobody_and_is_tried_again() {
    let fake = Fake::followed().await;
    for _ in 0..2 {
        fake.asked().await.send(Message::text(REFUSAL)).await.unwrap();
    }
    let mut socket = fake.asked().await;
    assert!(timeout(Duration::ZERO, fake.wake.notified()).await.is_err());
    socket.send(Message::text(ANSWER)).await.unwrap();
    fake.is_woken().await;
    socket.send(Message::text(HEAD)).await.unwrap();
    fake.is_woken().await;
}

#[tokio::test]
async fn an_unreadable_message_ends_the_connection_and_the_next_one_wakes() {
    let fake = Fake::followed().await;
    let mut socket = fake.subscribed().await;
    socket.send(Message::text("{")).await.unwrap();
    fake.subscribed().await;
}

/// Both ends of a connection in memory with a buffer of `room` bytes: the node's, and ours.
async fn connection(room: usize) -> (WebSocketStream<DuplexStream>, WebSocketStream<DuplexStream>) {
    let (node, ours) = duplex(room);
    let node = WebSocketStream::from_raw_socket(node, Role::Server, None).await;
    (node, WebSocketStream::from_raw_socket(ours, Role::Client, None).await)
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_kept_while_it_answers_pings() {
    let (mut node, ours) = connection(1024).await;
    let wake = Notify::new();
    let began = Instant::now();
    let answers = async {
        for nth in 1..=5 {
            // Reading a ping answers it.
            let message = node.next().await.unwrap().unwrap();
            assert!(message.is_ping(), "{message:?}");
            assert_eq!(began.elapsed().as_secs(), nth * QUIET.as_secs());
        }
    };
    tokio::select! {
        Lost(reason) = listen(ours, &wake) => panic!("{reason}"),
        () = answers => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_that_answers_no_ping_is_closed() {
    for (room, says) in [(1024, "it was silent for too long"), (1, "it accepts no data")] {
        let (_node, ours) = connection(room).await;
        let began = Instant::now();
        let Lost(reason) = listen(ours, &Notify::new()).await;
        assert_eq!((&*reason, began.elapsed().as_secs()), (says, 2 * QUIET.as_secs()));
    }
}

type Node = WebSocketStream<DuplexStream>;
type Play = Box<dyn Fn(usize, Node) -> BoxFuture<'static, ()> + Send + Sync>;

/// Connections in memory: what the node does on the nth one, and when each was made.
struct InMemory {
    play: Play,
    dialled: Arc<Mutex<Vec<Instant>>>,
}

#[async_trait]
impl Dial for InMemory {
    type Stream = DuplexStream;

    async fn dial(&self) -> Result<WebSocketStream<DuplexStream>, Lost> {
        let nth = {
            let mut dialled = self.dialled.lock().unwrap_or_else(PoisonError::into_inner);
            dialled.push(Instant::now());
            dialled.len()
        };
        let (node, ours) = connection(1 << 16).await;
        tokio::spawn((self.play)(nth, node));
        Ok(ours)
    }
}

/// A follower of a node in memory.
struct Followed {
    wake: Arc<Notify>,
    dialled: Arc<Mutex<Vec<Instant>>>,
    heads: NewHeads,
}

impl Followed {
    fn plays<F: Future<Output = ()> + Send + 'static>(
        play: impl Fn(usize, Node) -> F + Send + Sync + 'static,
    ) -> Self {
        let play: Play = Box::new(move |nth, node| Box::pin(play(nth, node)));
        let (dialled, wake) = (Arc::default(), Arc::new(Notify::new()));
        let (publish, state) = watch::channel(HeadsState::Connecting);
        let follower = HeadFollower {
            endpoint: "ws://me:s3cretpass@127.0.0.1:1/v3/0123456789abcdef".parse().unwrap(),
            dial: InMemory { play, dialled: Arc::clone(&dialled) },
            wake: Arc::clone(&wake),
            state: publish,
        };
        Self { wake, dialled, heads: NewHeads { task: tokio::spawn(follower.run()), state } }
    }

    /// The milliseconds from one connection to the next.
    fn pauses(&self) -> Vec<u128> {
        let dialled = self.dialled.lock().unwrap_or_else(PoisonError::into_inner);
        dialled.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect()
    }

    /// The reason of the first failure.
    async fn first_loss(&self) -> HeadsLost {
        let mut states = self.heads.states();
        loop {
            if let HeadsState::Lost(lost) = states.changed().await.unwrap() {
                return lost;
            }
        }
    }
}

/// Reads the subscription and grants it.
async fn grant(node: &mut Node) {
    assert_eq!(node.next().await.unwrap().unwrap(), Message::text(SUBSCRIBE));
    node.send(Message::text(ANSWER)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_grants_and_breaks_is_asked_ever_less_often() {
    let followed = Followed::plays(|_, mut node| async move {
        grant(&mut node).await;
        node.close(None).await.unwrap();
    });
    let wakes = async {
        let mut wakes = 0;
        loop {
            followed.wake.notified().await;
            wakes += 1;
            if wakes == 11 {
                break;
            }
        }
    };
    timeout(LONG, wakes).await.unwrap();
    // One wake-up a connection, and 11 connections in a minute. They were 600.
    assert_eq!(followed.pauses(), [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000]);
}

#[tokio::test(start_paused = true)]
async fn only_a_subscription_that_stood_for_ten_seconds_resets_the_pause() {
    for (stands_s, pauses_ms) in [(9, [100, 200, 400, 9_800, 1600]), (10, [100, 200, 400, 10_100, 200])] {
        let followed = Followed::plays(move |nth, mut node| async move {
            grant(&mut node).await;
            if nth == 4 {
                sleep(Duration::from_secs(stands_s)).await;
            }
        });
        let six = async {
            while followed.dialled.lock().unwrap().len() < 6 {
                followed.wake.notified().await;
            }
        };
        timeout(LONG, six).await.unwrap();
        assert_eq!(followed.pauses(), pauses_ms, "it stood for {stands_s} s");
    }
}

#[tokio::test(start_paused = true)]
async fn failures_are_published_when_their_number_doubles_and_a_recovery_once_it_stands() {
    let followed = Followed::plays(|nth, mut node| async move {
        match nth {
            1 => {
                grant(&mut node).await;
                sleep(LONG).await;
            }
            ..=9 => grant(&mut node).await,
            10 => {
                grant(&mut node).await;
                sleep(Duration::from_secs(11)).await;
                node.close(None).await.unwrap();
            }
            _ => pending().await,
        }
    });
    let mut states = followed.heads.states();
    assert_eq!(states.current(), HeadsState::Connecting);
    let mut published = Vec::new();
    for _ in 0..7 {
        published.push(match timeout(2 * LONG, states.changed()).await.unwrap().unwrap() {
            HeadsState::Lost(lost) => (lost.failures, lost.again_in.as_millis()),
            _ => (0, 0),
        });
    }
    assert_eq!(published, [(0, 0), (1, 100), (2, 200), (4, 800), (8, 10_000), (0, 0), (1, 100)]);
    drop(followed);
    // What the node did not grant within 10 s is its last failure.
    while states.changed().await.is_some() {}
}

#[tokio::test(start_paused = true)]
async fn what_a_server_sends_in_place_of_heads_is_the_reason() {
    let close = |code, reason: &'static str| Message::Close(Some(CloseFrame { code, reason: reason.into() }));
    for (sent, says) in [
        (
            Message::binary(b"\x01{}".as_slice()),
            r"it sent a binary message of 3 bytes, where a text is expected: \u{1}{}",
        ),
        (Message::text("<html>\u{1b}[2J"), r"column 1): <html>\u{1b}[2J"),
        (Message::text("for 0123456789abcdef of me:s3cretpass"), "): for *** of me:***"),
        (Message::text("[]"), "): []"),
        (close(CloseCode::Policy, ""), "it closed the connection with code 1008"),
        (close(CloseCode::Restart, "back\nsoon"), r"it closed the connection with code 1012: back\nsoon"),
        (Message::Close(None), "it closed the connection"),
        (Message::text(REFUSAL), "it answered with an error: no subscriptions (code -32601)"),
        (Message::text(r#"{"error":"0123456789abcdef"}"#), r#"it answered with an error: "***""#),
    ] {
        // In place of the grant, and after it.
        for granted in [false, true] {
            let sends = sent.clone();
            let followed = Followed::plays(move |_, mut node| {
                let sends = sends.clone();
                async move {
                    if granted {
                        grant(&mut node).await;
                    }
                    node.send(sends).await.unwrap();
                    while node.next().await.is_some_and(|message| message.is_ok()) {}
                }
            });
            let lost = timeout(LONG, followed.first_loss()).await.unwrap();
            assert!(lost.reason.ends_with(says), "{sent:?}: {lost}");
            assert_eq!(lost.failures, 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_message_is_truncated_in_the_reason_and_no_part_of_a_secret_is_left() {
    let followed = Followed::plays(|_, mut node| async move {
        grant(&mut node).await;
        // The secret lies on the place where the text is cut.
        for length in [1 << 15, 180, 190, 200, 210] {
            let text = "x".repeat(length) + &"0123456789abcdef".repeat(100);
            node.send(Message::binary(text.into_bytes())).await.unwrap();
        }
    });
    let lost = timeout(LONG, followed.first_loss()).await.unwrap();
    assert!(lost.reason.chars().count() <= 303 && lost.reason.ends_with("..."), "{lost}");
    assert!(!lost.to_string().contains("0123"), "{lost}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_a_result_grants_nothing() {
    for answer in ["{}", r#"{"jsonrpc":"2.0","id":1,"result":null,"error":null}"#] {
        let followed = Followed::plays(move |_, mut node| async move {
            node.send(Message::text(answer)).await.unwrap();
            pending::<()>().await;
        });
        let lost = timeout(LONG, followed.first_loss()).await.unwrap();
        assert_eq!(lost.reason, "it answered the subscription with neither a result nor an error");
        assert!(timeout(Duration::ZERO, followed.wake.notified()).await.is_err());
    }
}

#[test]
fn a_state_is_one_line_for_people() {
    let lost = |failures, ms| {
        let again_in = Duration::from_millis(ms);
        HeadsState::Lost(HeadsLost { reason: "gone".to_owned(), failures, again_in })
    };
    for (state, line) in [
        (HeadsState::Connecting, "is not connected yet"),
        (HeadsState::Connected, "announces its heads"),
        (lost(1, 100), "announces no heads: gone; next attempt in 100ms"),
        (lost(4, 800), "announces no heads: gone; 4 consecutive failures, next attempt in 800ms"),
    ] {
        assert_eq!(state.to_string(), line);
    }
}
