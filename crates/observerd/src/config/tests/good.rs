//! What is read.

use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;

use super::super::{Auth, Config, DurabilityName, keys, parse, ranges};
use super::env;

const EXAMPLE: &str = include_str!("../../../observerd.toml");

fn read(text: &str) -> Config {
    match parse(text, &env) {
        Ok(config) => config,
        Err(findings) => panic!("{findings:?}"),
    }
}

#[test]
fn the_example_has_each_key_with_its_default() {
    assert_eq!(read(EXAMPLE), Config::default());
    let table: toml::Table = EXAMPLE.parse().unwrap();
    let given = serde_json::to_value(&table).unwrap();
    assert_eq!(keys::all(&given), keys::all(&keys::schema()));
    assert!(keys::all(&given).len() > 30);
}

#[test]
fn an_empty_text_is_valid() {
    for text in ["", "\u{feff}", "# nothing\n", "[observerd]\n", "\u{feff}[observerd]\n", "\r\n"] {
        assert_eq!(read(text), Config::default(), "{text:?}");
    }
}

#[test]
fn tables_dotted_keys_and_inline_tables_are_the_same() {
    let texts = [
        "[observerd]\nhosts = [\n  \"a.example\", # one\n  'b.example:8443',\n]\n[observerd.limits]\nhead = \"1m 30s\"\n",
        "observerd.hosts = [\"a.example\", \"b.example:8443\"]\nobserverd.limits.head = \"90s\"\n",
        "observerd = { hosts = [\"a.example\", \"b.example:8443\"], limits = { head = \"90s\" } }\n",
        "\u{feff}[observerd]\r\nhosts = [\"a.example\", \"b.example:8443\"]\r\nlimits.head = '90s'\r\n",
    ];
    for text in texts {
        let config = read(text);
        assert_eq!(config.observerd.hosts, ["a.example", "b.example:8443"], "{text}");
        assert_eq!(config.observerd.limits.head, Duration::from_secs(90), "{text}");
    }
}

#[test]
fn variables_are_replaced_in_strings_alone() {
    let config = read(
        "[observerd]\n# ${NOBODY} is no string\npersist_path = \"${DATA}/journal\"\nhosts = [\"h${NUMBER}.example\"]\n\
         token_file = '$${DATA}/$$${DATA}/$'\nescalation.webhook = \"http://127.0.0.1/${NESTED}${SECRET}\"\n",
    );
    assert_eq!(config.observerd.persist_path, PathBuf::from("/var/lib/witness/journal"));
    assert_eq!(config.observerd.hosts, ["h12.example"]);
    // A second `$` before it takes the first one's place, and what a variable has is not replaced again.
    assert_eq!(config.observerd.token_file, PathBuf::from("${DATA}/$${DATA}/$"));
    assert_eq!(config.observerd.escalation.webhook, "http://127.0.0.1/${SECRET}hunter2");
}

#[test]
fn names_of_values_are_read() {
    let config = read("[observerd]\nauth = \"loopback-open\"\ndurability = \"always\"\nbind = \"[::1]:0\"\n");
    assert_eq!(config.observerd.auth, Auth::LoopbackOpen);
    assert_eq!(config.observerd.durability, DurabilityName::Always);
    assert!(
        read("[observerd]\nauth = \"loopback-open\"\nbind = \"[::ffff:127.0.0.1]:1\"\n")
            .observerd
            .bind
            .is_ipv6()
    );
}

#[test]
fn hosts_networks_and_webhooks_of_each_form_are_read() {
    let hosts = [
        "localhost",
        "a_b.example",
        "EXAMPLE.org.",
        "x:1",
        "127.0.0.1:80",
        "[::1]",
        "[fe80::1]:65535",
        "7.example",
    ];
    let networks = ["127.0.0.1", "10.2.0.0/16", "::1", "fd00::/8", "0.0.0.0/0"];
    for webhook in
        ["http://a", "https://h.example:8443/x?token=y", "http://[::1]:9/", "HTTPS://A.example", ""]
    {
        let text = format!(
            "[observerd]\nhosts = {hosts:?}\noutgoing.allow = {networks:?}\nescalation.webhook = \"{webhook}\"\n"
        );
        let config = read(&text).observerd;
        assert_eq!((config.hosts.len(), config.outgoing.allow.len()), (hosts.len(), networks.len()));
        assert_eq!(config.escalation.webhook, webhook);
    }
}

#[test]
fn each_number_and_each_duration_has_a_range() {
    let schema = keys::schema();
    for key in keys::all(&schema) {
        let value = schema.pointer(&format!("/{}", key.replace('.', "/"))).unwrap();
        let needs = match value {
            Value::Number(_) => true,
            Value::String(text) => !text.is_empty() && humantime::parse_duration(text).is_ok(),
            _ => false,
        };
        assert_eq!(ranges::of(&key).is_some(), needs, "{key}");
    }
    for (key, _) in ranges::RANGES {
        assert!(keys::all(&schema).contains(&format!("observerd.{key}")), "{key} is no key");
    }
    assert!(Config::default().observerd.validate().is_empty());
}

proptest! {
    #[test]
    fn no_text_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&String::from_utf8_lossy(&bytes), &env);
    }

    #[test]
    fn no_broken_example_panics(cuts in prop::collection::vec((0_usize..5_000, "[\\PC\n]{0,6}"), 1..6)) {
        let mut text = EXAMPLE.to_owned();
        for (at, put) in cuts {
            let at = text.floor_char_boundary(at % text.len());
            let end = text.floor_char_boundary((at + put.len()).min(text.len()));
            text.replace_range(at..end, &put);
        }
        if let Err(findings) = parse(&text, &env) {
            for finding in findings {
                let finding = finding.to_string();
                prop_assert!(!finding.contains(char::is_control) && finding.len() < 500, "{finding}");
                prop_assert!(!finding.contains("hunter2"), "{finding}");
            }
        }
    }

    #[test]
    fn no_value_panics(key in 0_usize..60, value in "[-0-9a-zA-Z\"'\\[\\]{}$:./ =,_]{0,20}") {
        let all = keys::all(&keys::schema());
        let _ = parse(&format!("{} = {value}\n", all[key % all.len()]), &env);
        let _ = parse(&format!("{} = '{}'\n", all[key % all.len()], value.replace('\'', "")), &env);
    }
}
