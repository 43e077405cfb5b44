//! The graph alone: which headers it accepts, what it answers, how it is drawn.

use watchkeeper_chain::{ForkList, Graph, Header, InsertError, Inserted, OnBranch, Path};

use crate::common::{Tree, branch, hash, long, name};

const FORKS: &str = "g a1 a2 a3 a4\na1 b2 b3\na3 c4 c5";

fn graph(tree: &Tree, order: &str) -> Graph {
    let mut names = order.split_whitespace();
    let mut graph = Graph::new(tree.header(names.next().unwrap()));
    for name in names {
        assert_eq!(graph.insert(tree.header(name)), Ok(Inserted::New), "{name}");
    }
    graph
}

fn names(headers: &[Header]) -> String {
    headers.iter().map(|header| name(header.hash)).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_contradicting_header_is_refused_and_changes_nothing() {
    let tree = Tree::new("r g a1 a2");
    let mut graph = graph(&tree, "g a1");
    let a2 = tree.header("a2");
    let cases = [
        (Header { parent: hash("x"), ..a2 }, "its parent 78000000 is not known"),
        (Header { height: 7, ..a2 }, "claims height 7; above its parent there is only 3"),
        (Header { work: u128::MAX, ..a2 }, "heavier than can be counted"),
        (Header { work: 2, ..tree.header("a1") }, "61310000 is at 2 and is now reported with another"),
        (Header { hash: hash("x"), ..tree.header("g") }, "is not above the root at 1"),
        (tree.header("r"), "is not above the root at 1"),
    ];
    for (header, fault) in cases {
        let error = graph.insert(header).unwrap_err();
        assert!(error.to_string().contains(fault), "{error}");
        assert_eq!(graph.len(), 2);
    }
    assert_eq!(graph.insert(tree.header("a1")), Ok(Inserted::Known));
    assert_eq!(graph.insert(tree.header("g")), Ok(Inserted::Known));
    let missing = InsertError::MissingParent { hash: hash("a3"), height: 4, parent: hash("a2") };
    let a3 = Header { hash: hash("a3"), parent: hash("a2"), height: 4, work: 1, time: 0 };
    assert_eq!(graph.insert(a3), Err(missing));
    assert_eq!(graph.insert(a2), Ok(Inserted::New));
    assert_eq!(graph.insert(a3), Ok(Inserted::New));
}

/// ```text
/// g - a1 - a2 - a3 - a4
///       \         \
///        \          c4 - c5
///          b2 - b3
/// ```
#[test]
fn branches_are_distinguished() {
    let tree = Tree::new(FORKS);
    let graph = graph(&tree, "g a1 a2 b2 a3 b3 a4 c4 c5");
    let path = graph.path(&hash("a4"), &hash("b3")).unwrap();
    assert_eq!((names(&path.left), names(&path.joined)), ("a4 a3 a2".to_owned(), "b2 b3".to_owned()));
    assert_eq!(name(path.ancestor.hash), "a1");
    let meet = |a, b| graph.common_ancestor(&hash(a), &hash(b)).map(|block| name(block.hash));
    let cases =
        [("a4", "c5", "a3"), ("c5", "b3", "a1"), ("a2", "a4", "a2"), ("g", "c5", "g"), ("a4", "a4", "a4")];
    for (a, b, shared) in cases {
        assert_eq!(meet(a, b).as_deref(), Some(shared), "{a} {b}");
        assert_eq!(meet(b, a).as_deref(), Some(shared), "{b} {a}");
    }
    assert_eq!(graph.distance(&hash("a4"), &hash("b3")), Some(5));
    assert_eq!(graph.distance(&hash("a4"), &hash("x")), None);
    let on_branch = [
        ("a2", "c5", OnBranch::Yes),
        ("c5", "c5", OnBranch::Yes),
        ("c5", "c4", OnBranch::No),
        ("b2", "c5", OnBranch::No),
        ("x", "c5", OnBranch::Unknown),
        ("a2", "x", OnBranch::Unknown),
    ];
    for (block, tip, answer) in on_branch {
        assert_eq!(graph.is_on_branch(&hash(block), &hash(tip)), answer, "{block} {tip}");
    }
    let at = |height| graph.ancestor_at(&hash("c5"), height).map(|block| name(block.hash));
    assert_eq!([0, 3, 5, 6].map(at), [Some("g".into()), Some("a3".into()), Some("c5".into()), None]);
    let branches: Vec<String> = graph
        .branches_above(3)
        .iter()
        .map(|branch| format!("{} from {}", name(branch.tip.hash), name(branch.fork.hash)))
        .collect();
    assert_eq!(branches, ["a4 from g", "c5 from a3"]);
    assert_eq!(graph.branches_above(2).len(), 3);
    let first_seen = |block| graph.first_seen(&hash(block));
    assert!(first_seen("b2") < first_seen("a3"));
    let majority = |heads: &[&str]| {
        let heads: Vec<_> = heads.iter().map(|head| hash(head)).collect();
        graph.majority(&heads).map(|block| name(block.hash))
    };
    assert_eq!(majority(&["a4", "c5", "b3"]).as_deref(), Some("a3"));
    assert_eq!(majority(&["a4", "c5", "c4"]).as_deref(), Some("c4"));
    assert_eq!(majority(&["a4", "b3"]).as_deref(), Some("a1"));
    assert_eq!(majority(&["a4", "x"]), None);
    assert_eq!(majority(&[]), None);
}

#[test]
fn branches_are_drawn() {
    let tree = Tree::new(FORKS);
    let graph = graph(&tree, "g a1 a2 b2 a3 b3 a4 c4 c5");
    let expected = "  5  *      63350000
  4  * *    63340000 61340000
  3  *-' *  61330000 62330000
  2  *   *  61320000 62320000
  1  *---'  61310000
  0  *      67000000
";
    assert_eq!(graph.draw(&hash("c5"), 0), expected);
    assert_eq!(graph.draw(&hash("a2"), 4), "  5    *  63350000\n  4    *  63340000\n");
    assert_eq!(graph.draw(&hash("x"), 0), "");
}

#[test]
fn blocks_far_from_a_fork_are_drawn_as_a_number() {
    let mut tree = Tree::new(&long("a", 1_000));
    tree.line(&branch("a500", "b", 501..=502));
    let mut graph = Graph::new(tree.header("g"));
    for name in (1..=1_000).map(|height| format!("a{height}")).chain(["b501".into(), "b502".into()]) {
        graph.insert(tree.header(&name)).unwrap();
    }
    let drawn = graph.draw(&hash("b502"), 100);
    let shape: Vec<&str> = drawn.lines().map(|line| line.get(..10).unwrap_or(line).trim_end()).collect();
    let expected = "1000    *
 999    *
 998    *
 997    *
        :
 505    *
 504    *
 503    *
 502  * *
 501  * *
 500  *-'
 499  *
 498  *
 497  *
      :
 103  *
 102  *
 101  *
 100  *";
    assert_eq!(shape.join("\n"), expected);
    let between: Vec<&str> = drawn.lines().filter(|line| line.ends_with(" more")).collect();
    assert_eq!(between, ["        :  491 more", "      :    393 more"]);
    // A single height is drawn as it is: a number would take a line too.
    let drawn = graph.draw(&hash("a1000"), 992);
    assert_eq!(drawn.lines().count(), 9);
}

/// ```text
/// g - a1 - a2 - a3 - a4
///       |    |    `- c4 - c5
///       |    `- the new root
///       `- b2 - b3
/// ```
#[test]
fn below_the_boundary_only_the_boundary_is_kept() {
    let tree = Tree::new(FORKS);
    let mut graph = graph(&tree, "g a1 a2 b2 a3 b3 a4 c4 c5");
    let before = graph.clone();
    assert_eq!(graph.prune(&hash("a2")), Ok(4));
    assert_eq!((graph.root(), graph.len()), (tree.header("a2"), 5));
    for gone in ["g", "a1", "b2", "b3"] {
        assert_eq!(graph.get(&hash(gone)), None);
        assert_eq!(graph.is_on_branch(&hash(gone), &hash("a4")), OnBranch::Unknown);
        assert_eq!(before.get(&hash(gone)), Some(tree.header(gone)), "a clone keeps what it had");
    }
    assert_eq!(graph.tips().count(), 2);
    assert_eq!(names(&graph.path(&hash("a4"), &hash("c5")).unwrap().joined), "c4 c5");
    assert_eq!(graph.total_work(&hash("c5")), before.total_work(&hash("c5")), "weights stay");
    assert!(matches!(graph.insert(tree.header("b2")), Err(InsertError::BelowRoot { .. })));
    assert!(matches!(graph.insert(tree.header("b3")), Err(InsertError::MissingParent { .. })));
    assert!(graph.prune(&hash("b2")).is_err());
    assert_eq!(graph.prune(&hash("a2")), Ok(0));
}

/// ```text
/// g - a1 - a2 - a3 - a4
///       \         \
///        \          c4 - c5
///          b2 - b3
/// ```
#[test]
fn forks_are_seen_from_a_tip() {
    let tree = Tree::new(FORKS);
    let graph = graph(&tree, "g a1 a2 b2 a3 b3 a4 c4 c5");
    let shown = |tip: &str, height, most| -> Vec<String> {
        let forks = graph.forks(&hash(tip), height, most).forks.into_iter().map(|fork| {
            let Path { ancestor, left, joined } = &fork.path;
            assert_eq!(fork.distance, (left.len() + joined.len()) as u64);
            let [above, left, joined] = [&[*ancestor][..], left, joined].map(names);
            format!(
                "{} at {above}: {left} to {joined}, {}:{}",
                name(fork.tip.hash),
                fork.weight,
                fork.weight_of_tip
            )
        });
        forks.collect()
    };
    let others = ["b3 at a1: c5 c4 a3 a2 to b2 b3, 2:4", "a4 at a3: c5 c4 to a4, 1:2"];
    assert_eq!(shown("c5", 0, 9), others);
    assert_eq!(shown("c5", 3, 9), others[1..], "b3 is not above");
    assert_eq!(shown("c5", 0, 2), others, "that of the tip is not counted");
    assert_eq!(shown("c5", 0, 1), others[1..], "b3 is the lowest");
    assert_eq!(shown("a4", 0, 9), ["b3 at a1: a4 a3 a2 to b2 b3, 2:3", "c5 at a3: a4 to c4 c5, 2:1"]);
    // Both branches above a3 go on there.
    assert_eq!(shown("a3", 0, 9), ["b3 at a1: a3 a2 to b2 b3, 2:2"]);
    assert_eq!(shown("x", 0, 9), [""; 0]);
}

/// All blocks above `a1` are tips of one height: the list was empty.
#[test]
fn of_more_forks_than_are_asked_for_the_first_are_listed_and_the_others_counted() {
    let beside: Vec<String> = (0..70).map(|nth| format!("x{nth}")).collect();
    let drawing = beside.iter().fold("g a1 a2".to_owned(), |drawing, block| format!("{drawing}\na1 {block}"));
    let tree = Tree::new(&drawing);
    let graph = graph(&tree, &format!("g a1 a2 {}", beside.join(" ")));
    let shown = |tip: &str, most: usize| {
        let ForkList { forks, left_out } = graph.forks(&hash(tip), 0, most);
        (forks.iter().map(|fork| name(fork.tip.hash)).collect::<Vec<_>>(), left_out)
    };
    assert_eq!(shown("a2", 64), (beside[..64].to_vec(), 6));
    assert_eq!(shown("a2", 70), (beside.clone(), 0));
    assert_eq!(shown("a2", 0), (Vec::new(), 70));
    // From the side of one of them the first branch is beside it.
    let others = [&["a2".to_owned()][..], &beside[1..]].concat();
    assert_eq!(shown("x0", 99), (others, 0));
    assert_eq!(shown("unknown", 64), (Vec::new(), 0));
}
