//! The circles of this workspace.

use std::fs;
use std::path::Path;

use super::{Sources, find};
use crate::workspace;

/// Every circle in the sources of the workspace's packages, as a message.
pub(crate) fn of_workspace() -> Result<Vec<String>, String> {
    let mut broken = Vec::new();
    let (mut roots, mut files) = (0, 0);
    for package in workspace::packages()?.iter().filter(|package| package.is_member) {
        let mut sources = Sources::new();
        for root in &package.roots {
            let folder = Path::new(root).parent().unwrap_or(Path::new(""));
            read(folder, &mut sources)?;
        }
        files += sources.len();
        for root in &package.roots {
            roots += 1;
            match find(root, &sources) {
                Ok(circles) => broken.extend(circles.iter().map(ToString::to_string)),
                Err(error) => broken.push(error.to_string()),
            }
        }
    }
    println!("  {roots} libraries and programs have {files} files and {} circles of imports", broken.len());
    Ok(broken)
}

fn read(folder: &Path, sources: &mut Sources) -> Result<(), String> {
    let unread = |error: std::io::Error| format!("{} cannot be read: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(unread)? {
        let path = entry.map_err(unread)?.path();
        if path.is_dir() {
            read(&path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)
                .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
            sources.insert(path.display().to_string(), text);
        }
    }
    Ok(())
}
