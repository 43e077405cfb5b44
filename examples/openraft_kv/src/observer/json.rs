//! The cluster as JSON, for readers that select by path.

use serde_json::{Map, Value, json};

use super::{ClusterView, NodeView, Presence};
use crate::api::node_name;

impl ClusterView {
    /// The view as JSON, with the nodes by their names.
    ///
    /// ```json
    /// {
    ///   "leader": "n2", "term": 4, "applied": 17, "voters": ["n1", "n2", "n3"], "present": 2,
    ///   "nodes": {
    ///     "n1": {"presence": "failing", "role": "leader", "term": 3, "applied": 16, "kv": {"a": "1"}}
    ///   }
    /// }
    /// ```
    ///
    /// The fields of a node are those of its last answer, fresh or not. They are null if it never answered; in a wait,
    /// if it has not answered since the wait's start.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let nodes: Map<_, _> = self.nodes.iter().map(|(name, view)| (name.to_string(), node(view))).collect();
        json!({
            "leader": self.leader.map(|leader| node_name(leader.node_id)),
            "term": self.term,
            "applied": self.applied,
            "voters": self.voters.iter().copied().map(node_name).collect::<Vec<_>>(),
            "present": self.present().count(),
            "nodes": nodes,
        })
    }
}

fn node(view: &NodeView) -> Value {
    let presence = match &view.presence {
        Presence::Unseen => "unseen",
        Presence::Present => "present",
        Presence::Failing(_) => "failing",
        Presence::Stale => "stale",
    };
    let state = view.state.as_deref();
    json!({
        "presence": presence,
        "role": state.map(|state| state.role),
        "term": state.map(|state| state.current_term),
        "applied": state.and_then(|state| state.last_applied_index),
        "kv": state.map(|state| &state.kv),
    })
}
