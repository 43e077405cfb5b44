//! What an application says of its nodes as programs.

use std::path::Path;
use std::process::Command;

use watchkeeper::DynError;
use watchkeeper_scenario::Application;

use crate::{NodeAccess, NodeAddress};

/// How the nodes of an application are started as child processes.
///
/// # Ports
///
/// Each node gets one port of 127.0.0.1 for each name in [`ports`](Self::ports). They are reserved without a race until
/// the cluster is down, also while a node is: neither the system nor another cluster gives them to anybody else. See
/// [the module](crate::local#ports) for the servers that cannot use them. A program that picks its own port says it in a
/// line: [`Readiness::Address`].
pub trait NodeProgram<A: Application>: NodeAccess<A> {
    /// How many nodes this deployment has, 1 to 64. They are numbered from 1.
    fn nodes(&self, deployment: &A::Deployment) -> u64;

    /// The name of a node; default: `n` and the number. Letters, digits, `-`, `_` and `.`, at most 64.
    fn name(&self, number: u64) -> String {
        format!("n{number}")
    }

    /// The names of the ports that each node needs, such as `client` and `peer`; default: none.
    fn ports(&self) -> &[&str] {
        &[]
    }

    /// The command of one node: program, arguments and environment. It is called for each start, restarts included.
    ///
    /// Standard input is empty, and standard output and standard error go to the node's log. What a [`Command`] does not
    /// show is lost, such as a call of [`env_clear`](Command::env_clear): see
    /// [`while_parent_lives`](watchkeeper_process::while_parent_lives). The program must run as the process that is
    /// started, and not in the background: a script ends with `exec`.
    ///
    /// # Errors
    ///
    /// There is no command; the text says why.
    fn command(&self, node: &LocalNode<'_>, deployment: &A::Deployment) -> Result<Command, DynError>;

    /// When a node is ready; default: when [`NodeAccess::probe`] succeeds.
    fn readiness(&self) -> Readiness {
        Readiness::Probe
    }

    /// Reads the address in the line of [`Readiness::Address`], and sets the ports in `at`.
    ///
    /// # Errors
    ///
    /// The line is not that of this node; the text says why.
    fn address(&self, line: &str, at: &mut NodeAddress) -> Result<(), DynError> {
        let _ = (line, at);
        Ok(())
    }
}

/// When a node that starts is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Readiness {
    /// When [`NodeAccess::probe`] succeeds.
    Probe,
    /// When it has printed a line that contains this mark, on standard output or standard error. After a later start
    /// nothing waits for that line: `wait_ready` asks [`NodeAccess::probe`], which therefore has to ask the node.
    Line(String),
    /// The same, and the line says where it listens: [`NodeProgram::address`] reads it. A later start of this node gets
    /// that address as its own, and also waits for the line.
    ///
    /// A port that the program has picked is not reserved: while the node is down, the system may give it to another
    /// program. At the first start [`LocalNode::all`] has no such ports yet, so members cannot find each other by it.
    Address(String),
}

/// One node that is to be started.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LocalNode<'a> {
    /// Its name, number and ports.
    pub at: &'a NodeAddress,
    /// Its directory for data. It is there, only this user can read it, and it is the same at each start.
    pub data: &'a Path,
    /// All nodes of the cluster with their ports, this one included, by number. A port that a node picks itself is missing
    /// until it has printed it.
    pub all: &'a [NodeAddress],
}

impl LocalNode<'_> {
    /// Host and port of its own port called `name`, such as `127.0.0.1:40000`.
    ///
    /// # Errors
    ///
    /// It has no port of that name; the text lists those of [`NodeProgram::ports`].
    pub fn port(&self, name: &str) -> Result<&str, DynError> {
        self.at.port(name).ok_or_else(|| {
            let names: Vec<&str> = self.at.ports.keys().map(String::as_str).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            format!("{} has no port called {name:?}: `ports` names {names}", self.at.node).into()
        })
    }

    /// The number of its own port called `name`.
    ///
    /// # Errors
    ///
    /// As [`port`](Self::port), and if the address of a [`Readiness::Address`] has no number.
    pub fn port_number(&self, name: &str) -> Result<u16, DynError> {
        let address = self.port(name)?;
        let number = address.rsplit_once(':').and_then(|(_, number)| number.parse().ok());
        number.ok_or_else(|| {
            format!("the port {name:?} of {} is {address:?}: give it as `host:number`", self.at.node).into()
        })
    }
}
