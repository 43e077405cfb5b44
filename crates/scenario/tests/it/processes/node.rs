//! A node: another process of this test binary, which its environment makes a server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};

use super::{MARK, count, exists, new_mark};

const NAME: &str = "WATCHKEEPER_TEST_NODE";
const LISTENING: &str = "LISTENING ";

/// A process that serves its name; dropping it ends it at once.
///
/// It also ends with its standard input, so that it does not outlive its parent.
pub struct Node {
    child: Child,
}

impl Node {
    /// Starts it; [`listening`] returns its address.
    pub fn start(name: &str, mark: &str) -> (Self, ChildStdout) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "processes::node::a_node_serves_its_name", "--nocapture"])
            .env(NAME, name)
            .env(MARK, mark)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = child.stdout.take().unwrap();
        (Self { child }, output)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Blocks until the node listens.
pub fn listening(output: ChildStdout) -> Option<SocketAddr> {
    let mut lines = BufReader::new(output).lines().map_while(Result::ok);
    lines.find_map(|line| line.strip_prefix(LISTENING)?.parse().ok())
}

fn serve(name: &str) {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // The test harness may have printed the beginning of a line.
    println!("\n{LISTENING}{}", listener.local_addr().unwrap());
    for connection in listener.incoming().flatten() {
        let _ = (&connection).write_all(name.as_bytes());
    }
}

#[test]
fn a_node_serves_its_name() {
    if let Ok(name) = std::env::var(NAME) {
        return serve(&name);
    }
    let mark = new_mark();
    assert_eq!(count(&mark), 0);
    let (node, output) = Node::start("n1", &mark);
    let pid = node.pid();
    let mut name = String::new();
    TcpStream::connect(listening(output).unwrap()).unwrap().read_to_string(&mut name).unwrap();
    assert_eq!(name, "n1");
    assert_eq!(count(&mark), 1);
    assert!(exists(pid));
    drop(node);
    assert_eq!(count(&mark), 0);
    assert!(!exists(pid));
}
