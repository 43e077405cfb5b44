//! Members of etcd: how they are started, asked and observed.

use std::{collections::HashSet, process::Command, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};
use watchkeeper::{DynError, ObservationHandle, PerSource, async_trait, per_source::PerSourceSnapshot};
use watchkeeper_deploy::{NodeAccess, NodeAddress, local::LocalNode, local::NodeProgram};
use watchkeeper_scenario::Application;

/// How often each member is asked, and how long a wait lasts.
pub(crate) const EVERY: Duration = Duration::from_millis(100);
pub(crate) const WINDOW: Duration = Duration::from_secs(20);
/// The observer, and what it shows: what each member says of itself.
pub(crate) type Members = PerSource<String, Value>;
pub(crate) type Seen = PerSourceSnapshot<Value>;

pub(crate) struct Etcd;

impl Application for Etcd {
    type Deployment = u64;
    type NodeClient = String;
}

/// Asks the JSON gateway of a member.
async fn post(at: &str, path: &str, body: Value) -> Result<Value, DynError> {
    let ask = ureq::post(format!("http://{at}/v3/{path}")).config().timeout_global(Some(EVERY * 10)).build();
    Ok(tokio::task::spawn_blocking(move || ask.send_json(body)?.body_mut().read_json()).await??)
}

pub(crate) async fn put(at: &str, key: &str, value: &str) -> Result<(), DynError> {
    post(at, "kv/put", json!({ "key": BASE64.encode(key), "value": BASE64.encode(value) })).await.map(drop)
}

/// The ids of the member and of the leader it knows; the revision and hash of its store.
pub(crate) async fn status(member: &str) -> Result<Value, DynError> {
    let at = post(member, "maintenance/status", json!({})).await?;
    let store = post(member, "maintenance/hash", json!({})).await?;
    Ok(json!({ "id": at["header"]["member_id"], "leader": at["leader"], "term": at["raftTerm"],
               "revision": store["header"]["revision"], "hash": store["hash"] }))
}

#[async_trait]
impl NodeAccess<Etcd> for Etcd {
    fn client(&self, at: &NodeAddress) -> Result<String, DynError> {
        Ok(at.port("client").ok_or("no port")?.to_owned())
    }

    async fn probe(&self, member: &String) -> Result<(), DynError> {
        if status(member).await?["leader"].is_null() { Err("it knows no leader".into()) } else { Ok(()) }
    }
}

impl NodeProgram<Etcd> for Etcd {
    fn nodes(&self, members: &u64) -> u64 {
        *members
    }

    fn ports(&self) -> &[&str] {
        &["client", "peer"]
    }

    fn command(&self, node: &LocalNode<'_>, _: &u64) -> Result<Command, DynError> {
        let url = |at: &NodeAddress, port| format!("http://{}", at.port(port).unwrap_or_default());
        let peer = |at: &NodeAddress| format!("{}={}", at.node, url(at, "peer"));
        let peers = node.all.iter().map(peer).collect::<Vec<_>>().join(",");
        let mut command = Command::new(std::env::var_os("ETCD").unwrap_or_else(|| "etcd".into()));
        command.arg("--data-dir").arg(node.data).args(["--name", &node.at.node]);
        command.args(["--initial-cluster", &peers, "--initial-cluster-token", &node.at.cluster]);
        let (client, peer) = (url(node.at, "client"), url(node.at, "peer"));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        Ok(command)
    }
}

/// The name of the leader, once it is not `killed` and all that answer know it.
pub(crate) async fn leads(etcd: &ObservationHandle<Members>, killed: &str) -> Result<String, DynError> {
    let another = |seen: &Seen| {
        let (name, leader) = seen.answering().find(|(_, at)| at["leader"] == at["id"])?;
        let is_known = seen.answering().all(|(_, at)| at["leader"] == leader["id"]);
        (is_known && **name != *killed).then(|| name.to_string())
    };
    Ok(etcd.eventually_some("another member leads", another).within(WINDOW).await?)
}

/// Whether all members answer, with one leader, one revision and one hash.
pub(crate) fn agree(seen: &Seen) -> bool {
    let store = |at: &Value| [&at["leader"], &at["revision"], &at["hash"]].map(Value::to_string);
    let stores: HashSet<[String; 3]> = seen.answering().map(|(_, at)| store(at)).collect();
    stores.len() == 1 && seen.answering().count() == seen.len()
}

pub(crate) fn one_leader_a_term(seen: &Seen) -> bool {
    let mut terms = HashSet::new();
    let mut leaders = seen.answering().filter(|(_, at)| at["leader"] == at["id"]);
    leaders.all(|(_, at)| terms.insert(at["term"].to_string()))
}
