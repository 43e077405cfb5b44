//! One address, several backends.

use std::time::Duration;

use super::{ACCOUNT, LOOK, count, following};
use crate::misbehaving::{Backends, Batches, Content, Misbehaving, Modes, Receipts};

/// ```text
/// each tenth answer:  1 - 2 - 3'
/// the others:         1 - 2 - 3 - 4 - 5 - ...
/// ```
#[tokio::test]
async fn a_backend_on_a_fork_that_stands_still_disconnects_nothing() {
    let (backends, grows_each) = (Backends::StandingFork { each: 10 }, Some(Duration::from_millis(50)));
    for wallet in [&[][..], &["--wallet", ACCOUNT]] {
        let server = Misbehaving::start(Modes { grows_each, backends, ..Modes::default() }).await;
        let mut follow = following(&server, wallet);
        follow.says(" flaps between ").await;
        server.is_asked(LOOK, 60).await;
        let lines = follow.ends().await;
        assert_eq!(count(&lines, "disconnected"), 0, "{lines:#?}");
        assert_eq!(count(&lines, " flaps between "), 0, "once is enough: {lines:#?}");
        assert!(count(&lines, "  chain   block") > 0, "{lines:#?}");
    }
}

#[tokio::test]
async fn two_backends_two_blocks_apart_disconnect_nothing() {
    let server =
        Misbehaving::start(Modes { backends: Backends::Apart { blocks: 2 }, ..Modes::default() }).await;
    let mut follow = following(&server, &[]);
    follow.says(" 3 (").await;
    for _ in 0..8 {
        server.grow(1);
        server.is_asked(LOOK, 5).await;
    }
    follow.says(" 11 (").await;
    let lines = follow.ends().await;
    assert_eq!(count(&lines, "disconnected"), 0, "{lines:#?}");
    assert!(count(&lines, " flaps between ") <= 1, "{lines:#?}");
    assert!(count(&lines, " went back from ") <= 1, "{lines:#?}");
}

/// ```text
/// 1 - 2 - 3      the first one that is seen
///       ` 3'
/// ```
#[tokio::test]
async fn of_two_branches_that_alternate_the_first_one_stays() {
    let server = Misbehaving::start(Modes { backends: Backends::GrowingForks, ..Modes::default() }).await;
    let mut follow = following(&server, &[]);
    follow.says(" flaps between ").await;
    server.is_asked(LOOK, 60).await;
    let lines = follow.ends().await;
    assert_eq!(count(&lines, "disconnected"), 0, "{lines:#?}");
    assert_eq!(count(&lines, " flaps between "), 0, "once is enough: {lines:#?}");
}

#[tokio::test]
async fn two_branches_that_grow_are_printed_as_flapping() {
    let modes = Modes {
        backends: Backends::GrowingForks,
        grows_each: Some(Duration::from_millis(50)),
        ..Modes::default()
    };
    let server = Misbehaving::start(modes).await;
    let line = following(&server, &["--json"]).says("\"flapping\"").await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let event = &line["event"];
    assert_eq!((&event["kind"], &event["node"]), (&"flapping".into(), &"rpc1".into()), "{line}");
    assert!(event["head"]["hash"].is_string() && event["other"]["hash"].is_string(), "{line}");
}

#[tokio::test]
async fn a_reorg_to_a_heavier_branch_is_not_delayed() {
    let server = Misbehaving::start(Modes::default()).await;
    let mut follow = following(&server, &["--lighter-after", "1000000", "--lighter-for", "8h"]);
    follow.says(" 3 (").await;
    server.reorg(2, 3);
    follow.says("reorg: 2 blocks disconnected, 3 connected above 1 (").await;
}

#[tokio::test]
async fn a_lighter_branch_is_followed_after_as_many_answers_as_the_flag_says() {
    for after in ["1", "3"] {
        let server = Misbehaving::start(Modes::default()).await;
        let mut follow = following(&server, &["--lighter-after", after, "--lighter-for", "8h"]);
        follow.says(" 3 (").await;
        server.reorg(2, 1);
        follow.says("reorg: 2 blocks disconnected, 1 connected above 1 (").await;
    }
    let server = Misbehaving::start(Modes::default()).await;
    let mut follow = following(&server, &["--lighter-after", "1000000", "--lighter-for", "8h"]);
    follow.says(" 3 (").await;
    server.reorg(2, 1);
    server.is_asked(LOOK, 40).await;
    let lines = follow.ends().await;
    assert_eq!(count(&lines, "disconnected"), 0, "{lines:#?}");
}

#[tokio::test]
async fn a_lighter_branch_is_followed_after_the_time_of_the_flag() {
    let server = Misbehaving::start(Modes::default()).await;
    let mut follow = following(&server, &["--lighter-after", "1000000", "--lighter-for", "100ms"]);
    follow.says(" 3 (").await;
    server.reorg(2, 1);
    follow.says("reorg: 2 blocks disconnected, 1 connected above 1 (").await;
}

/// The backend that is behind has no receipts of the last blocks: a balance without them would be wrong.
#[tokio::test]
async fn a_wallet_behind_two_backends_is_right_or_not_known() {
    for (receipts, batches) in [
        (Receipts::ByBlock, Batches::Answered),
        (Receipts::ByTransaction, Batches::Answered),
        (Receipts::ByBlock, Batches::Refused(-32600, "batch requests are not supported")),
        (Receipts::ByTransaction, Batches::Refused(-32600, "batch requests are not supported")),
    ] {
        let (backends, contents) = (Backends::Apart { blocks: 2 }, vec![Content::Payment, Content::Spend]);
        let modes = Modes { backends, receipts, batches, contents, ..Modes::default() };
        let server = Misbehaving::start(modes).await;
        let mut follow = following(&server, &["--wallet", ACCOUNT]);
        follow.says(" ether at block 0 (").await;
        for _ in 0..5 {
            server.grow(1);
            server.is_asked(LOOK, 5).await;
        }
        follow.says(" 8 (").await;
        let lines = follow.ends().await;
        let last = lines.iter().rfind(|line| line.contains("  wallet  wallet1")).unwrap();
        if let Some((owns, height)) = last.split_once(" ether at block ") {
            // 2 ether, and 1 without 0.5 and 0.000021 in each block.
            let micros = 2_000_000 + 499_979 * height.parse::<u64>().unwrap();
            let right = format!(" {}.{:06}", micros / 1_000_000, micros % 1_000_000);
            assert!(owns.ends_with(&right), "{receipts:?} {batches:?}: {last} and not {right}: {lines:#?}");
        }
    }
}
