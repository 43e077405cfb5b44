//! Of whom blocks with their transactions are asked.

use watchkeeper::ObservedSource;
use watchkeeper_chain::ChainSource;
use watchkeeper_chain::adapter::ChainError;

use crate::common::{Node, Tree, Watched, config};

fn asked(node: &Node) -> usize {
    node.script().calls.get("block").copied().unwrap_or_default()
}

/// ```text
/// g - a1 - a2 - a3 - a4     told first by a public node, and the same by name: a public one comes first
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
    // Nobody else has it.
    tree.advance(&public, "a2");
    assert_eq!(watched.told().await, ["committed a2"]);
    assert_eq!(asked(&public), 1);
    // Ours do not give it.
    for node in [&public, &ours, &other] {
        let refused = ChainError::Empty { endpoint: "ours".to_owned() };
        node.script().fails.insert("block", refused);
        tree.advance(node, "a3");
    }
    public.script().fails.clear();
    assert_eq!(watched.told().await, ["committed a3"]);
    assert_eq!(asked(&public), 2);
    // Of ours, the one that has it.
    ours.script().fails.clear();
    other.script().fails.clear();
    let before = [asked(&ours), asked(&other)];
    for node in [&public, &other] {
        tree.advance(node, "a4");
    }
    assert_eq!(watched.told().await, ["committed a4"]);
    assert_eq!([asked(&ours), asked(&other)], [before[0], before[1] + 1]);
    assert_eq!(asked(&public), 2);
}
