//! The node program: this test binary again, as a real process with a real port.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

/// Set in a node: where it listens.
pub(crate) const LISTEN: &str = "WATCHKEEPER_DEPLOY_TEST_LISTEN";
pub(crate) const NAME: &str = "WATCHKEEPER_DEPLOY_TEST_NAME";
pub(crate) const DATA: &str = "WATCHKEEPER_DEPLOY_TEST_DATA";
/// Set if the line goes to standard error.
pub(crate) const TO_STDERR: &str = "WATCHKEEPER_DEPLOY_TEST_TO_STDERR";

/// The arguments that make this binary a node.
pub(crate) const ARGUMENTS: [&str; 3] = ["--exact", "node::a_node", "--nocapture"];

/// Serves until it is killed. Each connection is one line: `who`, `set VALUE` or `get`.
#[test]
fn a_node() {
    let Some(listen) = std::env::var_os(LISTEN) else { return };
    let name = std::env::var(NAME).unwrap();
    let value = PathBuf::from(std::env::var_os(DATA).unwrap()).join("value");
    let listener = TcpListener::bind(listen.to_str().unwrap()).unwrap();
    let line = format!("{name} listens on {}", listener.local_addr().unwrap());
    if std::env::var_os(TO_STDERR).is_some() {
        eprintln!("{line}");
    } else {
        println!("{line}");
    }
    for connection in listener.incoming().map_while(Result::ok) {
        // A client that has gone is no failure of the node.
        let _ = answer(connection, &name, &value);
    }
}

fn answer(mut connection: std::net::TcpStream, name: &str, value: &Path) -> std::io::Result<()> {
    let mut line = String::new();
    BufReader::new(connection.try_clone()?).read_line(&mut line)?;
    let answer = match line.trim_end().split_once(' ') {
        None if line == "who\n" => name.to_owned(),
        None => fs::read_to_string(value).unwrap_or_default(),
        Some((_, written)) => {
            fs::write(value, written)?;
            written.to_owned()
        }
    };
    connection.write_all(answer.as_bytes())
}
