//! Which heads are accepted, look by look.

use std::collections::BTreeMap;

use super::*;
use crate::Hash;

const SECOND: Duration = Duration::from_secs(1);
const PATIENCE: Patience = Patience { answers: 6, time: Duration::from_secs(10) };

fn hash(name: &str) -> Hash {
    let mut bytes = [0; 32];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    Hash(bytes)
}

fn name(header: Header) -> String {
    String::from_utf8(header.hash.0.into_iter().take_while(|byte| *byte != 0).collect()).unwrap()
}

struct Answering {
    headers: BTreeMap<String, Header>,
    graph: Graph,
    heads: Heads,
    patience: Patience,
    now: Instant,
}

impl Answering {
    /// Lines of blocks; a line that begins with `?` is not linked yet. A block weighs 1, or the number after its colon.
    fn new(drawing: &str) -> Self {
        let mut headers: BTreeMap<String, Header> = BTreeMap::new();
        let mut graph = None;
        for line in drawing.lines() {
            let mut parent: Option<Header> = None;
            for word in line.trim_start_matches('?').split_whitespace() {
                let (block, work) = word.split_once(':').unwrap_or((word, "1"));
                let below = parent;
                let header = *headers.entry(block.to_owned()).or_insert_with(|| Header {
                    hash: hash(block),
                    parent: below.map_or(hash(""), |below| below.hash),
                    height: below.map_or(0, |below| below.height + 1),
                    work: work.parse().unwrap(),
                    time: 0,
                });
                let graph = graph.get_or_insert_with(|| Graph::new(header));
                if !line.starts_with('?') {
                    graph.insert(header).ok();
                }
                parent = Some(header);
            }
        }
        Self {
            headers,
            graph: graph.unwrap(),
            heads: Heads::default(),
            patience: PATIENCE,
            now: Instant::now(),
        }
    }

    fn linked(&mut self, names: &str) -> &mut Self {
        for name in names.split_whitespace() {
            self.graph.insert(self.headers[name]).unwrap();
        }
        self
    }

    /// One look after another, each a second; the accepted head after each, and `!` where the address flaps from then.
    fn looks(&mut self, heads: &str) -> String {
        let mut accepted = Vec::new();
        for head in heads.split_whitespace() {
            let change = self.heads.report(Some(&self.graph), self.headers[head], self.patience, self.now);
            let weighed = self.heads.weigh(&self.graph, self.patience, self.now);
            let flaps = change.flaps_to.or(weighed.flaps_to).map_or("", |_| "!");
            accepted.push(format!("{}{flaps}", name(self.heads.accepted().unwrap())));
            self.now += SECOND;
        }
        accepted.join(" ")
    }
}

/// ```text
/// g - a1 - a2 - a3 - a4 - a5
///            \
///              b3 - b4 - b5 - b6
/// ```
fn forked() -> Answering {
    Answering::new("g a1 a2 a3 a4 a5\na2 b3 b4 b5 b6")
}

#[test]
fn a_lighter_head_is_accepted_at_the_sixth_consecutive_look() {
    let cases = [
        ("an ancestor", "a4 a2 a2 a2 a2 a2 a2 a2", "a4 a4 a4 a4 a4 a4 a2 a2"),
        ("another branch of the same weight", "a4 b4 b4 b4 b4 b4 b4", "a4 a4 a4 a4 a4 a4 b4"),
        ("several lighter ones count together", "a4 a2 b3 a1 b4 a2 b3", "a4 a4 a4 a4 a4 a4 b3"),
        ("the accepted one ends the count", "a4 a2 a2 a2 a2 a2 a4 a2 a2 a2", "a4 a4 a4 a4 a4 a4 a4 a4 a4 a4"),
        ("growth ends it", "a4 a2 a2 a2 a2 a2 a5 a2 a2 a2", "a4 a4 a4 a4 a4 a4 a5 a5 a5 a5"),
        ("a heavier branch is followed at once", "a4 a2 b5 b6", "a4 a4 b5 b6"),
    ];
    for (what, heads, accepted) in cases {
        assert_eq!(forked().looks(heads), accepted, "{what}");
    }
}

#[test]
fn a_lighter_head_is_accepted_after_a_time_if_that_is_earlier() {
    let mut address = forked();
    address.patience.answers = 100;
    let heads = "a4 a2 a2 a2 a2 a2 a2 a2 a2 a2 a2 a2 a2";
    assert_eq!(address.looks(heads), "a4 a4 a4 a4 a4 a4 a4 a4 a4 a4 a4 a2 a2", "10 s after the first");
}

#[test]
fn without_patience_each_head_is_accepted_at_once() {
    let mut address = forked();
    address.patience.answers = 1;
    let heads = "a4 b3 a4 b3 a4 b3 a4 a1 b5 a4";
    assert_eq!(address.looks(heads), heads);
    assert!(!address.heads.flaps(address.now));
}

#[test]
fn the_third_return_within_a_minute_is_reported_once_until_a_minute_was_steady() {
    let mut address = forked();
    assert_eq!(address.looks("a4 b3 a4 b3 a4 b3 a4 b3 a4"), "a4 a4 a4 a4 a4 a4 a4! a4 a4");
    assert!(address.heads.flaps(address.now));
    address.now += 59 * SECOND;
    assert!(!address.heads.flaps(address.now), "its last return is a minute ago");
    assert_eq!(address.looks("a4 b3 a4 b3 a4 b3 a4"), "a4 a4 a4 a4 a4 a4 a4!");
    // Two returns within a minute are not enough.
    let mut address = forked();
    for _ in 0..10 {
        assert_eq!(address.looks("a4 b3 a4"), "a4 a4 a4");
        address.now += 28 * SECOND;
    }
}

#[test]
fn an_address_that_flaps_is_doubted_longer_and_does_not_switch_branches_at_once() {
    let mut address = forked();
    address.looks("a4 b3 a4 b3 a4 b3 a4");
    assert_eq!(address.looks("b5 a4 b6 a4 a5"), "a4 a4 a4 a4 a5", "another branch, although heavier");
    let steady = ["b6"; 13].join(" ");
    assert!(address.looks(&steady).ends_with("a5 b6 b6"), "after twice as many looks");
    // Two backends on growing branches switch until that is known.
    let mut address = Answering::new("g a1 a2 a3 a4 a5 a6 a7 a8\na1 b2 b3 b4 b5 b6 b7 b8 b9");
    assert_eq!(address.looks("a2 b3 a4 b5 a6 b7 a8 b9"), "a2 b3 a4 b5 a6! a6 a8 a8");
}

/// Nothing between is known until a gap is closed.
///
/// ```text
/// g - a1 - a2 - a3 - a4
///  \
///   (b1 - b2 - b3 - b4 - b5)
///  \
///   (c1 - c2:9)
/// ```
#[test]
fn what_is_not_linked_is_weighed_by_its_height_until_it_is() {
    let drawing = "g a1:2 a2:2 a3:2 a4:2\n?g b1 b2 b3 b4 b5\n?g c1 c2:9";
    let mut address = Answering::new(drawing);
    assert_eq!(address.looks("a4 b5"), "a4 b5", "it is higher");
    address.linked("b1 b2 b3 b4 b5");
    assert_eq!(address.looks("b5"), "a4", "and lighter");
    assert_eq!(address.looks("b5 b5 b5 b5"), "a4 a4 a4 b5", "all looks count");
    let mut address = Answering::new(drawing);
    assert_eq!(address.looks("a4 c2 c2"), "a4 a4 a4", "it is lower");
    address.linked("c1 c2");
    address.heads.weigh(&address.graph, PATIENCE, address.now);
    assert_eq!(name(address.heads.accepted().unwrap()), "c2", "and heavier: no other look is needed");
    let mut address = Answering::new(drawing);
    assert_eq!(
        address.looks("a4 b5 a4 b5 a4 b5 a4 b5 a4"),
        "a4 b5 a4 b5 a4 b5 a4! a4 a4",
        "it is back at once"
    );
}

/// ```text
/// g - a1 - a2 - a3 - a4 - a5 - a6
///            \
///              b3 - ... - b40        a true reorg: nine of ten answers
/// ```
#[test]
fn a_stale_backend_does_not_hold_back_a_heavier_branch_that_most_answers_are_on() {
    let grown = (3..=40).fold("a2".to_owned(), |line, height| format!("{line} b{height}"));
    for (stale, last) in [("a5", "a5"), ("a4", "a5"), ("a6", "a6")] {
        let mut address = Answering::new(&format!("g a1 a2 a3 a4 a5 a6\n{grown}"));
        assert!(address.looks("a5 a3 a5 a3 a5 a3 a5").ends_with('!'), "it flaps");
        let answer = |look| if look % 10 == 0 { stale.to_owned() } else { format!("b{}", 6 + look) };
        let accepted: Vec<String> = (1..=30).map(|look| address.looks(&answer(look))).collect();
        assert_eq!(accepted[11], last, "{stale}: eleven answers are not enough");
        assert_eq!(accepted[12], "b19", "{stale}: twelve are");
        assert_eq!([&accepted[19], &accepted[29]], ["b25", "b35"], "{stale}: it does not go back");
    }
}

/// ```text
/// g - a1 - a2 - a3 - (a4 - a5 - ... - a9)
///  \
///   (x1 - ... - x20)                           never linked
/// ```
#[test]
fn a_false_head_that_is_higher_is_left_when_the_branch_before_is_linked() {
    let never = (1..=20).fold("?g".to_owned(), |line, height| format!("{line} x{height}"));
    let mut address = Answering::new(&format!("g a1 a2 a3\n?a3 a4 a5 a6 a7 a8 a9\n{never}"));
    assert_eq!(address.looks("a3"), "a3");
    for (head, gap, flaps_to) in [("a5", "a4 a5", None), ("a7", "a6 a7", None), ("a9", "a8 a9", Some("x20"))]
    {
        assert_eq!(address.looks(&format!("x20 {head}")), "x20 x20", "nothing but their heights is known");
        address.linked(gap);
        let weighed = address.heads.weigh(&address.graph, PATIENCE, address.now);
        assert_eq!(name(address.heads.accepted().unwrap()), head);
        assert_eq!(weighed.flaps_to.map(name).as_deref(), flaps_to, "{head}");
    }
}

#[test]
fn a_head_that_rises_before_anything_is_linked_was_not_left() {
    let mut address = Answering::new("g\n?g a1 a2 a3 a4 a5 a6\n?g c1");
    assert_eq!(address.looks("a1 a4"), "a1 a4");
    address.linked("a1 a2 a3 a4 a5 a6 c1");
    assert_eq!(
        address.looks("a6 c1 a6 c1 a6"),
        "a6 a6 a6 a6 a6",
        "it has returned twice, and not three times"
    );
    assert_eq!(address.looks("c1 a6"), "a6 a6!");
}
