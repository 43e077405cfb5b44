//! The cluster that both halves read.

use std::io;
use std::sync::{Arc, Mutex};

/// A node that returns the leader that it follows; the last one is down.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    follows: Arc<Mutex<Option<String>>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodeState {
    pub(crate) leader: Option<String>,
}

impl Node {
    pub(crate) fn three(leader: &str) -> Vec<Self> {
        let node = |name: &str| Self {
            name: name.to_owned(),
            follows: Arc::new(Mutex::new((name != "n3").then(|| leader.to_owned()))),
        };
        ["n1", "n2", "n3"].map(node).to_vec()
    }

    pub(crate) fn elect(nodes: &[Self], leader: &str) {
        for node in nodes {
            if let Some(follows) = &mut *node.follows.lock().unwrap() {
                leader.clone_into(follows);
            }
        }
    }

    pub(crate) async fn state(&self) -> io::Result<NodeState> {
        tokio::task::yield_now().await;
        match &*self.follows.lock().unwrap() {
            Some(leader) => Ok(NodeState { leader: Some(leader.clone()) }),
            None => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }
}

/// The leader that more than half of the nodes have named.
pub(crate) fn agreed(named: &[String], nodes: usize) -> Option<&String> {
    named.iter().find(|leader| named.iter().filter(|other| other == leader).count() > nodes / 2)
}
