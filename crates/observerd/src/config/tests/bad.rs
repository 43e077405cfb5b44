//! The exact text of each mistake.

use super::super::{Place, parse};
use super::{env, findings};

/// A text and all of its findings.
const CASES: &[(&str, &[&str])] = &[
    (
        "[observerd]\nbnid = \"127.0.0.1:1\"\n",
        &["2:1: problem: unknown key `observerd.bnid`: did you mean `observerd.bind`?"],
    ),
    (
        "[observerd]\nport = 3219\n",
        &[
            "2:1: problem: unknown key `observerd.port`: known here are auth, bind, corrections, durability, errors, escalation, hosts, idempotency_window, limits, outgoing, persist_path, playbooks, record_loops, segment_bytes, segments, token_file",
        ],
    ),
    (
        "[observer]\nbind = \"127.0.0.1:1\"\n",
        &["1:2: problem: unknown key `observer`: did you mean `observerd`?"],
    ),
    (
        "bind = \"127.0.0.1:1\"\n",
        &["1:1: problem: unknown key `bind`: `bind` is a key of [observerd]: move it there"],
    ),
    (
        "[observerd]\nhead = \"1s\"\n",
        &["2:1: problem: unknown key `observerd.head`: `head` is a key of [observerd.limits]: move it there"],
    ),
    (
        "[observerd.limits]\nhaed = \"1s\"\n  Burst = 1\nbursts=2",
        &[
            "2:1: problem: unknown key `observerd.limits.haed`: did you mean `observerd.limits.head`?",
            "3:3: problem: unknown key `observerd.limits.Burst`: did you mean `observerd.limits.burst`?",
            "4:1: problem: unknown key `observerd.limits.bursts`: did you mean `observerd.limits.burst`?",
        ],
    ),
    (
        "[observerd]\npersist-path = \"x\"\n",
        &["2:1: problem: unknown key `observerd.persist-path`: did you mean `observerd.persist_path`?"],
    ),
    (
        "[observerd]\nlimits = { conections = 3, hed = 2 }\n",
        &[
            "2:12: problem: unknown key `observerd.limits.conections`: did you mean `observerd.limits.connections`?",
            "2:28: problem: unknown key `observerd.limits.hed`: did you mean `observerd.limits.head`?",
        ],
    ),
    (
        "observerd.limit.head = \"1s\"\n",
        &["1:11: problem: unknown key `observerd.limit`: did you mean `observerd.limits`?"],
    ),
    (
        "[observerd]\n\"a.b\\nc\" = 1\n",
        &[
            "2:1: problem: unknown key `observerd.\"a.b\\nc\"`: known here are auth, bind, corrections, durability, errors, escalation, hosts, idempotency_window, limits, outgoing, persist_path, playbooks, record_loops, segment_bytes, segments, token_file",
        ],
    ),
    (
        "[other]\na = 1\n[third]\n",
        &[
            "1:2: problem: unknown key `other`: known here are observerd",
            "3:2: problem: unknown key `third`: known here are observerd",
        ],
    ),
    (
        "[observerd]\nbind = 3219\n",
        &["2:8: problem: `observerd.bind` must be a string in quotation marks, and is a number"],
    ),
    (
        "[observerd]\nbind = \"localhost:3219\"\n",
        &[
            "2:8: problem: `observerd.bind` must be an address with a port, such as \"127.0.0.1:3219\" or \"[::1]:3219\"; names are not resolved",
        ],
    ),
    (
        "[observerd]\nbind = \"127.0.0.1\"\n",
        &[
            "2:8: problem: `observerd.bind` must be an address with a port, such as \"127.0.0.1:3219\" or \"[::1]:3219\"; names are not resolved",
        ],
    ),
    (
        "[observerd]\nbind = \"\"\n",
        &[
            "2:8: problem: `observerd.bind` must be an address with a port, such as \"127.0.0.1:3219\" or \"[::1]:3219\"; names are not resolved",
        ],
    ),
    (
        "[observerd]\nsegments = \"8\"\n",
        &[
            "2:12: problem: `observerd.segments` must be a whole number without quotation marks, and is a string",
        ],
    ),
    (
        "[observerd]\nsegments = 8.5\n",
        &[
            "2:12: problem: `observerd.segments` must be a whole number without quotation marks, and is a number with a fraction",
        ],
    ),
    (
        "[observerd]\nsegments = -1\n",
        &["2:12: problem: `observerd.segments` must be a whole number from 2 to 1_000_000"],
    ),
    (
        "[observerd]\nsegments = 1\n",
        &["2:12: problem: `observerd.segments` must be a whole number from 2 to 1_000_000"],
    ),
    (
        "[observerd]\nsegment_bytes = 4095\n",
        &["2:17: problem: `observerd.segment_bytes` must be a whole number from 4_096 to 1_099_511_627_776"],
    ),
    (
        "[observerd]\nsegment_bytes = 99999999999999999999999999\n",
        &["2:17: problem: `observerd.segment_bytes` must be a whole number from 4_096 to 1_099_511_627_776"],
    ),
    (
        "[observerd]\nrecord_loops = \"yes\"\n",
        &[
            "2:16: problem: `observerd.record_loops` must be true or false, without quotation marks, and is a string",
        ],
    ),
    (
        "[observerd]\nrecord_loops = 1\n",
        &[
            "2:16: problem: `observerd.record_loops` must be true or false, without quotation marks, and is a number",
        ],
    ),
    (
        "[observerd]\nhosts = \"a.example\"\n",
        &[
            "2:9: problem: `observerd.hosts` must be a list of strings, such as [\"a\", \"b\"], and is a string",
        ],
    ),
    (
        "[observerd]\nhosts = [\"a.example\", 3, true]\n",
        &[
            "2:23: problem: entry 2 of `observerd.hosts` must be a string in quotation marks, and is a number",
            "2:26: problem: entry 3 of `observerd.hosts` must be a string in quotation marks, and is a flag",
        ],
    ),
    (
        "[observerd]\nhosts = [\n  \"a.example\",\n  \"https://b.example\",\n  \"*.example\",\n  \"c:0\", \"d d\", \"\", \"::1\", \"[::1]:x\", \"256.1.1.1\", \"-a\", \"[x]\"\n]\n",
        &[
            "4:3: problem: entry 2 of `observerd.hosts` must be a name without a scheme and a path, such as \"example.org\" or \"example.org:8443\"",
            "5:3: problem: entry 3 of `observerd.hosts` has a `*`, which matches nothing here: list each name",
            "6:3: problem: entry 4 of `observerd.hosts` has a port that is no number from 1 to 65535",
            "6:10: problem: entry 5 of `observerd.hosts` is no name of a host: it has letters, digits, `-` and dots, such as \"example.org\"",
            "6:17: problem: entry 6 of `observerd.hosts` is no name of a host: it has letters, digits, `-` and dots, such as \"example.org\"",
            "6:21: problem: entry 7 of `observerd.hosts` is an IPv6 address: write it in brackets, such as \"[::1]\"",
            "6:28: problem: entry 8 of `observerd.hosts` has a port that is no number from 1 to 65535",
            "6:39: problem: entry 9 of `observerd.hosts` is no name of a host: it has letters, digits, `-` and dots, such as \"example.org\"",
            "6:52: problem: entry 10 of `observerd.hosts` is no name of a host: it has letters, digits, `-` and dots, such as \"example.org\"",
            "6:58: problem: entry 11 of `observerd.hosts` must have an IPv6 address between [ and ]",
        ],
    ),
    (
        "[observerd]\ndurability = \"grup\"\n",
        &[
            "2:14: problem: `observerd.durability` must be one of \"buffered\", \"group\", \"always\": did you mean \"group\"?",
        ],
    ),
    (
        "[observerd]\ndurability = \"synced\"\n",
        &["2:14: problem: `observerd.durability` must be one of \"buffered\", \"group\", \"always\""],
    ),
    (
        "[observerd]\nauth = true\n",
        &["2:8: problem: `observerd.auth` must be a string in quotation marks, and is a flag"],
    ),
    (
        "[observerd]\nauth = \"none\"\n",
        &["2:8: problem: `observerd.auth` must be one of \"token\", \"loopback-open\""],
    ),
    (
        "[observerd]\nauth = \"loopback_open\"\n",
        &[
            "2:8: problem: `observerd.auth` must be one of \"token\", \"loopback-open\": did you mean \"loopback-open\"?",
        ],
    ),
    (
        "[observerd]\nbind = \"0.0.0.0:3219\"\nauth = \"loopback-open\"\n",
        &[
            "3:8: problem: `observerd.auth` is \"loopback-open\", which needs no token, and `observerd.bind` is no loopback address: bind 127.0.0.1 or [::1], or set auth = \"token\"",
        ],
    ),
    (
        "[observerd]\nauth = \"loopback-open\"\nbind = \"[::]:3219\"\n",
        &[
            "2:8: problem: `observerd.auth` is \"loopback-open\", which needs no token, and `observerd.bind` is no loopback address: bind 127.0.0.1 or [::1], or set auth = \"token\"",
        ],
    ),
    (
        "[observerd]\nlimits = 3\n",
        &["2:10: problem: `observerd.limits` must be a table, [observerd.limits], and is a number"],
    ),
    ("observerd = [1]\n", &["1:13: problem: `observerd` must be a table, [observerd], and is a list"]),
    (
        "[[observerd]]\nbind = \"127.0.0.1:1\"\n",
        &["1:1: problem: `observerd` must be a table, [observerd], and is a list"],
    ),
    (
        "[observerd.bind]\nport = 1\n",
        &["1:1: problem: `observerd.bind` must be a string in quotation marks, and is a table"],
    ),
    (
        "[observerd.limits]\nhead = 10\n",
        &["2:8: problem: `observerd.limits.head` must be a string in quotation marks, and is a number"],
    ),
    (
        "[observerd.limits]\nhead = \"10\"\n",
        &[
            "2:8: problem: `observerd.limits.head` must be a duration such as \"500ms\", \"10s\" or \"1h 30m\", from \"1ms\" to \"1day\"",
        ],
    ),
    (
        "[observerd.limits]\nhead = \"0s\"\n",
        &["2:8: problem: `observerd.limits.head` must be from \"1ms\" to \"1day\""],
    ),
    (
        "[observerd.limits]\nhead = \"25h\"\ndrain = \"2 days\"\n",
        &[
            "2:8: problem: `observerd.limits.head` must be from \"1ms\" to \"1day\"",
            "3:9: problem: `observerd.limits.drain` must be from \"1ms\" to \"1day\"",
        ],
    ),
    (
        "[observerd.limits]\nhead = 1979-05-27\n",
        &[
            "2:8: problem: `observerd.limits.head` must be a string in quotation marks, and is a date or a time",
        ],
    ),
    (
        "[observerd.limits]\nrequests_per_second = 0\nburst = 5000000000\nconnections = 0\nstreams = 0\nbodies = 1\n",
        &[
            "2:23: problem: `observerd.limits.requests_per_second` must be a whole number from 1 to 10_000_000",
            "3:9: problem: `observerd.limits.burst` must be a whole number from 1 to 10_000_000",
            "4:15: problem: `observerd.limits.connections` must be a whole number from 1 to 1_000_000",
            "5:11: problem: `observerd.limits.streams` must be a whole number from 1 to 1_000_000",
            "6:10: problem: `observerd.limits.bodies` must be a whole number from 1_048_576 to 68_719_476_736",
        ],
    ),
    (
        "[observerd]\nidempotency_window = 0\n",
        &["2:22: problem: `observerd.idempotency_window` must be a whole number from 1 to 1_000_000"],
    ),
    (
        "[observerd.playbooks]\nwindow = 2\noccurrences = 3\n",
        &[
            "3:15: problem: `observerd.playbooks.occurrences` must be less than `observerd.playbooks.window`, or no playbook is ever found",
        ],
    ),
    (
        "[observerd.playbooks]\nwindow = 3\noccurrences = 3\n",
        &[
            "3:15: problem: `observerd.playbooks.occurrences` must be less than `observerd.playbooks.window`, or no playbook is ever found",
        ],
    ),
    (
        "[observerd]\nerrors.window = 100_001\nescalation.threshold = 100_001\nplaybooks = { window = 1_000_000, occurrences = 200_000 }\n",
        &[
            "2:17: problem: `observerd.errors.window` must be a whole number from 1 to 100_000",
            "3:24: problem: `observerd.escalation.threshold` must be a whole number from 1 to 100_000",
            "4:24: problem: `observerd.playbooks.window` must be a whole number from 2 to 100_000",
            "4:49: problem: `observerd.playbooks.occurrences` must be a whole number from 1 to 100_000",
        ],
    ),
    // In quotation marks it is one name, and no known key.
    (
        "\"observerd.segments\" = 5\n\n[observerd]\nsegments = 1\n",
        &[
            "1:1: problem: unknown key `\"observerd.segments\"`: write `observerd.segments` without quotation marks, which make one name of it",
            "4:12: problem: `observerd.segments` must be a whole number from 2 to 1_000_000",
        ],
    ),
    (
        "\"observerd.auth\" = \"${NOBODY}\"\nobserverd = { bind = \"0.0.0.0:1\", auth = \"loopback-open\" }\n",
        &[
            "1:20: problem: the variable NOBODY is not set, or is not UTF-8: set it, or write $${NOBODY}",
            "2:42: problem: `observerd.auth` is \"loopback-open\", which needs no token, and `observerd.bind` is no loopback address: bind 127.0.0.1 or [::1], or set auth = \"token\"",
        ],
    ),
    (
        "[observerd.errors]\nwindow = 5\n",
        &[
            "problem: `observerd.escalation.threshold` must be at most `observerd.errors.window`, or nothing is ever posted",
        ],
    ),
    (
        "[observerd.escalation]\npause = \"10m\"\n",
        &[
            "problem: `observerd.escalation.longest_pause` must not be shorter than `observerd.escalation.pause`",
        ],
    ),
    (
        "[observerd.escalation]\nwebhook = \"example.org\"\n",
        &["2:11: problem: `observerd.escalation.webhook` must be a URL that begins with http:// or https://"],
    ),
    (
        "[observerd.escalation]\nwebhook = \"ftp://example.org/x\"\n",
        &["2:11: problem: `observerd.escalation.webhook` must be a URL that begins with http:// or https://"],
    ),
    (
        "[observerd.escalation]\nwebhook = \"https://me:hunter2@example.org/x\"\n",
        &[
            "2:11: problem: `observerd.escalation.webhook` has a user or a password before the `@`, which is not sent: remove it",
        ],
    ),
    (
        "[observerd.escalation]\nwebhook = \"https://\"\n",
        &["2:11: problem: `observerd.escalation.webhook` must be a URL such as \"https://example.org/hook\""],
    ),
    (
        "[observerd.escalation]\nwebhook = \"https://a.example:99999/\"\n",
        &["2:11: problem: `observerd.escalation.webhook` must be a URL such as \"https://example.org/hook\""],
    ),
    (
        "[observerd.escalation]\nwebhook = \"https://a.example/#x\"\n",
        &[
            "2:11: problem: `observerd.escalation.webhook` has a fragment after `#`, which is not sent: remove it",
        ],
    ),
    (
        "[observerd.escalation]\ncooldown = \"0s\"\nattempts = 0\ntimeout = \"2h\"\n",
        &[
            "2:12: problem: `observerd.escalation.cooldown` must be from \"1ms\" to \"30days\"",
            "3:12: problem: `observerd.escalation.attempts` must be a whole number from 1 to 1_000",
            "4:11: problem: `observerd.escalation.timeout` must be from \"1ms\" to \"1h\"",
        ],
    ),
    (
        "[observerd.outgoing]\nallow = [\"localhost\", \"10.0.0.0/33\", \"::1/128\", \"10.0.0.0/+8\"]\n",
        &[
            "2:10: problem: entry 1 of `observerd.outgoing.allow` must be an address or a network, such as \"127.0.0.1\" or \"10.2.0.0/16\", and no name",
            "2:23: problem: entry 2 of `observerd.outgoing.allow` has a length that is no number of its bits, such as 10.2.0.0/16",
            "2:49: problem: entry 4 of `observerd.outgoing.allow` has a length that is no number of its bits, such as 10.2.0.0/16",
        ],
    ),
    (
        "[observerd]\npersist_path = \"~/data\"\ntoken_file = \"a\\u0000b\"\n",
        &[
            "2:16: problem: `observerd.persist_path` begins with `~`, which only a shell replaces: write ${HOME}",
            "3:14: problem: `observerd.token_file` has a NUL character, which no path has",
        ],
    ),
    (
        "[observerd]\npersist_path = \"${NOBODY}/x\"\n",
        &["2:16: problem: the variable NOBODY is not set, or is not UTF-8: set it, or write $${NOBODY}"],
    ),
    (
        "[observerd]\npersist_path = \"a${\"\nhosts = [\"${1x}\", \"${DATA:-y}\"]\n",
        &[
            "2:16: problem: `${` has no `}`: write ${NAME}, or $${ for the characters themselves",
            "3:10: problem: `${1x}` is no variable: a name has letters, digits and _, and does not begin with a digit; write $${ for the characters themselves",
            "3:19: problem: `${DATA:-y}` is no variable: a name has letters, digits and _, and does not begin with a digit; write $${ for the characters themselves",
        ],
    ),
    (
        "[observerd]\nbind = \"${SECRET}\"\ndurability = \"${SECRET}\"\nlimits.head = \"${SECRET}\"\nescalation.webhook = \"${SECRET}\"\n",
        &[
            "2:8: problem: `observerd.bind` must be an address with a port, such as \"127.0.0.1:3219\" or \"[::1]:3219\"; names are not resolved",
            "3:14: problem: `observerd.durability` must be one of \"buffered\", \"group\", \"always\"",
            "4:15: problem: `observerd.limits.head` must be a duration such as \"500ms\", \"10s\" or \"1h 30m\", from \"1ms\" to \"1day\"",
            "5:22: problem: `observerd.escalation.webhook` must be a URL that begins with http:// or https://",
        ],
    ),
    (
        "[observerd]\nsegments = ${NUMBER}\n",
        &["2:13: problem: this is not TOML: unexpected key or value, expected newline, `#`"],
    ),
    (
        "[observerd]\nsegments = \"${NUMBER}\"\n",
        &[
            "2:12: problem: `observerd.segments` must be a whole number without quotation marks, and is a string",
        ],
    ),
    (
        "[observerd]\nbind = \"127.0.0.1:1\"\nbind = \"127.0.0.1:2\"\n",
        &["3:1: problem: this is not TOML: duplicate key"],
    ),
    (
        "[observerd]\n[observerd.limits]\n[observerd.limits]\n",
        &["3:12: problem: this is not TOML: duplicate key"],
    ),
    ("[observerd\nbind = \n", &["1:11: problem: this is not TOML: unclosed table, expected `]`"]),
    (
        "[observerd]\nbind = \"127.0.0.1:1\n",
        &["2:20: problem: this is not TOML: invalid basic string, expected `\"`"],
    ),
    ("bind: 127.0.0.1:1\n", &["1:7: problem: this is not TOML: key with no value, expected `=`"]),
    ("{\"observerd\": {}}\n", &["1:1: problem: this is not TOML: invalid key-value pair, expected key"]),
    (
        "[observerd]\nbind = \"a\" # é\nsegments = 1 # ü\nü = 1\n",
        &["4:1: problem: this is not TOML: invalid unquoted key, expected letters, numbers, `-`, `_`"],
    ),
    ("\u{feff}bnd = 1\n", &["1:1: problem: unknown key `bnd`: the nearest known key is `observerd.bind`"]),
    (
        "[observerd]\nbind = \"x\\u0007\u{202e}\"\nx\u{7}y = 1",
        &["3:2: problem: this is not TOML: invalid unquoted key, expected letters, numbers, `-`, `_`"],
    ),
];

#[test]
fn each_mistake_has_its_text() {
    assert!(CASES.len() >= 60);
    for (text, wanted) in CASES {
        assert_eq!(findings(text), *wanted, "{text}");
    }
}

#[test]
fn all_mistakes_of_a_text_come_at_once_and_in_order() {
    let text = "[observerd]\nport = 1\nbind = 3\nsegments = 1\nauth = \"x\"\npersist_path = \"${NOBODY}\"\nlimits.head = \"x\"\n";
    let found = parse(text, &env).unwrap_err();
    let lines: Vec<usize> = found
        .iter()
        .map(|finding| match finding.place {
            Place::At { line, .. } => line,
            _ => panic!("{finding}"),
        })
        .collect();
    assert_eq!(lines, [2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_text_of_mistakes_alone_is_bounded() {
    let text: String = (0..50_000).map(|n| format!("k{n} = 1")).collect::<Vec<_>>().join("\n");
    let found = parse(&text, &env).unwrap_err();
    assert_eq!(found.len(), 1_000);
    let deep = format!("a = {}", "[".repeat(100_000));
    assert!(parse(&deep, &env).unwrap_err().len() <= 1_000);
}

#[test]
fn no_finding_shows_the_value_of_a_variable() {
    let keys =
        ["bind", "durability", "auth", "escalation.webhook", "limits.head", "segments", "record_loops"];
    for key in keys {
        let found = findings(&format!("[observerd]\n{key} = \"x${{SECRET}}\"\n"));
        assert_eq!(found.len(), 1, "{key}");
        assert!(!found[0].contains("hunter2"), "{found:?}");
    }
}
