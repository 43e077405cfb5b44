//! Of whom blocks with their transactions are asked.

use watchkeeper::ObservedSource;
use watchkeeper_chain::adapter::ChainError;
use watchkeeper_chain::{ChainConfig, ChainSource};

use crate::common::{Node, SECOND, Tree, Watched, config, in_words, local, long};

fn asked(node: &Node) -> usize {
    node.script().calls.get("block").copied().unwrap_or_default()
}

/// ```text
/// g - a1 - a2 - a3 - a4     a public node comes first by name
/// ```
#[tokio::test(start_paused = true)]
async fn ours_are_asked_before_the_public_network() {
    let tree = Tree::new("g a1 a2 a3 a4");
    let [public, ours, other] = ["g", "g", "g"].map(|head| tree.node(head));
    let sources = vec![
        ObservedSource::new("a-public", ChainSource::public(public.clone())),
        ObservedSource::new("b-ours", ChainSource::local(ours.clone())),
        ObservedSource::new("c-ours", ChainSource::local(other.clone())),
    ];
    let mut watched = Watched::start(config(), sources).await;
    watched.told().await;
    // All have it: who told it first does not matter, if that is no node of ours.
    for node in [&public, &ours, &other] {
        tree.advance(node, "a1");
    }
    assert_eq!(watched.told().await, ["committed a1"]);
    assert_eq!([asked(&public), asked(&ours) + asked(&other)], [0, 1]);
    tree.advance(&public, "a2");
    assert_eq!(watched.told().await, [""; 0], "the public network does not move our tip");
    tree.advance(&ours, "a2");
    tree.advance(&other, "a2");
    assert_eq!(watched.told().await, ["committed a2"]);
    assert_eq!(asked(&public), 0);
    // Ours do not give it.
    for node in [&public, &ours, &other] {
        let refused = ChainError::Empty { endpoint: "ours".to_owned() };
        node.script().fails.insert("block", refused);
        tree.advance(node, "a3");
    }
    public.script().fails.clear();
    assert_eq!(watched.told().await, ["committed a3"]);
    assert_eq!(asked(&public), 1);
    // Of ours, the one that has it.
    ours.script().fails.clear();
    other.script().fails.clear();
    let before = [asked(&ours), asked(&other)];
    for node in [&public, &other] {
        tree.advance(node, "a4");
    }
    assert_eq!(watched.told().await, ["committed a4"]);
    assert_eq!([asked(&ours), asked(&other)], [before[0], before[1] + 1]);
    assert_eq!(asked(&public), 1);
}

/// Both have each block; the first by name keeps them back, and then gives them again.
#[tokio::test(start_paused = true)]
async fn a_node_that_hangs_on_blocks_holds_up_one_of_them_for_a_cycle() {
    let tree = Tree::new(&long("a", 20));
    let (n1, n2) = (tree.node("g"), tree.node("g"));
    let mut watched = Watched::start(config(), local(&[("n1", &n1), ("n2", &n2)])).await;
    watched.told().await;
    n1.script().hangs.push("block");
    for height in 1..=12 {
        for node in [&n1, &n2] {
            tree.advance(node, &format!("a{height}"));
        }
        let at_once = watched.told().await;
        tokio::time::sleep(SECOND).await;
        let late: Vec<String> = watched.heard().iter().map(in_words).collect();
        let told = [format!("committed a{height}")];
        assert_eq!(
            (at_once, late),
            if height == 1 { (vec![], told.to_vec()) } else { (told.to_vec(), vec![]) }
        );
    }
    assert_eq!(asked(&n1), 1);
    n1.script().hangs.clear();
    n2.script().hangs.push("block");
    for node in [&n1, &n2] {
        tree.advance(node, "a13");
    }
    watched.told().await;
    assert_eq!(watched.told().await, ["committed a13"], "it is asked when the other one hangs");
    for node in [&n1, &n2] {
        tree.advance(node, "a14");
    }
    assert_eq!(watched.told().await, ["committed a14"], "and believed to give what it is asked for");
}

/// What does not fit on the one that hangs is asked of the other, in the same cycle.
#[tokio::test(start_paused = true)]
async fn a_node_with_enough_to_do_is_passed_over() {
    let tree = Tree::new(&long("a", 20));
    let (n1, n2) = (tree.node("g"), tree.node("g"));
    let config = ChainConfig { requests_per_node: 2, ..config() };
    let mut watched = Watched::start(config, local(&[("n1", &n1), ("n2", &n2)])).await;
    watched.told().await;
    n1.script().hangs.push("block");
    for node in [&n1, &n2] {
        tree.advance(node, "a20");
    }
    watched.told().await;
    assert_eq!([asked(&n1), asked(&n2)], [2, 18]);
    assert_eq!(watched.told().await.join(" ").split(' ').count(), 21, "all are there, after one cycle more");
}

/// As long as ours answer, they are waited for, and not what a public node says in their place.
#[tokio::test(start_paused = true)]
async fn ours_with_enough_to_do_are_waited_for_before_the_public_network_is_asked() {
    let tree = Tree::new(&long("a", 20));
    let (ours, other) = (tree.node("g"), tree.node("g"));
    let mut sources = local(&[("z", &ours)]);
    sources.push(ObservedSource::new("p", ChainSource::public(other.clone())));
    let config = ChainConfig { requests_per_node: 2, ..config() };
    let mut watched = Watched::start(config, sources).await;
    watched.told().await;
    for node in [&ours, &other] {
        node.script().latency = SECOND / 100;
        tree.advance(node, "a10");
    }
    assert_eq!(watched.told().await.join(" ").split(' ').count(), 11, "all are told");
    assert_eq!([asked(&ours), asked(&other)], [10, 0]);
    ours.script().hangs.push("block");
    for node in [&ours, &other] {
        tree.advance(node, "a20");
    }
    watched.told().await;
    assert_eq!([asked(&ours), asked(&other)], [12, 0]);
    assert_eq!(watched.told().await.join(" ").split(' ').count(), 11, "they are had of the other");
    assert_eq!([asked(&ours), asked(&other)], [12, 10]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_refuses_blocks_is_not_asked_first_again() {
    let tree = Tree::new(&long("a", 6));
    let (n1, n2) = (tree.node("g"), tree.node("g"));
    let mut watched = Watched::start(config(), local(&[("n1", &n1), ("n2", &n2)])).await;
    watched.told().await;
    let refused = ChainError::Empty { endpoint: "n1".to_owned() };
    n1.script().fails.insert("block", refused);
    for height in 1..=6 {
        for node in [&n1, &n2] {
            tree.advance(node, &format!("a{height}"));
        }
        assert_eq!(watched.told().await, [format!("committed a{height}")]);
    }
    assert_eq!([asked(&n1), asked(&n2)], [1, 6]);
}
