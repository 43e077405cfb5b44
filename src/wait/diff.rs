//! The differences between two texts of a value, in short form: `leader: None -> Some(1)`.
//!
//! The indentation of a pretty `Debug`, of pretty JSON and of most hand-written texts makes a tree. Two trees are
//! compared by key, or by position where there are no keys.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use crate::text::{one_line, prefix};

/// Bytes of an old or new value.
const VALUE: usize = 120;
/// Bytes of the path to a difference.
const PATH: usize = 100;
/// Bytes of a value that are searched for the position of the difference.
const LONG: usize = 16 * 1_024;
/// Stands for a missing value.
const ABSENT: &str = "absent";

/// One line, the lines that are indented under it, and its closing line.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// The text before the colon, if there is one.
    key: Option<String>,
    head: String,
    children: Vec<Tree>,
    tail: String,
    /// Whether the end was rendered. If not, a missing child may lie after the cut.
    whole: bool,
}

impl Tree {
    /// Parses a text. If the text was cut, its last line is dropped.
    pub(super) fn parse(text: &str, cut: bool) -> Self {
        let lines = if cut { text.rsplit_once('\n').map_or("", |(lines, _)| lines) } else { text };
        let is_line = !lines.contains('\n');
        let mut open: Vec<(Option<usize>, Self)> = vec![(None, Self::default())];
        for line in lines.lines().filter(|line| !line.trim().is_empty()) {
            let text = line.trim();
            let indent = Some(line.len() - line.trim_start().len());
            while open.last().is_some_and(|(above, _)| *above > indent) {
                close(&mut open);
            }
            if let Some((above, opened)) = open.last_mut()
                && *above == indent
            {
                if opened.tail.is_empty() && opened.is_open() && text.starts_with([')', ']', '}']) {
                    opened.end(text);
                    continue;
                }
                close(&mut open);
            }
            open.push((indent, if is_line { Self::whole(text) } else { Self::line(text) }));
        }
        if cut {
            for (_, tree) in &mut open {
                tree.whole = !tree.tail.is_empty();
            }
            // More of the root was cut off.
            open[0].1.whole = false;
        } else {
            open[0].1.whole = true;
        }
        while open.len() > 1 {
            close(&mut open);
        }
        open.pop().map(|(_, root)| root).unwrap_or_default()
    }

    fn line(text: &str) -> Self {
        let text = text.strip_suffix(',').unwrap_or(text);
        match keyed(text) {
            Some((key, head)) => Self { key: Some(key.to_owned()), ..Self::whole(head) },
            None => Self::whole(text),
        }
    }

    fn whole(head: &str) -> Self {
        Self { head: head.to_owned(), whole: true, ..Self::default() }
    }

    fn is(&self, other: &Self) -> bool {
        (&self.key, &self.head, &self.tail) == (&other.key, &other.head, &other.tail)
            && self.children.len() == other.children.len()
            && self.children.iter().zip(&other.children).all(|(one, other)| one.is(other))
    }

    /// Whether this is the `Debug` of an `Instant`, wrapped or not: `Some(Instant { .. })`.
    fn is_a_moment(&self) -> bool {
        self.head == "Instant {" || (self.wraps_one() && self.children[0].is_a_moment())
    }

    fn is_open(&self) -> bool {
        self.head.ends_with(['(', '[', '{'])
    }

    /// Whether the cut came right after the opening line, so that no child is known.
    fn is_cut_off(&self) -> bool {
        self.is_open() && self.children.is_empty() && !self.whole
    }

    /// Takes the closing line. If a colon follows the bracket, the whole tree was a key.
    fn end(&mut self, text: &str) {
        let text = text.strip_suffix(',').unwrap_or(text);
        match text[1..].strip_prefix(": ") {
            Some(head) => {
                text[..1].clone_into(&mut self.tail);
                let key = self.short(VALUE);
                *self = Self { key: Some(key), ..Self::whole(head) };
            }
            None => text.clone_into(&mut self.tail),
        }
    }

    /// The tree on one line of about `limit` bytes at most.
    fn short(&self, limit: usize) -> String {
        let mut line = String::new();
        self.shorten(&mut line, limit);
        line
    }

    /// The same without the key.
    fn value(&self, limit: usize) -> String {
        let mut line = String::new();
        self.shorten_value(&mut line, limit);
        if line.is_empty() { "nothing".to_owned() } else { line }
    }

    /// Appends the tree to `line` while `line` has fewer than `limit` bytes.
    fn shorten(&self, line: &mut String, limit: usize) {
        if let Some(key) = &self.key {
            let _ = write!(line, "{key}: ");
        }
        self.shorten_value(line, limit);
    }

    fn shorten_value(&self, line: &mut String, limit: usize) {
        line.push_str(&self.head);
        let is_tight = self.head.is_empty() || self.head.ends_with(['(', '[']);
        let pad = if is_tight || self.children.is_empty() { "" } else { " " };
        line.push_str(pad);
        for (nth, child) in self.children.iter().enumerate() {
            if line.len() >= limit {
                return;
            }
            line.push_str(if nth > 0 { ", " } else { "" });
            child.shorten(line, limit);
        }
        line.push_str(if self.tail.is_empty() { "" } else { pad });
        line.push_str(&self.tail);
    }

    /// The children by their keys, if all have distinct keys.
    fn by_key(&self) -> Option<HashMap<&str, &Self>> {
        let keyed = self.children.iter().map(|child| Some((child.key.as_deref()?, child)));
        let keyed: HashMap<_, _> = keyed.collect::<Option<_>>()?;
        (keyed.len() == self.children.len()).then_some(keyed)
    }

    /// Whether this is a value without parts, wrapped or not: `Some(Id(1))`.
    fn is_plain(&self) -> bool {
        match &self.children[..] {
            [] => true,
            [only] => only.key.is_none() && only.is_plain(),
            _ => false,
        }
    }

    /// Whether to show the tree whole: a short list of plain values.
    fn is_short(&self) -> bool {
        self.whole && self.children.iter().all(Self::is_plain) && self.value(VALUE + 1).len() <= VALUE
    }

    fn wraps_one(&self) -> bool {
        self.head.ends_with('(') && self.children.len() == 1
    }
}

fn close(open: &mut Vec<(Option<usize>, Tree)>) {
    if let Some((_, tree)) = open.pop()
        && let Some((_, above)) = open.last_mut()
    {
        above.children.push(tree);
    }
}

/// The key and the text after its colon. A colon in quotation marks does not separate.
fn keyed(text: &str) -> Option<(&str, &str)> {
    let Some(inside) = text.strip_prefix('"') else {
        return text.split_once(": ").filter(|(key, _)| !key.contains(['(', '{', '"']));
    };
    let mut escaped = false;
    let end = inside.find(|character| {
        let ends = character == '"' && !escaped;
        escaped = character == '\\' && !escaped;
        ends
    })?;
    let head = inside[end + 1..].strip_prefix(": ")?;
    Some((&inside[..end], head))
}

/// Compares `old` with `new` and calls `found` with a line for each difference, in the order of `new`.
pub(super) fn diff(old: &Tree, new: &Tree, found: &mut dyn FnMut(&dyn Fn() -> String)) {
    Diff { found }.compare(old, new, "");
}

struct Diff<'a> {
    found: &'a mut dyn FnMut(&dyn Fn() -> String),
}

impl Diff<'_> {
    fn compare(&mut self, old: &Tree, new: &Tree, path: &str) {
        // An `Instant` always differs, which is no information.
        if old.is(new) || (old.is_a_moment() && new.is_a_moment()) {
            return;
        }
        // The cut came right after the opening line.
        if old.head == new.head && (old.is_cut_off() || new.is_cut_off()) {
            return;
        }
        let is_alike = old.head == new.head && !old.children.is_empty() && !new.children.is_empty();
        if !is_alike || (old.tail != new.tail && old.whole && new.whole) {
            return self.say(&|| said(path, &old.value(LONG), &new.value(LONG)));
        }
        match (old.by_key(), new.by_key()) {
            (Some(before), Some(after)) => self.compare_keys((old, &before), (new, &after), path),
            (None, None) if new.head.ends_with('{') => self.compare_sets(old, new, path),
            _ => self.compare_places(old, new, path),
        }
    }

    fn compare_keys(
        &mut self,
        (old, before): (&Tree, &HashMap<&str, &Tree>),
        (new, after): (&Tree, &HashMap<&str, &Tree>),
        path: &str,
    ) {
        for child in &new.children {
            let key = child.key.as_deref().unwrap_or_default();
            match before.get(key) {
                Some(known) => self.compare(known, child, &inside(path, key)),
                None if old.whole => self.say(&|| said(&inside(path, key), ABSENT, &child.value(LONG))),
                None => {}
            }
        }
        for child in old.children.iter().filter(|_| new.whole) {
            let key = child.key.as_deref().unwrap_or_default();
            if !after.contains_key(key) {
                self.say(&|| said(&inside(path, key), &child.value(LONG), ABSENT));
            }
        }
    }

    /// A set has neither keys nor an order.
    fn compare_sets(&mut self, old: &Tree, new: &Tree, path: &str) {
        let gone = |from: &Tree, to: &Tree| {
            let known: HashSet<_> = to.children.iter().map(|child| child.short(LONG)).collect();
            let gone =
                from.children.iter().map(|child| child.short(LONG)).filter(|child| !known.contains(child));
            gone.collect::<Vec<_>>()
        };
        let left = if new.whole { gone(old, new) } else { Vec::new() };
        let joined = if old.whole { gone(new, old) } else { Vec::new() };
        if !left.is_empty() || !joined.is_empty() {
            let list = |all: &[String]| if all.is_empty() { ABSENT.to_owned() } else { all.join(", ") };
            self.say(&|| said(path, &list(&left), &list(&joined)));
        }
    }

    fn compare_places(&mut self, old: &Tree, new: &Tree, path: &str) {
        let is_root = path.is_empty() && new.head.is_empty();
        if !is_root && old.is_short() && new.is_short() {
            return self.say(&|| said(path, &old.value(LONG), &new.value(LONG)));
        }
        let is_whole = old.whole && new.whole;
        let same = old.children.iter().zip(&new.children).take_while(|(one, other)| one.is(other)).count();
        let (mut before, mut after) = (&old.children[same..], &new.children[same..]);
        while let ([rest @ .., one], [others @ .., other]) = (before, after)
            && is_whole
            && one.is(other)
        {
            (before, after) = (rest, others);
        }
        let wraps_one = old.wraps_one() && new.wraps_one();
        let has_places = !is_root && !wraps_one;
        let at =
            |place: usize| if has_places { format!("{path}[{}]", same + place) } else { path.to_owned() };
        if before.len() == after.len() || !is_whole {
            for (place, (old, new)) in before.iter().zip(after).enumerate() {
                match (&old.key, &new.key) {
                    (None, None) => self.compare(old, new, &at(place)),
                    (Some(key), Some(other)) if key == other => {
                        self.compare(old, new, &inside(&at(place), key));
                    }
                    _ => self.say(&|| said(&at(place), &old.short(LONG), &new.short(LONG))),
                }
            }
        } else {
            self.say(&|| said(&at(0), &joined(before), &joined(after)));
        }
    }

    fn say(&mut self, line: &dyn Fn() -> String) {
        (self.found)(line);
    }
}

fn inside(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn joined(trees: &[Tree]) -> String {
    if trees.is_empty() {
        return ABSENT.to_owned();
    }
    let mut line = String::new();
    for tree in trees {
        line.push_str(if line.is_empty() { "" } else { ", " });
        tree.shorten(&mut line, LONG);
    }
    line
}

fn said(path: &str, old: &str, new: &str) -> String {
    let (old, new) = around_the_difference(old, new);
    if path.is_empty() {
        format!("{old} -> {new}")
    } else {
        format!("{}: {old} -> {new}", one_line(path, PATH))
    }
}

/// Both values within [`VALUE`] bytes. Long values are reduced to the part that differs.
fn around_the_difference(old: &str, new: &str) -> (String, String) {
    /// Bytes of common text that are shown before the difference.
    const BEFORE: usize = 24;
    if old.len() <= VALUE && new.len() <= VALUE {
        return (old.to_owned(), new.to_owned());
    }
    let same = old.chars().zip(new.chars()).take_while(|(one, other)| one == other);
    let same: usize = same.map(|(one, _)| one.len_utf8()).sum();
    let from = prefix(old, same.saturating_sub(BEFORE)).len();
    let part = |text: &str| if from == 0 { ended(text) } else { ended(&format!("...{}", &text[from..])) };
    (part(old), part(new))
}

/// At most [`VALUE`] bytes.
fn ended(text: &str) -> String {
    if text.len() <= VALUE { text.to_owned() } else { format!("{}...", prefix(text, VALUE - 3)) }
}

#[cfg(all(test, not(watchkeeper_loom)))]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fmt::Debug;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct Id(u64);

    #[allow(dead_code, reason = "shown by Debug")]
    #[derive(Clone, Debug)]
    struct Node {
        term: u64,
        leader: Option<Id>,
    }

    #[allow(dead_code, reason = "shown by Debug")]
    #[derive(Clone, Debug)]
    enum Role {
        Leader { term: u64 },
        Follower,
    }

    fn texts(old: &str, new: &str) -> Vec<String> {
        let mut all = Vec::new();
        diff(&Tree::parse(old, false), &Tree::parse(new, false), &mut |line| all.push(line()));
        all
    }

    fn values(old: &dyn Debug, new: &dyn Debug) -> Vec<String> {
        texts(&format!("{old:#?}"), &format!("{new:#?}"))
    }

    #[test]
    fn a_field_that_changed_is_named() {
        let node = |term, leader: Option<u64>| Node { term, leader: leader.map(Id) };
        assert_eq!(values(&node(1, None), &node(1, Some(1))), ["leader: None -> Some(Id(1))"]);
        assert_eq!(
            values(&node(1, Some(1)), &node(2, Some(2))),
            ["term: 1 -> 2", "leader: Some(Id(1)) -> Some(Id(2))"]
        );
        assert_eq!(values(&node(1, Some(1)), &node(1, Some(1))), [""; 0]);
        let map = |nodes: &[(&'static str, Node)]| nodes.iter().cloned().collect::<BTreeMap<_, _>>();
        let (old, new) =
            (map(&[("n1", node(1, None)), ("n2", node(1, None))]), map(&[("n2", node(2, None))]));
        assert_eq!(values(&old, &new), ["n2.term: 1 -> 2", "n1: Node { term: 1, leader: None } -> absent"]);
        let (old, new) = (BTreeMap::from([(Id(7), node(1, None))]), BTreeMap::from([(Id(7), node(3, None))]));
        assert_eq!(values(&old, &new), ["Id(7).term: 1 -> 3"], "a key that is a struct");
        let (old, new) = ([node(1, None), node(1, None)], [node(1, None), node(2, None)]);
        assert_eq!(values(&old, &new), ["[1].term: 1 -> 2"], "a place in a list");
        assert_eq!(
            values(&Some(node(1, None)), &Some(node(2, None))),
            ["term: 1 -> 2"],
            "inside of a wrapper"
        );
    }

    #[test]
    fn lists_and_variants_are_shown_whole_if_they_are_short() {
        assert_eq!(values(&["a"], &["a", "b"]), [r#"["a"] -> ["a", "b"]"#]);
        assert_eq!(
            values(&(1, Role::Follower), &(1, Role::Leader { term: 3 })),
            ["[1]: Follower -> Leader { term: 3 }"]
        );
        let (old, mut new) = ((0..500).collect::<Vec<_>>(), (0..500).collect::<Vec<_>>());
        new[250] = 7;
        assert_eq!(values(&old, &new), ["[250]: 250 -> 7"]);
        new[250] = 250;
        new.insert(250, 9);
        assert_eq!(values(&old, &new), ["[250]: absent -> 9"]);
    }

    #[test]
    fn a_list_is_short_if_all_of_it_is() {
        let list = |last: &str| format!("[\n    {},\n    {last},\n]", "x".repeat(VALUE - 1));
        assert_eq!(texts(&list("1"), &list("2")), ["[1]: 1 -> 2"]);
        let list = |last: &str| format!("[\n    {},\n    {last},\n]", "x".repeat(VALUE - 5));
        let all = |last: &str| format!("[{}, {last}]", "x".repeat(VALUE - 5));
        assert_eq!(texts(&list("1"), &list("2")), [format!("{} -> {}", all("1"), all("2"))]);
    }

    #[test]
    fn moments_are_not_compared() {
        let now = std::time::Instant::now();
        let later = now + std::time::Duration::from_secs(1);
        assert_eq!(values(&(now, 1), &(later, 2)), ["[1]: 1 -> 2"]);
        assert_eq!(values(&Some(now), &Some(later)), [""; 0]);
        assert_eq!(values(&Some(now), &None::<std::time::Instant>).len(), 1, "that there is none is news");
    }

    #[test]
    fn sets_have_no_order() {
        let set = |all: &[u32]| BTreeMap::from([("up", all.iter().copied().collect::<BTreeSet<_>>())]);
        assert_eq!(values(&set(&[1, 2]), &set(&[1, 3, 4])), ["up: 2 -> 3, 4"]);
        assert_eq!(values(&set(&[1]), &set(&[1, 2])), ["up: absent -> 2"]);
        let (old, new) = ("{\n    1,\n    2,\n}", "{\n    2,\n    1,\n}");
        assert_eq!(texts(old, new), [""; 0]);
        let large = |last: u8| {
            format!("{{\n    Node {{\n        a: {},\n        b: {last},\n    }},\n}}", "x".repeat(2_000))
        };
        assert_eq!(texts(&large(1), &large(2)).len(), 1, "they differ late");
        let name = ("{\n    [::1]:80: 1,\n}", "{\n    [::1]:80: 2,\n}");
        assert_eq!(texts(name.0, name.1), ["[::1]:80: 1 -> 2"], "a name with brackets");
    }

    #[test]
    fn texts_that_are_no_debug() {
        let cases = [
            (
                "leader: None, present 3",
                "leader: n1, present 3",
                "leader: None, present 3 -> leader: n1, present 3",
            ),
            ("3 polls\nof a", "4 polls\nof a", "3 polls -> 4 polls"),
            ("3 polls\nof a", "3 polls\nof a\nand b", "absent -> and b"),
            ("term: 1\nleader: n1", "term: 1\nleader: n2", "leader: n1 -> n2"),
            ("term: 1\nn1 leads", "term: 2\nn1 leads", "term: 1 -> 2"),
            ("", "now there is one", "nothing -> now there is one"),
            (
                "{\n  \"leader\": null\n}",
                "{\n  \"leader\": {\n    \"id\": 1\n  }\n}",
                "leader: null -> { id: 1 }",
            ),
            ("} ]\n  ) (", "((\n  [", "} ] ) ( -> ((["),
            ("one\n] two", "one\n] three", "] two -> ] three"),
            ("term: 1\nn1 leads", "epoch: 2\nn1 leads", "term: 1 -> epoch: 2"),
            ("{\n    \"a\\\"b\": 1,\n}", "{\n    \"a\\\"b\": 2,\n}", "a\\\"b: 1 -> 2"),
            (
                "Log(\n    Entry {\n        term: 1,\n    },\n)",
                "Log(\n    Entry {\n        term: 1,\n    },\n    Entry {\n        term: 2,\n    },\n)",
                "[1]: absent -> Entry { term: 2 }",
            ),
        ];
        for (old, new, expected) in cases {
            assert_eq!(texts(old, new), [expected], "{old:?}, then {new:?}");
        }
    }

    #[test]
    fn long_values_are_shown_where_they_differ() {
        let (old, new) =
            (format!("{}1{}", "x".repeat(900), "y".repeat(900)), format!("{}2", "x".repeat(900)));
        let said = texts(&old, &new).remove(0);
        let (before, after) = said.split_once(" -> ").unwrap();
        assert!(
            before.starts_with("...xxxxx") && before.ends_with("yyy...") && before.len() == VALUE,
            "{before}"
        );
        assert_eq!(after, format!("...{}2", "x".repeat(24)));
        let (short, long) = ("x".repeat(30), format!("{}{}", "x".repeat(30), "y".repeat(900)));
        assert_eq!(texts(&short, &format!("{short}1")), [format!("{short} -> {short}1")], "both are short");
        let (cut, cut_long) = (format!("...{}", &short[6..]), format!("...{}...", &long[6..VALUE]));
        assert_eq!(texts(&short, &long), [format!("{cut} -> {cut_long}")]);
        assert_eq!(texts(&long, &short), [format!("{cut_long} -> {cut}")]);
        let path = "k".repeat(900);
        let said = texts(&format!("{path}: 1\nb: 1"), &format!("{path}: 2\nb: 1")).remove(0);
        assert!(said.len() < 150 && said.ends_with("k ... (800 more bytes): 1 -> 2"), "{said}");
    }

    /// Text after the cut is not absent, and the line with the cut is not compared.
    #[test]
    fn of_a_text_that_was_cut_the_part_that_is_known_is_compared() {
        let all: BTreeMap<_, _> = (0..50).map(|n| (format!("n{n:02}"), 1)).collect();
        let mut next = all.clone();
        next.insert("n03".to_owned(), 20_000);
        next.insert("n49".to_owned(), 2);
        let (old, new) = (format!("{all:#?}"), format!("{next:#?}"));
        for cut in 100..200 {
            let mut lines = Vec::new();
            let (old, new) = (Tree::parse(&old[..cut], true), Tree::parse(&new[..cut], true));
            diff(&old, &new, &mut |line| lines.push(line()));
            assert_eq!(lines, ["n03: 1 -> 20000"], "cut after {cut} bytes");
            lines.clear();
            diff(&new, &old, &mut |line| lines.push(line()));
            assert_eq!(lines, ["n03: 20000 -> 1"], "cut after {cut} bytes, the other way round");
        }
        let node = |term| Node { term, leader: None };
        let all: BTreeMap<_, _> = (0..50).map(|n| (format!("n{n:02}"), node(1))).collect();
        let mut next = all.clone();
        next.insert("n01".to_owned(), node(20_000));
        let (old, new) = (format!("{all:#?}"), format!("{next:#?}"));
        for cut in 150..400 {
            let (old, new) = (Tree::parse(&old[..cut], true), Tree::parse(&new[..cut], true));
            for (old, new, expected) in
                [(&old, &new, "n01.term: 1 -> 20000"), (&new, &old, "n01.term: 20000 -> 1")]
            {
                let mut lines = Vec::new();
                diff(old, new, &mut |line| lines.push(line()));
                assert_eq!(lines, [expected], "cut after {cut} bytes");
            }
        }
        for (old, new) in [(vec![1; 30], vec![1; 29]), (vec![1; 30], vec![1; 31])] {
            let (old, new) = (format!("{old:#?}"), format!("{new:#?}"));
            let mut lines = Vec::new();
            diff(&Tree::parse(&old[..90], true), &Tree::parse(&new, false), &mut |line| lines.push(line()));
            assert_eq!(lines, [""; 0]);
        }
    }
}
