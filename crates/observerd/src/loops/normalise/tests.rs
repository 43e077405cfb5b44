use proptest::prelude::*;

use super::*;

/// (message, normalised)
const CASES: &[(&str, &str)] = &[
    ("", NO_MESSAGE),
    (" \t\r\n\u{0}", NO_MESSAGE),
    ("no variable part", "no variable part"),
    // Numbers.
    ("took 42 tries", "took <num> tries"),
    ("got -1, expected +2.50", "got <num>, expected <num>"),
    ("1,234,567 rows, 1_000 columns", "<num> rows, <num> columns"),
    ("items 1,2,3", "items <num>,<num>,<num>"),
    ("error rate 1e-9 is under 0.5%", "error rate <num> is under <num>%"),
    ("the 12th and the 1st, 3x", "the <num> and the <num>, <num>x"),
    ("page ٣٤ of ５", "page <num> of <num>"),
    ("range 10-20", "range <num>-<num>"),
    ("version 1.2.3-beta.4", "version <num>-beta.<num>"),
    ("main.rs:10:5: mismatched types", "main.rs:<num>:<num>: mismatched types"),
    ("line 3, column 17", "line <num>, column <num>"),
    // Hexadecimal, ids.
    ("panic at 0x7ffee4c0a8b0", "panic at <hex>"),
    ("commit a1b2c3d is gone", "commit <num> is gone"),
    ("sha256:9f86d081884c7d659a2feaa0c55ad015 differs", "sha256:<num> differs"),
    ("DEADBEEF00 and cafe", "<num> and cafe"),
    ("user 550e8400-e29b-41d4-a716-446655440000 is unknown", "user <uuid> is unknown"),
    ("{550E8400-E29B-41D4-A716-446655440000}", "{<uuid>}"),
    ("op 01ARZ3NDEKTSV4RRFFQ69G5FAV failed", "op <id> failed"),
    ("req_8s7Df6Gh2k timed out", "req_<id> timed out"),
    ("pod web-7d9f8b6c54-x2x4z", "pod web-<num>-<id>"),
    ("worker12 and node_7 died", "worker<num> and node_<num> died"),
    ("bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln-bmF0_dXJl", "bearer <token>"),
    // Names with digits.
    ("HTTP/1.1 is not HTTP/2", "HTTP/1.1 is not HTTP/2"),
    ("/v2/users is not in v1.3", "/v2/users is not in v1.3"),
    ("invalid utf-8 in UTF-16", "invalid utf-8 in UTF-16"),
    ("error[E0308]: TS2345", "error[E0308]: TS2345"),
    ("ipv4 or IPv6, sha256, md5, x86_64", "ipv4 or IPv6, sha256, md5, x86_64"),
    ("TLSv1.3 with i32, u64, f32", "TLSv1.3 with i32, u64, f32"),
    ("k8s, s3, ec2, oauth2, base64", "k8s, s3, ec2, oauth2, base64"),
    ("HTTP 404", "HTTP 404"),
    ("status: 503, status=429", "status: 503, status=429"),
    ("HTTP/1.1 500 after 3 tries", "HTTP/1.1 500 after <num> tries"),
    ("No such file (os error 2)", "No such file (os error 2)"),
    ("errno 13, exit code 137, signal 9", "errno 13, exit code 137, signal 9"),
    ("code -32600", "code -32600"),
    ("code 1234567", "code <num>"),
    ("error 17 of 30", "error <num> of <num>"),
    (r#"{"status":404}"#, r#"{"status":404}"#),
    (r#"{"code": 503, "n": 7}"#, r#"{"code": 503, "n": <num>}"#),
    (r#"got "status": 503 of 7"#, r#"got "status": 503 of <num>"#),
    (r#"{\"status\":404,\"n\":7}"#, r#"{\"status\":404,\"n\":<num>}"#),
    ("errorCode=404, exitcode 137, http_status: 503", "errorCode=404, exitcode 137, http_status: 503"),
    ("HTTPStatus 503, EXIT_CODE=3, last_errno 13", "HTTPStatus 503, EXIT_CODE=3, last_errno 13"),
    ("status is 503, code was 404, this 17", "status is 503, code was 404, this <num>"),
    ("HTTP status \"503\" and '404'", "HTTP status \"503\" and <str>"),
    ("code '-32600', code \"1234567\"", "code '-32600', code <str>"),
    ("<code>404</code>, status => 503", "<code>404</code>, status => 503"),
    ("HTTP Error 404, OSError 2, (MySQL error 1045)", "HTTP Error 404, OSError 2, (MySQL error 1045)"),
    ("ORA-00942, TNS-12154", "ORA-00942, TNS-12154"),
    ("SQLSTATE 42P01, SQLSTATE[HY000], sqlState=0A000", "SQLSTATE 42P01, SQLSTATE[HY000], sqlState=0A000"),
    ("code: '42P01', user 42P01", "code: '42P01', user <id>"),
    ("HRESULT: 0x80070005, NTSTATUS=0xC0000005", "HRESULT: 0x80070005, NTSTATUS=0xC0000005"),
    ("error 0x80004005, Exception code: 0xc0000409", "error 0x80004005, Exception code: 0xc0000409"),
    ("error 0x7ffee4c0a8b0 at 0x80070005", "error <hex> at <hex>"),
    (
        "cannot decode 17 of unicode 30, zip_code 12345",
        "cannot decode <num> of unicode <num>, zip_code <num>",
    ),
    ("GET /job/status/17, /x/statuscode/404", "GET /job/status/<num>, /x/statuscode/<num>"),
    // The same, whatever the digits are.
    ("request 1234567a, 1234567d, 1234567b, 12345678", "request <num>, <num>, <num>, <num>"),
    ("request 1234e567, 1234567f, 7654321", "request <num>, <num>, <num>"),
    ("1234567.5d, 12d, 12b, 123456ms", "<duration>, <duration>, <size>, <duration>"),
    ("JOB1234, JOB123, ORD10234, ID1234, job_1234", "JOB<num>, JOB<num>, ORD<num>, ID<num>, job_<num>"),
    ("ERR1234: error LNK1104, error[XYZ1234]", "ERR1234: error LNK1104, error[XYZ1234]"),
    ("Error: JOB1234, code JOB1234", "Error: JOB<num>, code JOB1234"),
    ("AES256 is not RSA2048", "AES256 is not RSA2048"),
    ("1.1zz and 2.1zz", "<num>.1zz and <num>.1zz"),
    // Times.
    ("since 2024-01-02T03:04:05.678Z", "since <time>"),
    ("since 2024-01-02 03:04:05,123 +00:00: late", "since <time>: late"),
    ("on 2024/01/02 at 03:04:05", "on <time> at <time>"),
    ("Tue, 02 Jan 2024 03:04:05 GMT is past", "<time> is past"),
    ("[02/Jan/2024:03:04:05 +0000] GET", "[<time>] GET"),
    ("Jan 2 03:04:05 host", "<time> host"),
    ("20240102T030405Z", "<time>"),
    ("Mon is no date, May neither", "Mon is no date, May neither"),
    // Units.
    ("after 30ms, 1.5s, 1h30m, 2 seconds", "after <duration>, <duration>, <duration>, <duration>"),
    ("in 250 µs or 250µs", "in <duration> or <duration>"),
    ("12MB of 4096 bytes and 8 GiB", "<size> of <size> and <size>"),
    ("5 monkeys", "<num> monkeys"),
    // Addresses.
    ("connect 10.0.0.1:8080: refused", "connect <ip>: refused"),
    ("10.0.0.0/8 and 192.168.1.1.", "<ip> and <ip>."),
    ("[::1]:80, fe80::1%eth0, 2001:db8::/32", "<ip>, <ip>, <ip>"),
    ("::ffff:10.0.0.1: no route", "<ip>: no route"),
    ("std::io::Error at a::b::c", "std::io::Error at a::b::c"),
    ("from 00:1b:44:11:3a:b7", "from <mac>"),
    ("localhost:3000", "localhost:<num>"),
    ("mail to a.b+c@example.org.", "mail to <email>."),
    ("lodash@4.17.21", "lodash@<num>"),
    (
        "GET https://example.org/users/17?token=s3cret&x=1: 404",
        "GET https://example.org/users/<num>?<query>: <num>",
    ),
    ("postgres://me:secret@db:5432/app", "postgres://db:<num>/app"),
    ("https://example.org/a#b, then", "https://example.org/a?<query>, then"),
    ("GET /a/7?b=1", "GET /a/<num>?<query>"),
    ("why? because", "why? because"),
    // Paths and quotes.
    ("cannot open /var/log/app-2024-01-02/17.log", "cannot open /var/log/app-<time>/<num>.log"),
    ("/home/ann/x/9f86d081884c", "/home/ann/x/<num>"),
    (r"C:\Users\7\a.txt", r"C:\Users\<num>\a.txt"),
    ("cannot open 'a b.txt': it's gone", "cannot open <str>: it's gone"),
    ("user \"ann\" and user `bob`", "user <str> and user <str>"),
    ("the users' files and don't", "the users' files and don't"),
    ("an open \"quote 17", "an open \"quote <num>"),
    (r#"a "b \" c" d"#, "a <str> d"),
    ("{\"code\": \"NOT_FOUND\", \"id\": \"x7\"}", "{\"code\": \"NOT_FOUND\", \"id\": <str>}"),
    ("cannot stat `a': gone", "cannot stat <str>: gone"),
    // What is not visible.
    ("\u{1b}[31merror\u{1b}[0m:\n\tat  line 7", "error: at line <num>"),
    ("\u{1b}]8;;http://x\u{7}link\u{1b}]8;;\u{7} and \u{1b}]0;title\u{1b}\\text", "link and text"),
    ("a\u{0}b\u{202e}c", "a bc"),
    ("Größe 5 überschritten, 日本 7", "Größe <num> überschritten, 日本 <num>"),
    // What looks like a placeholder stays.
    ("<num> <html> <num", "<num> <html> <num"),
];

#[test]
fn messages_lose_their_variable_parts() {
    assert!(CASES.len() > 50);
    let wrong: Vec<_> = CASES
        .iter()
        .map(|(message, expected)| (message, expected, normalise(message), normalise(expected)))
        .filter(|(_, expected, once, again)| once != *expected || again != *expected)
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_long_message_is_cut_between_parts() {
    for message in
        ["word 17 ".repeat(100), "x".repeat(10_000), "é".repeat(10_000), "a1b2c3d4e5".repeat(5_000)]
    {
        let short = normalise(&message);
        assert!(short.chars().count() <= MAX_MESSAGE, "{short}");
        assert_eq!(normalise(&short), short);
    }
    assert!(normalise(&"word 17 ".repeat(100)).ends_with("<num>…"));
    assert_eq!(normalise(&"x".repeat(10_000)), "<id>");
}

#[test]
fn each_unit_of_time_is_one() {
    for &unit in numbers::DURATIONS {
        let short = matches!(unit, "m" | "h" | "d" | "w");
        let spaced = if short { format!("took <num> {unit}") } else { "took <duration>".to_owned() };
        assert_eq!(normalise(&format!("took 2 {unit}")), spaced);
        assert_eq!(normalise(&format!("took 2.5{unit}")), "took <duration>", "{unit}");
        assert_ne!(normalise(&format!("took 2 {unit}xx")), "took <duration>", "{unit}");
    }
    for unit in ["bytes", "KB", "MiB", "kilobytes", "gigabyte", "mebibytes"] {
        assert_eq!(normalise(&format!("has 2 {unit}")), "has <size>");
        assert_eq!(normalise(&format!("has 2{unit}")), "has <size>");
    }
}

/// Texts on which a scanner that reads again from each place reads much more than there is. Some of them fail at their far end.
#[test]
fn hostile_messages_are_read_once() {
    // (begin, piece, end)
    let texts = [
        ("", "'", ""),
        ("", "\"a ", ""),
        ("", "`", ""),
        ("", "a.", ""),
        ("", "a@", ""),
        ("", "a@a.", ""),
        ("", "1:", ""),
        ("", "1.", ""),
        ("", "1.", "1zz"),
        ("1", ".1", "zz"),
        ("1", ".1", "z@"),
        ("1", ",111", "zz"),
        ("0.", "1", "zz"),
        ("03:04:05.", "1", "zz"),
        ("0x", "1", "zz"),
        ("", "1h", "zz"),
        ("", "1.5h", "zz"),
        ("", "::", ""),
        ("", "<", ""),
        ("", "[", ""),
        ("", "?", ""),
        ("h://", "?", ""),
        ("", "?a=", ""),
        ("h://a?", ",", ""),
        ("", "\u{1b}]", ""),
        ("", "\u{1b}[", ""),
        ("", "eyJ.", ""),
        ("", "eyJ_", ""),
        ("eyJ_", "eyJ-", "..."),
        ("eyJ", ".", ""),
        ("", "1,000", ""),
        ("", "h://", ""),
        ("", "h://a@", ""),
        ("", "-1", ""),
        ("", "status ", "404"),
        ("", "code=", "1"),
        ("", "\"1\"", ""),
        ("", "0x1 ", ""),
        ("", "SQLSTATE ", ""),
        ("", "deadbeef1", "z"),
    ];
    for (begin, piece, end) in texts {
        let pieces = MAX_READ - begin.len() - end.len();
        for count in [pieces / piece.len(), 1_000_000 / piece.len()] {
            let message = format!("{begin}{}{end}", piece.repeat(count));
            let before = steps();
            let short = normalise(&message);
            let read = steps() - before;
            assert!(read <= 12 * MAX_READ, "{begin:?} {piece:?} {end:?}: {read}");
            assert!(short.chars().count() <= MAX_MESSAGE);
            assert_eq!(normalise(&short), short, "{piece:?}");
        }
    }
}

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ -~]{0,6}",
        2 => proptest::sample::select(vec![
            "<num>", "<id>", "<str>", "'", "\"", "`", "http://", "?", "@", "::", ":", ".", "-", "_", "1", "17", "404", "status ", "code", "sqlstate ", "42P01", "error ", "JOB1234", "is ", "\\\"",
            "os error ", "2024-01-02", "T", "03:04:05", "10.0.0.1", "ms", " MB", "0x", "deadbeef1", "eyJ", "v", "utf-", "8",
            "\\", "{", ",", "µs", "é", " ", "=", "<", ">", "#", "/", "Jan ", "[::1]", "1h", "%",
        ]).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
        1 => CASES.iter().map(|case| case.0.to_owned()).collect::<Vec<_>>().prop_map_select(),
    ]
}

trait Select {
    fn prop_map_select(self) -> BoxedStrategy<String>;
}

impl Select for Vec<String> {
    fn prop_map_select(self) -> BoxedStrategy<String> {
        proptest::sample::select(self).boxed()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn normalising_twice_changes_nothing(pieces in proptest::collection::vec(piece(), 0..40)) {
        let once = normalise(&pieces.concat());
        prop_assert!(once.chars().count() <= MAX_MESSAGE);
        prop_assert!(!once.chars().any(char::is_control));
        prop_assert_eq!(normalise(&once), once);
    }

    #[test]
    fn numbers_make_no_difference(before in "[a-z ]{0,20} ", one: u64, other: u64) {
        prop_assert_eq!(normalise(&format!("{before}is {one}.")), normalise(&format!("{before}is {other}.")));
    }
}
