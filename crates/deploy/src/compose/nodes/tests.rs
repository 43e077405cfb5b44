//! Which containers are nodes, and where they are.

use bollard::models::{ContainerSummaryHostConfig, ContainerSummaryNetworkSettings, EndpointSettings};

use super::*;
use crate::app::{Counter, Counting};

fn container(name: &str, ip: Option<&str>) -> ContainerSummary {
    let labels = [(NODE_LABEL, name), (PORT_LABEL, "4000")];
    let endpoint = EndpointSettings { ip_address: ip.map(str::to_owned), ..EndpointSettings::default() };
    ContainerSummary {
        labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
        network_settings: Some(ContainerSummaryNetworkSettings {
            networks: Some(HashMap::from([("raft".to_owned(), endpoint)])),
        }),
        ..ContainerSummary::default()
    }
}

fn nodes() -> ContainerNodes<Counting> {
    // Nothing is sent there.
    let docker = Docker::connect_with_host("tcp://127.0.0.1:1").unwrap();
    ContainerNodes::new(docker, "cluster", Arc::new(Counting))
}

fn node(nodes: &ContainerNodes<Counting>, container: &ContainerSummary) -> Option<Counter> {
    nodes.node("n2", container).unwrap()
}

#[test]
fn a_container_that_is_down_keeps_its_last_address() {
    let nodes = nodes();
    for down in [None, Some("")] {
        assert!(node(&nodes, &container("n2", down)).is_none(), "it never had an address");
    }
    let up = node(&nodes, &container("n2", Some("172.18.0.3"))).unwrap();
    assert_eq!((up.addr(), up.at.number, up.at.cluster.as_str()), ("172.18.0.3:4000", 2, "cluster"));
    nodes.clients.insert("n2", up);
    for down in [None, Some("")] {
        assert_eq!(node(&nodes, &container("n2", down)).unwrap().addr(), "172.18.0.3:4000");
    }
    let moved = node(&nodes, &container("n2", Some("172.18.0.5"))).unwrap();
    assert_eq!(moved.addr(), "172.18.0.5:4000");
}

#[test]
fn each_port_has_its_name_and_a_node_the_number_at_the_end_of_its_name() {
    let mut peered = container("n2", Some("172.18.0.3"));
    let labels = peered.labels.as_mut().unwrap();
    labels.insert(format!("{PORT_LABEL}.peer"), "2380".to_owned());
    labels.insert(format!("{PORT_LABEL}s"), "1".to_owned());
    let at = node(&nodes(), &peered).unwrap().at;
    assert_eq!((at.port("client"), at.port("peer")), (Some("172.18.0.3:4000"), Some("172.18.0.3:2380")));
    assert_eq!(at.ports.len(), 2);
    assert_eq!(["n12", "etcd-3", "leader", "7", "n99999999999999999999"].map(number), [12, 3, 0, 7, 0]);
}

/// Every observer failed from then on: two sources had one name.
#[test]
fn of_two_containers_with_one_label_the_first_stays_the_node_and_both_are_named() {
    let nodes = nodes();
    let of = |name: &str, id: &str, created: i64, ip: &str| ContainerSummary {
        id: Some(id.to_owned()),
        created: Some(created),
        ..container(name, Some(ip))
    };
    let (n1, n2) = (of("n1", "aaa", 5, "172.18.0.2"), of("n2", "bbb", 6, "172.18.0.3"));
    let mut known = KnownNodes::new();
    nodes.take_in(&mut known, &[n1.clone(), n2.clone()]);
    assert!(nodes.problem().is_none());

    // Also an older one does not take the place of the one that is known.
    let again = of("n1", "ccc", 4, "172.18.0.9");
    nodes.take_in(&mut known, &[again.clone(), n1, n2.clone()]);
    assert_eq!(nodes.clients().names(), ["n1", "n2"]);
    assert_eq!(nodes.clients().get("n1").unwrap().addr(), "172.18.0.2:4000");
    let problem = format!("{:?}", nodes.problem().unwrap());
    assert!(
        problem.contains(
            "the containers aaa and ccc are both labelled watchkeeper.node=n1, and ccc is left out"
        ),
        "{problem}"
    );

    nodes.take_in(&mut known, &[again, n2]);
    assert_eq!(nodes.clients().get("n1").unwrap().addr(), "172.18.0.9:4000");
    assert!(nodes.problem().is_none());
}

#[test]
fn a_network_that_is_shared_is_found_from_both_sides() {
    let of = |id: &str, mode: &str| ContainerSummary {
        id: Some(id.to_owned()),
        host_config: Some(ContainerSummaryHostConfig {
            network_mode: Some(mode.to_owned()),
            ..ContainerSummaryHostConfig::default()
        }),
        ..ContainerSummary::default()
    };
    let all = [of("aaa", "kv_raft"), of("bbb", "container:aaa"), of("ccc", "kv_raft"), of("ddd", "host")];
    let with = |id: &str| sharer(id, &all);
    assert!(with("aaa").is_some_and(|text| text.contains("the container bbb")));
    assert!(with("bbb").is_some_and(|text| text.contains("the container aaa")));
    assert!(with("ddd").is_some_and(|text| text.contains("network_mode: host")));
    assert_eq!((with("ccc"), with("eee")), (None, None));
}

/// Only full ids were compared: a node that was named in another way was cut off with all that shared its network.
#[test]
fn a_network_that_is_shared_is_found_by_name_and_by_the_beginning_of_an_id() {
    let of = |id: &str, name: &str, mode: &str| ContainerSummary {
        id: Some(id.to_owned()),
        names: Some(vec![format!("/{name}")]),
        host_config: Some(ContainerSummaryHostConfig {
            network_mode: Some(mode.to_owned()),
            ..ContainerSummaryHostConfig::default()
        }),
        ..ContainerSummary::default()
    };
    for word in ["kv-n1-1", "aaa111", "aaa1", "a"] {
        let all = [
            of("aaa111", "kv-n1-1", "kv_raft"),
            of("bbb222", "debug", &format!("container:{word}")),
            of("ccc333", "kv-n3-1", "kv_raft"),
        ];
        let with = |id: &str| sharer(id, &all).unwrap_or_default();
        assert!(with("aaa111").contains("the container bbb222"), "{word}: {}", with("aaa111"));
        assert!(with("bbb222").contains("the container aaa111"), "{word}: {}", with("bbb222"));
        assert_eq!(with("ccc333"), "", "{word}");
    }
    // A name comes before the beginning of an id, and an empty word is the beginning of none.
    let all = [
        of("aaa111", "kv-n1-1", "kv_raft"),
        of("bbb222", "aaa1", "kv_raft"),
        of("ccc333", "debug", "container:aaa1"),
    ];
    assert!(sharer("aaa111", &all).is_none() && sharer("bbb222", &all).is_some());
    let all = [of("aaa111", "kv-n1-1", "kv_raft"), of("bbb222", "debug", "container:")];
    assert!(sharer("aaa111", &all).is_none());
}

#[test]
fn a_container_without_the_labels_is_no_node() {
    let nodes = nodes();
    let mut without_port = container("n1", Some("172.18.0.2"));
    without_port.labels.as_mut().unwrap().remove(PORT_LABEL);
    nodes.take_in(&mut KnownNodes::new(), &[ContainerSummary::default(), without_port]);
    assert!(nodes.clients().names().is_empty());
    let problem = format!("{:?}", nodes.problem().unwrap());
    assert!(problem.contains("no client can be made of the node n1 at {}"), "{problem}");
    assert!(problem.contains("labels") && problem.contains("no port called client"), "{problem}");
}

/// It would have ended the task that follows the containers.
#[test]
fn a_panic_of_the_application_is_a_problem_of_that_node() {
    let mut nodes = nodes();
    nodes.cluster = "panics".into();
    nodes.take_in(&mut KnownNodes::new(), &[container("n1", Some("172.18.0.2"))]);
    assert!(nodes.clients().names().is_empty());
    let problem = format!("{:?}", nodes.problem().unwrap());
    assert!(problem.contains("node n1") && problem.contains("no client of this cluster"), "{problem}");
}
