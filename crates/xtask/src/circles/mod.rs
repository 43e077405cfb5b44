//! Circles of imports between the modules of a crate.
//!
//! A module is a file, and a name counts as imported from the module that defines it, however many modules re-export it.
//! What a module takes from one above or below it in the tree (`crate`, `super`, its own children) does not count: they
//! are declared together.
//!
//! Read are the paths of `use` and of code, also inside macros. Tests (`cfg(test)` and the files of such modules),
//! comments, documentation and strings are not read.

mod components;
mod error;
mod modules;
mod names;
mod paths;
#[cfg(test)]
mod tests;
mod workspace;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use error::SourceError;
use modules::Tree;
pub(crate) use workspace::of_workspace;

/// The files of a crate: each one's path from the workspace's root, and its text.
pub(crate) type Sources = BTreeMap<String, String>;

/// Modules of which each imports from the next, and the last from the first.
#[derive(Debug)]
pub(crate) struct Circle {
    /// The crate's root file.
    root: String,
    modules: BTreeSet<String>,
    /// Every import between two of the modules, by its first mention.
    imports: BTreeSet<Import>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Import {
    from: String,
    to: String,
    file: String,
    line: usize,
    path: String,
}

/// The circles of the crate whose root file is `root`, in the order of their modules' names.
pub(crate) fn find(root: &str, sources: &Sources) -> Result<Vec<Circle>, SourceError> {
    let tree = Tree::read(root, sources)?;
    let mut first = BTreeMap::new();
    for mention in &tree.mentions {
        let from = tree.modules[mention.module].file;
        let Some(to) = names::file_of(&tree, mention.module, &mention.path) else { continue };
        if !tree.is_above(from, to) && !tree.is_above(to, from) {
            first.entry((from, to)).or_insert(mention);
        }
    }
    let edges: BTreeSet<(usize, usize)> = first.keys().copied().collect();
    let circle = |members: BTreeSet<usize>| Circle {
        root: root.to_owned(),
        imports: first
            .iter()
            .filter(|((from, to), _)| members.contains(from) && members.contains(to))
            .map(|((from, to), mention)| Import {
                from: tree.files[*from].name.clone(),
                to: tree.files[*to].name.clone(),
                file: tree.files[*from].path.clone(),
                line: mention.line,
                path: mention.path.join("::"),
            })
            .collect(),
        modules: members.iter().map(|file| tree.files[*file].name.clone()).collect(),
    };
    let mut circles: Vec<Circle> = components::circles(&edges).into_iter().map(circle).collect();
    circles.sort_by(|one, other| one.modules.cmp(&other.modules));
    Ok(circles)
}

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let modules: Vec<&str> = self.modules.iter().map(String::as_str).collect();
        write!(f, "{}: {} modules import in a circle: {}", self.root, modules.len(), modules.join(", "))?;
        for Import { from, to, file, line, path } in &self.imports {
            write!(f, "\n  {from} -> {to}  {file}:{line}: {path}")?;
        }
        Ok(())
    }
}
