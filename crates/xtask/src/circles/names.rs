//! Where a path leads: to the module that defines what it names.

use super::modules::{Name, Tree};

/// Imports that name each other end the search.
const MOST_IMPORTS: usize = 32;

#[derive(Debug, Clone, Copy)]
enum Target {
    Module(usize),
    /// Something that this module defines, or takes from another crate.
    ItemOf(usize),
}

/// The file that defines what `path` names in `module`; `None` for what is of no module of this crate.
pub(super) fn file_of(tree: &Tree, module: usize, path: &[String]) -> Option<usize> {
    let (Target::Module(module) | Target::ItemOf(module)) = resolve(tree, module, path, MOST_IMPORTS)?;
    Some(tree.modules[module].file)
}

fn resolve(tree: &Tree, module: usize, path: &[String], imports: usize) -> Option<Target> {
    let mut segments = path.iter().map(String::as_str).peekable();
    let mut current = module;
    let mut is_rooted = false;
    loop {
        match *segments.peek()? {
            "crate" => current = 0,
            "self" => {}
            "super" => current = tree.modules[current].parent?,
            _ => break,
        }
        is_rooted = true;
        segments.next();
        if segments.peek().is_none() {
            return Some(Target::Module(current));
        }
    }
    for segment in segments {
        current = match lookup(tree, current, segment, imports) {
            Some(Target::Module(child)) => child,
            Some(item) => return Some(item),
            // What a macro makes, or what is behind another crate's glob.
            None if is_rooted => return Some(Target::ItemOf(current)),
            None => return None,
        };
        is_rooted = true;
    }
    Some(Target::Module(current))
}

fn lookup(tree: &Tree, module: usize, name: &str, imports: usize) -> Option<Target> {
    let imports = imports.checked_sub(1)?;
    let here = &tree.modules[module];
    match here.names.get(name) {
        Some(Name::Module(child)) => Some(Target::Module(*child)),
        Some(Name::Item) => Some(Target::ItemOf(module)),
        Some(Name::Import(path)) => {
            Some(resolve(tree, module, path, imports).unwrap_or(Target::ItemOf(module)))
        }
        None => here.globs.iter().find_map(|path| match resolve(tree, module, path, imports)? {
            Target::Module(other) => lookup(tree, other, name, imports),
            // The variants of an enum.
            Target::ItemOf(_) => None,
        }),
    }
}
