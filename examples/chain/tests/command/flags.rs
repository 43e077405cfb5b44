//! Errors about flags.

use tokio::time::timeout;

use super::{ACCOUNT, Follow, PATIENCE, command, follow, owning, rpc};
use crate::fake::{SECRET, branch, result};

#[tokio::test]
async fn invalid_flags_are_reported_in_one_line() {
    let rpc = "http://127.0.0.1:1";
    let long = format!("https://{SECRET}@/{SECRET}");
    let checksum = "0xF39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
    for (arguments, code, says) in [
        (
            &["--rpc", "notaurl"][..],
            1,
            "--rpc number 1: the address is no URL: relative URL without a base; give",
        ),
        (
            &["--rpc", rpc, "--rpc", &long],
            1,
            "--rpc number 2: the address is no URL: empty host; give one such as",
        ),
        (&["--rpc", rpc, &long], 1, "--rpc number 2: the address is no URL: empty host"),
        (&["--rpc", "ftp://x"], 1, "--rpc number 1: an address of http or https is needed here, not of ftp"),
        (&["--rpc", rpc, "--public", rpc, "ws://x"], 1, "--public number 2: an address of http or https is"),
        (
            &["--rpc", rpc, "--ws", rpc],
            1,
            "--ws number 1: an address of ws or wss is needed here, not of http",
        ),
        (&["--rpc", rpc, "--wallet", "0x12"], 1, "--wallet number 1: an address has 40 hexadecimal digits"),
        (&["--rpc", rpc, "--wallet", ACCOUNT, &long], 1, "--wallet number 2: an address has 40 hexadecimal"),
        (&["--rpc", rpc, "--wallet", checksum], 1, "its capitals do not fit its digits (EIP-55)"),
        (&["--rpc", rpc, "--wallet", ACCOUNT, ACCOUNT], 1, "is given twice: give each account once"),
        (&["--rpc", rpc, "--from", "ten"], 2, "--from <HEIGHT>: invalid digit"),
        (&["--rpc", rpc, "--from", "-1"], 2, "--from <HEIGHT>: invalid digit"),
        (&["--rpc", rpc, "--chain-id", "main"], 2, "--chain-id <N>: invalid digit"),
        (&["--rpc", rpc, "--interval", "0s"], 2, "--interval <TIME>: give 1ms to 8h, such as"),
        (&["--rpc", rpc, "--interval", "9h"], 2, "--interval <TIME>: give 1ms to 8h, such as"),
        (&["--rpc", rpc, "--interval", "soon"], 2, "--interval <TIME>: give 1ms to 8h, such as"),
        (&["--rpc", rpc, "--lighter-after", "0"], 2, "--lighter-after <N>: give a number from 1, such as 6"),
        (&["--rpc", rpc, "--lighter-after", "-6"], 2, "--lighter-after <N>: give a number from 1, such as"),
        (&["--rpc", rpc, "--lighter-after", "4294967296"], 2, "--lighter-after <N>: give a number from 1"),
        (&["--rpc", rpc, "--lighter-after", &long], 2, "--lighter-after <N>: give a number from 1, such as"),
        (&["--rpc", rpc, "--lighter-after"], 2, "--lighter-after <N> has no value"),
        (&["--rpc", rpc, "--lighter-for", "0s"], 2, "--lighter-for <TIME>: give 1ms to 8h, such as"),
        (&["--rpc", rpc, "--unread-after", "0s"], 2, "--unread-after <TIME>: give 1ms to 8h, such as"),
        (&["--rpc", rpc, "--trust-hashes=yes"], 2, "--trust-hashes: "),
        (&[], 2, "--rpc <URL>... is missing"),
        (&["--rpc"], 2, "--rpc <URL>... has no value"),
        (&["--rcp", &long], 2, "there is no flag --rcp"),
        (&["--rpc", rpc, "--json", "--json"], 2, "--json: "),
    ] {
        let output = timeout(PATIENCE, follow(arguments).output()).await.unwrap().unwrap();
        let printed = String::from_utf8(output.stderr).unwrap();
        assert!(printed.starts_with("chain: ") && printed.contains(says), "{arguments:?}: {printed}");
        assert_eq!(
            (printed.lines().count(), output.status.code()),
            (1, Some(code)),
            "{arguments:?}: {printed}"
        );
        assert!(output.stdout.is_empty() && !printed.contains(SECRET), "{printed}");
    }
}

/// An address in a wrong place may still contain a key.
#[tokio::test]
async fn an_address_at_a_wrong_place_is_not_shown() {
    let url = &format!("http://node.example/v3/{SECRET}");
    let (short, flag) = (&format!("-{SECRET}"), &format!("--{url}"));
    let (unit, equals, json) = (&format!("1s{SECRET}"), &format!("--from={url}"), &format!("--json={url}"));
    let (rpc, trust) = ("http://127.0.0.1:1", &format!("--trust-hashes={url}"));
    for arguments in [
        &["follow", url][..],
        &["follow", url, "--rpc", rpc],
        &["follow", "--rpc", rpc, "--json", url],
        &["follow", "--rpc", rpc, "--from", url],
        &["follow", "--rpc", rpc, equals],
        &["follow", "--rpc", rpc, json],
        &["follow", "--rpc", rpc, "--interval", url],
        &["follow", "--rpc", rpc, "--trust-hashes", url],
        &["follow", "--rpc", rpc, trust],
        &["follow", "--rpc", rpc, "--lighter-after", url],
        &["follow", "--rpc", rpc, "--lighter-for", unit],
        &["follow", "--rpc", rpc, "--unread-after", unit],
        &["follow", "--rpc", rpc, "--interval", unit],
        &["follow", "--rpc", rpc, "--interval", "1s", url],
        &["follow", "--rpc", rpc, flag],
        &["follow", "--rpc", rpc, short],
        &["follow", "--rpc", rpc, "--wallet", url],
        &["demo", url],
        &["--rpc", url],
        &[url],
    ] {
        let output = timeout(PATIENCE, command(arguments).output()).await.unwrap().unwrap();
        let printed = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}: {printed}");
        assert!(printed.lines().count() == 1 && !printed.contains(SECRET), "{arguments:?}: {printed}");
    }
}

/// Without mixed case an address has no checksum, and is accepted.
#[tokio::test]
async fn an_address_without_mixed_case_is_accepted() {
    let node = owning(branch(0, 3), result(&"0x0".into())).await;
    let small = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266";
    let large = format!("0x{}", small[2..].to_ascii_uppercase());
    for account in [small, &large, "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"] {
        Follow::start(&["--rpc", &rpc(&node), "--wallet", account]).says("wallet1 0.000000 ether").await;
    }
}

#[tokio::test]
async fn the_help_says_that_a_head_is_left_for_any_that_is_not_heavier() {
    let output = timeout(PATIENCE, follow(&["--help"]).output()).await.unwrap().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let words: Vec<_> = printed.split_whitespace().collect();
    let says = "consecutive answers with a head that is not heavier, such as an ancestor";
    assert!(words.join(" ").contains(says), "{printed}");
}
