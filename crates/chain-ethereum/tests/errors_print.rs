//! What an error prints as `{error:?}`, as `main` and `unwrap` do.

use std::error::Error;

use watchkeeper_chain_ethereum::EndpointError;

fn check(error: impl Error + Send + Sync + 'static, expected: &str) {
    assert_eq!(format!("{error:?}"), expected);
    assert!(expected.starts_with(&error.to_string()), "{error}");
}

#[test]
fn every_error_of_an_endpoint_prints_its_sentence() {
    check(EndpointError::NoHost, "the address names no host: give one such as http://127.0.0.1:8545");
    check(
        EndpointError::Tls { reason: "busy".to_owned() },
        "TLS cannot be set up: busy; give an address without it, such as http://127.0.0.1:8545",
    );
}

#[cfg(feature = "anvil")]
#[test]
fn every_error_of_anvil_prints_its_sentence_and_its_causes() {
    use std::io;

    use watchkeeper_chain::adapter::ChainError;
    use watchkeeper_chain_ethereum::anvil::AnvilError;

    let source = || io::Error::other("disk full");
    check(
        AnvilError::NotStarted(source()),
        "anvil cannot be started: are setpriv (of util-linux) and sh there?: disk full",
    );
    check(
        AnvilError::Ended { printed: "no\n\u{1b}[2Jport".into() },
        "anvil ended before it was ready (does it run by hand?); it printed: no\\n\\u{1b}[2Jport",
    );
    check(
        AnvilError::System { what: "make a folder", source: source() },
        "the system refused to make a folder: check free space and permissions, and that it is allowed: disk full",
    );
    check(
        AnvilError::Call(ChainError::Empty { endpoint: "n1".to_owned() }),
        "n1 has no block: its chain is empty",
    );
}
