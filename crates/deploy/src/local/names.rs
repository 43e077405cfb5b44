//! The names of nodes and ports, and what else can be checked before the first node starts.

use std::collections::BTreeSet;

use watchkeeper_scenario::Application;

use super::{NodeProgram, Readiness};

/// How many nodes a cluster has at most.
pub(super) const MOST: u64 = 64;
/// How long a name is at most.
const LONGEST: usize = 64;

/// The names of the nodes, or what is wrong with the deployment.
pub(super) fn all<A: Application>(
    program: &dyn NodeProgram<A>,
    deployment: &A::Deployment,
) -> Result<Vec<String>, String> {
    let nodes = program.nodes(deployment);
    if !(1..=MOST).contains(&nodes) {
        return Err(format!(
            "a local cluster has 1 to {MOST} nodes, and this one {nodes}: change the number"
        ));
    }
    let mut ports = BTreeSet::new();
    for port in program.ports() {
        if !ports.insert(port) {
            return Err(format!("two ports of a node are called {port:?}: give each its own name"));
        }
    }
    if let Readiness::Line(mark) | Readiness::Address(mark) = program.readiness()
        && mark.contains('\n')
    {
        return Err(format!(
            "the mark {mark:?} of `readiness` has a line break, and no line has one: use a part of one line"
        ));
    }
    let names: Vec<String> = (1..=nodes).map(|number| program.name(number)).collect();
    let mut distinct = BTreeSet::new();
    for name in &names {
        if let Some(problem) = problem(name) {
            return Err(problem);
        }
        if !distinct.insert(name) {
            return Err(format!("two nodes are called {name:?}: give each its own name"));
        }
    }
    Ok(names)
}

/// What is wrong with the name of a node, which is also that of its directory.
pub(super) fn problem(name: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_name =
        !name.is_empty() && name.len() <= LONGEST && name.chars().all(is_plain) && !name.starts_with('.');
    (!is_name).then(|| {
        format!(
            "no node can be called {name:?}: use letters, digits, `-`, `_` and `.`, at most {LONGEST}, and no `.` first"
        )
    })
}
