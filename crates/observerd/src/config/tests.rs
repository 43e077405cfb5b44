//! Tests of the settings: what is read, and the exact text of what is wrong.

mod bad;
mod files;
mod good;

/// Variables of the tests.
fn env(name: &str) -> Option<String> {
    match name {
        "DATA" => Some("/var/lib/witness".to_owned()),
        "SECRET" => Some("hunter2".to_owned()),
        "NUMBER" => Some("12".to_owned()),
        "NESTED" => Some("${SECRET}".to_owned()),
        _ => None,
    }
}

/// The findings of a text, one a line.
fn findings(text: &str) -> Vec<String> {
    match super::parse(text, &env) {
        Ok(_) => Vec::new(),
        Err(findings) => findings.iter().map(ToString::to_string).collect(),
    }
}
