//! Which heads are accepted, look by look.

use std::collections::BTreeMap;

use super::*;
use crate::Hash;

const SECOND: Duration = Duration::from_secs(1);
const PATIENCE: Patience = Patience { looks: 6, time: Duration::from_secs(10) };

fn hash(name: &str) -> Hash {
    let mut bytes = [0; 32];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    Hash(bytes)
}

fn name(header: Header) -> String {
    String::from_utf8(header.hash.0.into_iter().take_while(|byte| *byte != 0).collect()).unwrap()
}

struct Drawn {
    headers: BTreeMap<String, Header>,
    graph: Graph,
    heads: Heads,
    patience: Patience,
    now: Instant,
}

impl Drawn {
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
fn forked() -> Drawn {
    Drawn::new("g a1 a2 a3 a4 a5\na2 b3 b4 b5 b6")
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
    let mut drawn = forked();
    drawn.patience.looks = 100;
    let heads = "a4 a2 a2 a2 a2 a2 a2 a2 a2 a2 a2 a2 a2";
    assert_eq!(drawn.looks(heads), "a4 a4 a4 a4 a4 a4 a4 a4 a4 a4 a4 a2 a2", "10 s after the first");
}

#[test]
fn without_patience_each_head_is_accepted_at_once() {
    let mut drawn = forked();
    drawn.patience.looks = 1;
    let heads = "a4 b3 a4 b3 a4 b3 a4 a1 b5 a4";
    assert_eq!(drawn.looks(heads), heads);
    assert!(!drawn.heads.flaps(drawn.now));
}

#[test]
fn the_third_return_within_a_minute_is_reported_once_until_a_minute_was_steady() {
    let mut drawn = forked();
    assert_eq!(drawn.looks("a4 b3 a4 b3 a4 b3 a4 b3 a4"), "a4 a4 a4 a4 a4 a4 a4! a4 a4");
    assert!(drawn.heads.flaps(drawn.now));
    drawn.now += 59 * SECOND;
    assert!(!drawn.heads.flaps(drawn.now), "its last return is a minute ago");
    assert_eq!(drawn.looks("a4 b3 a4 b3 a4 b3 a4"), "a4 a4 a4 a4 a4 a4 a4!");
    // Two returns within a minute are not enough.
    let mut drawn = forked();
    for _ in 0..10 {
        assert_eq!(drawn.looks("a4 b3 a4"), "a4 a4 a4");
        drawn.now += 28 * SECOND;
    }
}

#[test]
fn an_address_that_flaps_is_doubted_longer_and_does_not_switch_branches_at_once() {
    let mut drawn = forked();
    drawn.looks("a4 b3 a4 b3 a4 b3 a4");
    assert_eq!(drawn.looks("b5 a4 b6 a4 a5"), "a4 a4 a4 a4 a5", "another branch, although heavier");
    let steady = ["b6"; 13].join(" ");
    assert!(drawn.looks(&steady).ends_with("a5 b6 b6"), "after twice as many looks");
    // Two backends on growing branches switch until that is known.
    let mut drawn = Drawn::new("g a1 a2 a3 a4 a5 a6 a7 a8\na1 b2 b3 b4 b5 b6 b7 b8 b9");
    assert_eq!(drawn.looks("a2 b3 a4 b5 a6 b7 a8 b9"), "a2 b3 a4 b5 a6! a6 a8 a8");
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
    let mut drawn = Drawn::new(drawing);
    assert_eq!(drawn.looks("a4 b5"), "a4 b5", "it is higher");
    drawn.linked("b1 b2 b3 b4 b5");
    assert_eq!(drawn.looks("b5"), "a4", "and lighter");
    assert_eq!(drawn.looks("b5 b5 b5 b5"), "a4 a4 a4 b5", "all looks count");
    let mut drawn = Drawn::new(drawing);
    assert_eq!(drawn.looks("a4 c2 c2"), "a4 a4 a4", "it is lower");
    drawn.linked("c1 c2");
    drawn.heads.weigh(&drawn.graph, PATIENCE, drawn.now);
    assert_eq!(name(drawn.heads.accepted().unwrap()), "c2", "and heavier: no other look is needed");
    let mut drawn = Drawn::new(drawing);
    assert_eq!(
        drawn.looks("a4 b5 a4 b5 a4 b5 a4 b5 a4"),
        "a4 b5 a4 b5 a4 b5 a4! a4 a4",
        "it is back at once"
    );
}
