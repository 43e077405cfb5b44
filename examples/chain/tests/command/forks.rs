//! The command `forks`.

use serde_json::Value;
use tokio::time::timeout;

use super::{Follow, PATIENCE, command, count, rpc};
use crate::fake::{FakeNode, ROOT_OF_NONE, branch, chain, hash, sealed_header};

/// ```text
/// 0 - ... - 4 - 5 - 6
///             \
///               5' - 6' - 7'     (the tip)
/// ```
async fn forked() -> [FakeNode; 2] {
    let first = branch(0, 6);
    let mut second = first[..5].to_vec();
    for height in 5..8 {
        let parent = hash(second.last().unwrap());
        second.push(sealed_header(height, parent, ROOT_OF_NONE, 9));
    }
    [FakeNode::answering(chain("0x1", first)).await, FakeNode::answering(chain("0x1", second)).await]
}

#[tokio::test]
async fn live_branches_are_printed_with_the_way_from_the_tip() {
    let [one, two] = forked().await;
    let urls = [rpc(&one), rpc(&two)];
    let flags = ["forks", "--interval", "20ms", "--from", "0", "--rpc", &urls[0], &urls[1]];
    let mut forks = Follow::of(command(&flags));
    // Until both branches are known the tip may be on the other one.
    let away = forks.says(", weighs 14 from there, the tip 21").await;
    assert!(away.trim_start().starts_with("6 (") && away.contains("), 5 away: forks above 4 ("), "{away}");
    let line = forks.says("  disconnects 7 (").await;
    assert_eq!(heights(line.split_once("disconnects ").unwrap().1), ["7", "6", "5"]);
    forks.says("  connects 5 (").await;
    forks.interrupt();
    let lines = forks.rest().await;
    for text in ["the tip is 7 (", "  ended   stop was requested", "rpc1 at 6;", "rpc2 at 7;"] {
        assert_ne!(count(&lines, text), 0, "no {text}: {lines:#?}");
    }
}

/// The numbers before the hashes of a line.
fn heights(text: &str) -> Vec<&str> {
    text.split(' ').step_by(2).collect()
}

#[tokio::test]
async fn a_time_ends_it_and_json_has_the_blocks_of_the_way() {
    let [one, two] = forked().await;
    let urls = [rpc(&one), rpc(&two)];
    let flags = ["forks", "--json", "--interval", "20ms", "--for", "8h", "--rpc", &urls[0], &urls[1]];
    let mut forks = Follow::of(command(&flags));
    let line: Value = serde_json::from_str(&forks.says("\"weight\":\"14\"").await).unwrap();
    let fork = &line["forks"][0];
    let heights = |way: &str| -> Vec<u64> {
        fork[way]["blocks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|block| block["height"].as_u64().unwrap())
            .collect()
    };
    assert_eq!((heights("disconnects"), heights("connects")), (vec![7, 6, 5], vec![5, 6]));
    assert_eq!(
        (&fork["fork"]["height"], &fork["weight"], &line["tip"]["height"]),
        (&4.into(), &"14".into(), &7.into())
    );
    forks.interrupt();
    forks.rest().await;

    for end in [["--for", "100ms"], ["--until", "6"]] {
        let flags = [&["forks", "--interval", "20ms", "--rpc", &urls[0]][..], &end].concat();
        let output = timeout(PATIENCE, command(&flags).output()).await.unwrap().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && printed.contains("  ended   stop was requested\n"), "{printed}");
        // A short time may be over before a node has answered.
        let is_there = printed.contains("the tip is 6 (") && printed.contains("; no other branch is live\n");
        assert!(is_there || end[0] == "--for", "{printed}");
    }
}
