use proptest::prelude::*;

use super::*;

#[test]
fn secrets_are_masked() {
    let cases = [
        ("401: Authorization: Bearer abc.def-ghi/1= refused", "401: Authorization: Bearer <masked> refused"),
        ("Authorization: Basic dXNlcjpw", "Authorization: Basic <masked>"),
        ("bearer x", "bearer <masked>"),
        ("GET /v1?api_key=abc&user=ann&token=t1", "GET /v1?api_key=<masked>&user=ann&token=<masked>"),
        ("GET /v1?key=abc&sig=d%2Be", "GET /v1?key=<masked>&sig=<masked>"),
        (r#"{"password":"p w","user":"ann"}"#, r#"{"password":"<masked> w","user":"ann"}"#),
        (r#"{"access_token": "x!y"}"#, r#"{"access_token": "<masked>"}"#),
        ("login failed: password=$3cr3t! for ann", "login failed: password=<masked> for ann"),
        (r##"{"password":"#Hunter2","user":"ann"}"##, r#"{"password":"<masked>","user":"ann"}"#),
        ("pwd: (geheim) und äh", "pwd: <masked>) und äh"),
        ("token=äöü7 again", "token=<masked> again"),
        ("password: , none was given", "password: , none was given"),
        ("password = hunter2, tried again", "password = <masked>, tried again"),
        ("DB_PASSWORD=p@ss:w/rd;x", "DB_PASSWORD=<masked>;x"),
        ("postgres://ann:hunter2@db:5432/app", "postgres://<masked>@db:5432/app"),
        ("https://abc@host/path", "https://<masked>@host/path"),
        ("key sk-proj-Abc123Def456Ghi789 is wrong", "key <masked> is wrong"),
        ("sum da39a3ee5e6b4b0d3255bfef95601890afd80709!", "sum <masked>!"),
        ("eyJhbGciOiJIUzI1NiJ9abc.eyJzdWIiOiIxMjM0NTY3ODkwIn0", "<masked>.<masked>"),
        ("token=<num> and password: <p1>", "token=<masked> and password: <masked>"),
        ("AKIAIOSFODNN7EXAMPLE0", "<masked>"),
    ];
    for (text, expected) in cases {
        assert_eq!(masked(text), expected, "{text}");
        assert_eq!(masked(expected), expected, "masked twice");
    }
}

#[test]
fn what_is_no_secret_stays() {
    for text in [
        "",
        "timeout after 300 ms on 10.0.0.7:8080",
        "timeout after <num> ms",
        "/v1/chat/completions/batch/2",
        "https://api.example.org/v1/chat?user=ann",
        "connection_pool_is_exhausted_after_300_ms",
        "java.lang.NullPointerException at com.example.Handler",
        "missing key: name; unexpected token",
        "request 550e8400-e29b-41d4-a716-446655440000 failed",
        "basic validation failed",
        "2026-11-28T10:00:00Z",
        "größer als 5 μs – ошибка",
    ] {
        assert_eq!(masked(text), text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics_and_what_follows_a_name_is_gone(before in ".{0,30}", value in "[$#!*.@(a-zA-Z0-9][a-zA-Z0-9]{4,40}", after in ".{0,30}") {
        let _ = masked(&before);
        let text = format!("{before} token={value} {after}");
        let found = masked(&text);
        prop_assert!(found.contains("token=<masked> "), "{found}");
    }
}
