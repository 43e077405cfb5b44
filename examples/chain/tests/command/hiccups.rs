//! Answers that go wrong now and then.

use super::{ACCOUNT, LOOK, balance_at_4, count, following};
use crate::fake::error;
use crate::misbehaving::{Content, Hiccup, HiccupAnswer, Misbehaving, Modes};

const BALANCE: &str = "eth_getBalance";

/// What providers return when they are busy: the same question may succeed a moment later.
const HICCUPS: [HiccupAnswer; 14] = [
    HiccupAnswer::Error(-32007, "50/second request limit reached"),
    HiccupAnswer::Error(-32029, "Too many requests"),
    HiccupAnswer::Error(-32603, "Internal error"),
    HiccupAnswer::Error(-32000, "request timed out"),
    HiccupAnswer::Error(-32000, "header not found"),
    HiccupAnswer::Error(-32005, "daily request count exceeded, request rate limited"),
    HiccupAnswer::Error(-32016, "over rate limit"),
    HiccupAnswer::Status(503, Some(0)),
    HiccupAnswer::Status(429, None),
    HiccupAnswer::Status(500, None),
    HiccupAnswer::Html,
    HiccupAnswer::Gzip,
    HiccupAnswer::Truncated,
    HiccupAnswer::Empty,
];

#[tokio::test]
async fn a_wallet_waits_for_its_balance_over_any_hiccup_which_is_printed_once() {
    for answer in HICCUPS {
        let hiccups = vec![Hiccup::first(3, BALANCE, answer)];
        let server = Misbehaving::start(Modes { hiccups, ..Modes::default() }).await;
        let mut follow = following(&server, &["--wallet", ACCOUNT]);
        follow.says("wallet1 2.000000 ether at block 0 (").await;
        let lines = follow.ends().await;
        assert_eq!(count(&lines, "wallet1 waits for its balance at block 0 ("), 1, "{answer:?}: {lines:#?}");
        assert_eq!(count(&lines, "wallet1 is not known"), 0, "{answer:?}: {lines:#?}");
    }
}

/// ```text
/// rpc1: pruned | rpc2: busy twelve times, then 2 ether
/// ```
#[tokio::test]
async fn a_wallet_waits_for_a_busy_node_beside_one_without_the_state() {
    let pruned = Modes { balance: error(-32000, "missing trie node 1a3b"), ..Modes::default() };
    let pruned = Misbehaving::start(pruned).await;
    let hiccups = vec![Hiccup::first(12, BALANCE, HiccupAnswer::Error(-32029, "Too many requests"))];
    let busy = Misbehaving::start(Modes { hiccups, ..Modes::default() }).await;
    let mut follow = following(&pruned, &["--rpc", &busy.url(), "--wallet", ACCOUNT]);
    follow.says("wallet1 2.000000 ether at block 0 (").await;
    assert_eq!(pruned.calls(BALANCE), 3, "it has dropped the state for good");
    let lines = follow.ends().await;
    assert_eq!(count(&lines, "wallet1 waits for its balance"), 1, "{lines:#?}");
}

/// The state is dropped nowhere: it is asked for again, without a line each time.
#[tokio::test]
async fn a_node_that_refuses_for_good_is_printed_once() {
    let modes = Modes { balance: error(-32601, "the method is not allowed, request 17"), ..Modes::default() };
    let server = Misbehaving::start(modes).await;
    let mut follow = following(&server, &["--wallet", ACCOUNT]);
    let line = follow.says("wallet1 waits for its balance at block 0 (").await;
    assert!(line.contains("it is asked again; if it stays so, give a node that allows this"), "{line}");
    server.is_asked(BALANCE, 8).await;
    let lines = follow.ends().await;
    assert_eq!(count(&lines, "wallet1 waits for its balance"), 0, "{lines:#?}");
    assert_eq!(count(&lines, "wallet1 is not known: no node returned its opening balance"), 1, "{lines:#?}");
}

/// A chain that grows is followed to its tip, and the wallet is right.
#[tokio::test]
async fn a_chain_is_followed_over_any_hiccup_at_each_fifth_request() {
    for answer in HICCUPS.into_iter().chain([HiccupAnswer::NullError]) {
        let modes = Modes {
            hiccups: vec![Hiccup::each(5, answer)],
            contents: vec![Content::Payment, Content::Spend],
            ..Modes::default()
        };
        assert_eq!(balance_at_4(modes, &[]).await, "3.999916 ether at block 4", "{answer:?}");
    }
}

#[tokio::test]
async fn an_error_that_is_null_is_none() {
    let hiccups = vec![Hiccup::each(1, HiccupAnswer::NullError)];
    let server = Misbehaving::start(Modes { hiccups, ..Modes::default() }).await;
    let mut follow = following(&server, &["--wallet", ACCOUNT]);
    follow.says("wallet1 2.000000 ether at block 0 (").await;
    follow.says(" 3 (").await;
    let lines = follow.ends().await;
    assert_eq!(count(&lines, "answers, but") + count(&lines, "fails"), 0, "{lines:#?}");
}

/// It is printed as such, and then nothing is while it goes on.
#[tokio::test]
async fn a_node_that_fails_at_every_second_look_is_printed_as_alternating() {
    let others = [HiccupAnswer::Error(-32601, "no"), HiccupAnswer::Status(403, None), HiccupAnswer::Empty];
    for answer in [HICCUPS[1], HICCUPS[2], HICCUPS[7]].into_iter().chain(others) {
        let hiccups = vec![Hiccup { of: Some("eth_getBlockByNumber"), ..Hiccup::each(2, answer) }];
        let server = Misbehaving::start(Modes { hiccups, ..Modes::default() }).await;
        let mut follow = following(&server, &[]);
        let line =
            follow.says("rpc1 alternates: its condition is printed again when it has stayed for 1m").await;
        assert!(line.contains("; for now it "), "{line}");
        server.is_asked(LOOK, 20).await;
        let lines = follow.ends().await;
        // The last one is of the end.
        assert!(count(&lines, "  node    rpc1 ") <= 12, "{answer:?}: {lines:#?}");
    }
}

/// Texts with another id, hash and time in each are one condition.
#[tokio::test]
async fn a_node_that_fails_with_other_words_each_time_is_printed_once() {
    for says in ["request 0x{nth} of block {nth} failed after {nth} ms", "block {nth} is not known yet"] {
        let hiccups = vec![Hiccup::each(1, HiccupAnswer::Error(-1, says))];
        let server = Misbehaving::start(Modes { hiccups, ..Modes::default() }).await;
        let mut follow = following(&server, &[]);
        follow.says("rpc1 fails: ").await;
        server.is_asked(LOOK, 20).await;
        let lines = follow.ends().await;
        assert_eq!(count(&lines, "rpc1 fails: "), 0, "{lines:#?}");
    }
}

#[tokio::test]
async fn a_page_in_place_of_an_answer_is_named() {
    for (answer, says) in [(HiccupAnswer::Html, "text/html"), (HiccupAnswer::Gzip, "gzip")] {
        let hiccups = vec![Hiccup::each(1, answer)];
        let server = Misbehaving::start(Modes { hiccups, ..Modes::default() }).await;
        let line = following(&server, &[]).says("rpc1 fails: ").await;
        assert!(line.contains(says), "{line}");
    }
}

/// The time would be out of date at once.
#[tokio::test]
async fn a_line_does_not_have_the_time_that_is_left_until_a_node_may_be_asked() {
    let hiccups = vec![Hiccup::each(1, HiccupAnswer::Status(503, Some(20)))];
    let server = Misbehaving::start(Modes { hiccups, ..Modes::default() }).await;
    let mut follow = following(&server, &[]);
    // The second cycle, which follows at once, asks no question: its error may be the first that is printed.
    let line = follow.says("rpc1 fails: ").await;
    let texts = [" is unreachable: HTTP status 503 Service Unavailable", " limits the rate of requests"];
    assert!(texts.iter().any(|text| line.ends_with(text)), "{line}");
    let lines = follow.ends().await;
    assert_eq!(count(&lines, "ask again in"), 0, "{lines:#?}");
}
