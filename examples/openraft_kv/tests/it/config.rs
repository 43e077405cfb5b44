//! Flags, the YAML file, and invalid values.

use std::path::PathBuf;
use std::time::Duration;

use openraft_kv::{NodeConfig, NodeFlags};
use tempfile::TempDir;

fn minimal() -> NodeFlags {
    NodeFlags { id: Some(1), data_dir: Some("data".into()), ..NodeFlags::default() }
}

fn with_yaml(flags: NodeFlags, yaml: &str) -> Result<NodeConfig, String> {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("node.yaml");
    std::fs::write(&file, yaml).unwrap();
    let flags = NodeFlags { config: Some(file), ..flags };
    let flags = flags.with_file().map_err(|e| e.to_string())?;
    NodeConfig::try_from(flags).map_err(|e| e.to_string())
}

#[test]
fn every_flag_can_come_from_the_file_and_a_flag_overrides_it() {
    let yaml = "
id: 3
cluster: yaml-cluster
data_dir: /var/lib/kv
listen: 127.0.0.1:4100
public_addr: kv.example:4100
heartbeat_ms: 20
election_min_ms: 90
election_max_ms: 120
request_timeout_ms: 700
snapshot_after: 50
keep_log: 5
";
    let from_file = with_yaml(NodeFlags::default(), yaml).unwrap();
    let expected = NodeConfig {
        id: 3,
        cluster: "yaml-cluster".to_owned(),
        data_dir: PathBuf::from("/var/lib/kv"),
        listen: "127.0.0.1:4100".to_owned(),
        public_addr: Some("kv.example:4100".to_owned()),
        heartbeat: Duration::from_millis(20),
        election_min: Duration::from_millis(90),
        election_max: Duration::from_millis(120),
        request_timeout: Duration::from_millis(700),
        snapshot_after: 50,
        keep_log: 5,
    };
    assert_eq!(from_file, expected);

    let flags = NodeFlags { id: Some(4), listen: Some("127.0.0.1:0".to_owned()), ..NodeFlags::default() };
    let both = with_yaml(flags, yaml).unwrap();
    assert_eq!((both.id, both.listen.as_str()), (4, "127.0.0.1:0"));
    assert_eq!(both.cluster, "yaml-cluster");
}

#[test]
fn an_invalid_value_names_its_flag() {
    // YAML beside a complete set of flags; what the error names
    let cases = [
        ("heartbeat_ms: 0", "--heartbeat-ms"),
        ("heartbeat_ms: 3600001", "--heartbeat-ms"),
        ("heartbeat_ms: 300", "--election-min-ms"),
        ("election_min_ms: 600", "--election-max-ms"),
        ("request_timeout_ms: 0", "--request-timeout-ms"),
        ("snapshot_after: 0", "--snapshot-after"),
        ("cluster: ''", "--cluster"),
        ("cluster: 'two words'", "--cluster"),
        ("public_addr: nowhere", "--public-addr"),
        ("public_addr: 'nowhere:0'", "--public-addr"),
        ("heartbeat_ms: fast", "fast"),
        ("heartbeat_ms: -5", "node.yaml"),
        ("- a list", "node.yaml"),
        ("config: other.yaml", "config"),
        ("id: 1\nid: 2", "id"),
    ];
    for (yaml, named) in cases {
        let error = with_yaml(minimal(), yaml).unwrap_err();
        assert!(error.contains(named), "{yaml}: {error}");
    }
    let none = NodeConfig::try_from(NodeFlags::default()).unwrap_err();
    assert!(none.to_string().contains("--id"), "{none}");
    let flags = NodeFlags { data_dir: None, ..minimal() };
    let error = NodeConfig::try_from(flags).unwrap_err().to_string();
    assert!(error.contains("--data-dir") && error.contains("data_dir:"), "{error}");
    let flags = NodeFlags { id: Some(0), ..minimal() };
    let error = NodeConfig::try_from(flags).unwrap_err().to_string();
    assert!(error.contains("--id"), "{error}");
}

#[test]
fn an_empty_file_sets_nothing() {
    assert_eq!(with_yaml(minimal(), "# nothing\n").unwrap(), NodeConfig::try_from(minimal()).unwrap());
}

#[test]
fn a_number_can_come_from_a_name() {
    let named = |name: &str| NodeFlags { id: None, id_from_name: Some(name.to_owned()), ..minimal() };
    let id =
        |flags: NodeFlags| NodeConfig::try_from(flags).map(|config| config.id).map_err(|e| e.to_string());
    assert_eq!(id(named("openraft-kv-0")), Ok(1));
    assert_eq!(id(named("kv-11")), Ok(12));
    for name in ["kv", "kv-", "kv-x", "7", &format!("kv-{}", u64::MAX)] {
        let error = id(named(name)).unwrap_err();
        assert!(error.starts_with("--id-from-name: ") && error.contains("such as kv-0"), "{error}");
    }
    let both = NodeFlags { id: Some(3), ..named("kv-0") };
    assert_eq!(id(both), Err("--id-from-name: give this or --id, not both".to_owned()));

    // A flag overrides the file, also with the other of the two.
    assert_eq!(with_yaml(named("kv-4"), "id: 9").unwrap().id, 5);
    assert_eq!(with_yaml(minimal(), "id_from_name: kv-4").unwrap().id, 1);
    assert_eq!(with_yaml(NodeFlags { id: None, ..minimal() }, "id_from_name: kv-4").unwrap().id, 5);
}
