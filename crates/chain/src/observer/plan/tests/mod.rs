//! What is asked, for drawn chains.

mod drawn;

use std::time::Duration;

use crate::Detail;
use crate::adapter::{ChainError, ChainIdentity};
use crate::observer::fetch::Found;
use crate::observer::question::Question;
use crate::observer::{ChainConfig, Group, Start};
use drawn::{Drawn, branch, hash, identity, refused};

const SECOND: Duration = Duration::from_secs(1);

/// What happened before, and what is planned then.
type Case = (&'static str, fn(&mut Drawn), &'static [&'static str]);

fn check(drawing: &str, config: fn(ChainConfig) -> ChainConfig, cases: &[Case]) {
    for (what, happened, planned) in cases {
        let mut drawn = Drawn::with(drawing, config);
        happened(&mut drawn);
        assert_eq!(drawn.plan(), *planned, "{what}");
    }
}

/// ```text
/// g - a1 - ... - a40      g is known, and 8 headers may be requested in a cycle
/// ```
#[test]
fn headers_are_asked_for_upwards_and_a_single_one_by_hash() {
    let config = |config| ChainConfig { backfill: 8, ..config };
    check(
        &branch("g", "a", 1..=40),
        config,
        &[
            ("the head is linked", |at| _ = at.local("n1", "g"), &[]),
            ("one block is a header already", |at| _ = at.local("n1", "a1"), &["n1 block a1"]),
            ("one parent is missing", |at| _ = at.local("n1", "a2"), &["n1 down from a1"]),
            ("two are", |at| _ = at.local("n1", "a3"), &["n1 up 1 to 2"]),
            ("the gap fits", |at| _ = at.local("n1", "a9"), &["n1 up 1 to 8"]),
            ("it does not fit", |at| _ = at.local("n1", "a10"), &["n1 up 1 to 8"]),
            ("it is far", |at| _ = at.local("n1", "a40"), &["n1 up 1 to 8"]),
            ("once in a cycle", |at| _ = at.local("n1", "a40").plan(), &[]),
            (
                "it goes on in the next one, and blocks are requested meanwhile",
                |at| {
                    at.local("n1", "a40").plan();
                    at.linked("n1", "a40", &["a1", "a2"]).later(SECOND);
                },
                &["n1 block a1", "n1 block a2", "n1 up 3 to 10"],
            ),
        ],
    );
}

/// ```text
/// g - a1 - ... - a40      the head of n1 rises by three blocks at each look
/// ```
#[test]
fn a_node_whose_head_rises_fast_is_asked_for_what_is_probably_new_beside_its_head() {
    fn rising<'a>(at: &'a mut Drawn, heads: &[&str]) -> &'a mut Drawn {
        for head in heads {
            let below: Vec<String> = (1..=40).map(|height| format!("a{height}")).collect();
            let below: Vec<&str> = below.iter().map(String::as_str).take_while(|name| name != head).collect();
            at.local("n1", head).linked("n1", head, &below);
        }
        at.plan();
        at
    }
    let cases: &[Case] = &[
        ("it rose by one block at each look", |at| _ = rising(at, &["a1", "a2", "a3"]), &[]),
        ("it rose once", |at| _ = rising(at, &["a1", "a1", "a9"]), &[]),
        ("it rises", |at| _ = rising(at, &["a1", "a4", "a7"]), &["n1 ahead 8 to 13"]),
        ("now faster", |at| _ = rising(at, &["a1", "a4", "a10"]), &["n1 ahead 11 to 19"]),
        ("it stood still at the last look", |at| _ = rising(at, &["a1", "a4", "a7", "a7"]), &[]),
        (
            "headers are requested already",
            |at| {
                let question = Question::Ahead { from: 8, to: 13 };
                rising(at, &["a1", "a4", "a7"]).in_flight("n1", question, true);
            },
            &[],
        ),
        (
            "it returned none the last time",
            |at| _ = rising(at, &["a1", "a4", "a7"]).no_headers("n1", "a7"),
            &[],
        ),
        (
            "it is on another chain now",
            |at| {
                let other = ChainIdentity { id: "other".to_owned(), ..identity() };
                rising(at, &["a1", "a4", "a7"]).found("n1", Found::Identity(Ok(other)));
            },
            &[],
        ),
    ];
    for (what, happened, planned) in cases {
        let mut drawn = Drawn::new(&branch("g", "a", 1..=40));
        happened(&mut drawn);
        assert_eq!(drawn.plan_ahead(), *planned, "{what}");
    }
}

/// ```text
/// g - a1 - ... - a40      headers may be 4 times 2 blocks ahead of the tip
/// ```
#[test]
fn headers_do_not_run_away_from_the_blocks() {
    let config = |config| ChainConfig { backfill: 2, block_window: 1, ..config };
    let mut drawn = Drawn::with(&branch("g", "a", 1..=40), config);
    let names: Vec<String> = (1..=8).map(|height| format!("a{height}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    drawn.local("n1", "a40").linked("n1", "a40", &names[..7]);
    assert_eq!(drawn.plan(), ["n1 block a1", "n1 up 8 to 9"]);
    drawn.later(SECOND).linked("n1", "a40", &names);
    assert_eq!(drawn.plan(), ["n1 block a1"]);
}

/// ```text
/// g - a1 - a2 - a3 - a4      a2 and a3 are missing
///       \
///         b2 - b3 - b4       b2 and b3 too
/// ```
#[test]
fn each_gap_is_asked_for_once_and_first_of_a_node_that_returns_headers() {
    check(
        "g a1 a2 a3 a4\na1 b2 b3 b4",
        |config| config,
        &[
            (
                "both nodes have the same gap",
                |at| _ = at.local("n1", "a1").local("n1", "a4").local("n2", "a4"),
                &["n1 block a1", "n1 up 2 to 3"],
            ),
            (
                "each has its own",
                |at| _ = at.local("n1", "a1").local("n1", "a4").local("n2", "b4"),
                &["n1 block a1", "n1 up 2 to 3", "n2 up 2 to 3"],
            ),
            (
                "n1 is being asked",
                |at| {
                    at.local("n1", "a1").local("n1", "a4").local("n2", "a4");
                    let (from, head) = (hash("a3"), hash("a4"));
                    at.in_flight("n1", Question::Down { from, height: 3, head }, true);
                },
                &["n1 block a1"],
            ),
            (
                "n1 is being asked, and returned none the last time",
                |at| {
                    at.local("n1", "a1").local("n1", "a4").local("n2", "a4").no_headers("n1", "a4");
                    let (from, head) = (hash("a3"), hash("a4"));
                    at.in_flight("n1", Question::Down { from, height: 3, head }, true);
                },
                &["n1 block a1", "n2 up 2 to 3"],
            ),
            (
                "n1 returned none",
                |at| _ = at.local("n1", "a1").local("n1", "a4").local("n2", "a4").no_headers("n1", "a4"),
                &["n1 block a1", "n2 up 2 to 3"],
            ),
            (
                "a local node is asked before a public one",
                |at| _ = at.local("n1", "a1").public("a", "a4").local("n1", "a4"),
                &["n1 block a1", "n1 up 2 to 3"],
            ),
        ],
    );
}

/// ```text
/// g - a1 - a2 - a3        n1 reported the blocks first
/// ```
#[test]
fn a_block_is_asked_of_one_node_and_of_a_second_if_the_first_is_late() {
    fn both(at: &mut Drawn) -> &mut Drawn {
        at.local("n1", "a1").local("n1", "a2").local("n2", "a2")
    }
    check(
        "g a1 a2 a3",
        |config| ChainConfig { requests_per_node: 2, ..config },
        &[
            ("of its first reporter", |at| _ = both(at), &["n1 block a1", "n1 block a2"]),
            ("what is there is not asked for", |at| _ = both(at).block("n1", "a1", true), &["n1 block a2"]),
            (
                "what is in flight is not",
                |at| {
                    let block = at.header("a1");
                    both(at).in_flight("n1", Question::Block(block, Detail::Results), false);
                },
                &["n1 block a2"],
            ),
            (
                "n1 is late: n2 is asked for all",
                |at| {
                    let block = at.header("a1");
                    both(at).in_flight("n1", Question::Block(block, Detail::Results), true);
                },
                &["n2 block a1", "n2 block a2"],
            ),
            (
                "both are late",
                |at| {
                    let block = at.header("a1");
                    both(at).in_flight("n1", Question::Block(block, Detail::Results), true);
                    at.in_flight("n2", Question::Block(block, Detail::Results), true);
                },
                &["n1 block a2"],
            ),
            (
                "n1 is late, and no other node has the blocks: it is asked once more",
                |at| {
                    let block = at.header("a1");
                    at.local("n1", "a1").local("n1", "a2").local("n2", "g");
                    at.in_flight("n1", Question::Block(block, Detail::Results), true);
                },
                &["n1 block a1"],
            ),
            (
                "but not a third time",
                |at| {
                    let block = at.header("a1");
                    at.local("n1", "a1").local("n2", "g");
                    at.in_flight("n1", Question::Block(block, Detail::Results), true);
                    at.in_flight("n1", Question::Block(block, Detail::Results), false);
                },
                &[],
            ),
            (
                "n1 returned none, in this cycle and for the last block",
                |at| _ = both(at).block("n1", "a1", false),
                &["n2 block a1", "n2 block a2"],
            ),
            (
                "n1 is at its limit",
                |at| _ = both(at).local("n1", "a3").local("n2", "a3"),
                &["n1 block a1", "n1 block a2", "n2 block a3"],
            ),
        ],
    );
}

/// A block waits for a local node that is only busy. Nothing is decided by a public node.
#[test]
fn public_nodes_are_asked_for_blocks_only_if_all_local_ones_are_late() {
    fn both(at: &mut Drawn) -> &mut Drawn {
        at.public("a", "a1").public("a", "a2").local("z", "a1").local("z", "a2")
    }
    check(
        "g a1 a2 a3",
        |config| ChainConfig { requests_per_node: 1, ..config },
        &[
            ("only the public node has it", |at| _ = at.local("z", "g").public("a", "a1"), &[]),
            ("the local node is asked, up to its limit", |at| _ = both(at), &["z block a1"]),
            (
                "the local node is late",
                |at| {
                    let block = at.header("a1");
                    both(at).in_flight("z", Question::Block(block, Detail::Results), true);
                },
                &["a block a1"],
            ),
            (
                "the local node does not return it",
                |at| _ = both(at).block("z", "a1", false),
                &["a block a1", "z block a2"],
            ),
        ],
    );
}

/// ```text
/// g - a1 - a2
/// ```
#[test]
fn less_of_a_block_is_asked_for_when_no_node_that_has_it_returns_more() {
    fn refused_by(at: &mut Drawn, nodes: &[&str], looks: u32) {
        at.local("n1", "a1").local("n2", "a1");
        for _ in 0..looks {
            for node in nodes {
                at.block(node, "a1", false);
            }
            at.later(SECOND);
        }
    }
    check(
        "g a1 a2 a3",
        |config| config,
        &[
            ("two looks are not enough", |at| refused_by(at, &["n1", "n2"], 2), &["n1 block a1"]),
            ("three are", |at| refused_by(at, &["n1", "n2"], 3), &["n1 Transactions of block a1"]),
            ("n2 may return it", |at| refused_by(at, &["n1"], 3), &["n2 block a1"]),
            (
                "the next block is asked for in full",
                |at| {
                    refused_by(at, &["n1", "n2"], 3);
                    at.local("n1", "a2").local("n2", "a2");
                },
                &["n1 Transactions of block a1", "n1 block a2"],
            ),
            (
                "the second block that n1 and n2 refused is not followed by a third",
                |at| {
                    refused_by(at, &["n1", "n2"], 3);
                    at.local("n1", "a2").local("n2", "a2");
                    for _ in 0..3 {
                        at.block("n1", "a2", false).block("n2", "a2", false).later(SECOND);
                    }
                    at.local("n1", "a3").local("n2", "a3");
                },
                &[
                    "n1 Transactions of block a1",
                    "n1 Transactions of block a2",
                    "n1 Transactions of block a3",
                ],
            ),
        ],
    );
    let at = |config| ChainConfig { detail: Detail::Header, ..config };
    check("g a1 a2", at, &[("only headers are read", |at| _ = at.local("n1", "a1"), &[])]);
}

#[test]
fn nodes_that_cannot_be_asked_are_not() {
    fn limited() -> ChainError {
        ChainError::RateLimited { endpoint: "n1".to_owned(), retry_after: Some(20 * SECOND) }
    }
    check(
        "g a1 a2 a3 a4",
        |config| config,
        &[
            (
                "it asked for no requests",
                |at| _ = at.local("n1", "a4").found("n1", Found::nothing(hash("a4"), Some(limited()))),
                &[],
            ),
            (
                "until then",
                |at| {
                    at.local("n1", "a4").found("n1", Found::nothing(hash("a4"), Some(limited())));
                    at.later(20 * SECOND).local("n1", "a4");
                },
                &["n1 up 1 to 3"],
            ),
            ("it never answered", |at| _ = at.plan(), &[]),
        ],
    );
}

#[test]
fn a_node_is_asked_for_its_chain_before_anything_else() {
    let other = || ChainIdentity { id: "other".to_owned(), genesis: hash("x") };
    let mut at = Drawn::new("g a1 a2 a3 a4 a5 a6 a7");
    assert_eq!(at.head("n1", Group::Local, "a4").plan(), ["n1 identity"], "it is new");
    at.later(SECOND).head("n1", Group::Local, "a4").in_flight("n1", Question::Identity, true);
    assert_eq!(at.plan(), [""; 0], "the answer is late");
    let mut at = Drawn::new("g a1 a2 a3 a4 a5 a6 a7");
    at.local("n1", "a1").found("n1", Found::Identity(Err(refused())));
    assert_eq!(at.plan(), ["n1 block a1"], "the child of a known block needs no proof");
    at.later(SECOND).head("n1", Group::Local, "a5");
    assert_eq!(at.plan(), ["n1 block a1", "n1 identity"], "its head jumped");
    at.found("n1", Found::Identity(Ok(identity())));
    assert_eq!(at.plan(), ["n1 block a1", "n1 final at a5", "n1 up 2 to 4"]);
    at.found("n1", Found::Identity(Ok(other())));
    assert_eq!(at.later(SECOND).plan(), ["n1 identity"], "on another chain it is asked for nothing else");
}

/// Public nodes decide neither the chain nor the root while there is a local one.
#[test]
fn the_root_is_asked_of_the_deciding_node_with_the_highest_head() {
    let drawing = branch("g", "a", 1..=9);
    let recent = |config| ChainConfig { start: Start::Recent(4), ..config };
    check(
        &drawing,
        recent,
        &[
            (
                "no chain is known",
                |at| _ = at.head("p", Group::Public, "a9").head("z", Group::Local, "a4"),
                &["z identity"],
            ),
            (
                "the furthest local node is asked",
                |at| _ = at.local("n1", "a4").local("n2", "a5").public("p", "a9"),
                &["n2 root below 5"],
            ),
            (
                "one local node has not reported its chain",
                |at| _ = at.local("n1", "a4").head("n2", Group::Local, "a5"),
                &["n2 identity"],
            ),
            (
                "the furthest returned none",
                |at| _ = at.local("n1", "a4").local("n2", "a5").found("n2", Found::Root(Ok(None))),
                &["n1 root below 4"],
            ),
            (
                "of public nodes the highest half does not count",
                |at| _ = at.public("p1", "a9").public("p2", "a5").public("p3", "a4"),
                &["p2 root below 5"],
            ),
        ],
    );
    let at_height = |config| ChainConfig { start: Start::Height(2), ..config };
    check(
        &drawing,
        at_height,
        &[(
            "each deciding node is asked for the block at a height",
            |at| _ = at.local("n1", "a4").local("n2", "a5").public("p", "a9"),
            &["n1 root below 4", "n2 root below 5"],
        )],
    );
}

#[test]
fn finality_is_asked_for_with_each_new_head_and_now_and_then() {
    let mut at = Drawn::new("g a1 a2");
    at.head("n1", Group::Local, "g").found("n1", Found::Identity(Ok(identity())));
    assert_eq!(at.plan(), ["n1 final at g"]);
    assert_eq!(at.plan(), [""; 0], "once in a cycle");
    assert_eq!(at.later(SECOND).plan(), ["n1 final at g"], "it was not answered");
    at.found("n1", Found::Final(hash("g"), Ok(None)));
    assert_eq!(at.later(SECOND).plan(), [""; 0], "the head is the same");
    assert_eq!(at.later(27 * SECOND).plan(), [""; 0]);
    assert_eq!(at.later(SECOND).plan(), ["n1 identity"], "the proof is old, and soon the answer");
    at.found("n1", Found::Identity(Ok(identity())));
    assert_eq!(at.later(SECOND).plan(), ["n1 final at g"]);
    at.found("n1", Found::Final(hash("g"), Ok(None)));
    at.later(SECOND).head("n1", Group::Local, "a1").block("n1", "a1", true);
    assert_eq!(at.plan(), ["n1 final at a1"], "the head is new");
}

#[test]
fn a_node_that_reports_no_finality_is_asked_less_and_less() {
    let mut at = Drawn::new("g a1 a2");
    at.head("n1", Group::Local, "g").found("n1", Found::Identity(Ok(identity())));
    let mut asked_at = Vec::new();
    for second in 0..100 {
        if at.plan().iter().any(|planned| planned.contains("final")) {
            asked_at.push(second);
            at.found("n1", Found::Final(hash("g"), Err(refused())));
        }
        at.later(SECOND);
    }
    assert_eq!(asked_at, [0, 1, 3, 7, 15, 31, 61, 91]);
}
