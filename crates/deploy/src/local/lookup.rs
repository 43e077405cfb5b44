//! Whether the program of a command is there: what runs it would only print that it is not.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Why the program of `command` cannot be run; `None` if it can.
pub(super) fn problem(command: &Command) -> Option<&'static str> {
    let program = command.get_program();
    if program.as_encoded_bytes().contains(&b'/') {
        // A relative path begins in the directory of the command.
        let from = command.get_current_dir().unwrap_or(Path::new(""));
        return problem_of(&from.join(program));
    }
    let own =
        command.get_envs().find(|(name, _)| *name == "PATH").map(|(_, value)| value.map(OsStr::to_owned));
    let path = own.unwrap_or_else(|| env::var_os("PATH")).unwrap_or_else(|| "/usr/bin:/bin".into());
    let mut found = env::split_paths(&path).map(|directory: PathBuf| problem_of(&directory.join(program)));
    if found.any(|problem| problem.is_none()) {
        return None;
    }
    Some("it is in no directory of PATH: install it, or name its path")
}

fn problem_of(file: &Path) -> Option<&'static str> {
    match fs::metadata(file) {
        Err(_) => Some("there is no such file: build or install it, or name another path"),
        Ok(found) if found.is_dir() => Some("it is a directory: name the program in it"),
        Ok(found) if found.permissions().mode() & 0o111 == 0 => Some("it is not executable: chmod +x"),
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_as_the_system_finds_it() {
        let with_path = |path: &str| {
            let mut command = Command::new("sh");
            command.env("PATH", path);
            command
        };
        let mut relative = Command::new("./sh");
        relative.current_dir("/bin");
        for runs in [Command::new("sh"), Command::new("/bin/sh"), with_path("/nowhere:/bin"), relative] {
            assert_eq!(problem(&runs), None, "{runs:?}");
        }
        let cases = [
            (Command::new("/nowhere/sh"), "no such file"),
            (Command::new("/bin/"), "a directory"),
            (Command::new("/etc/passwd"), "not executable"),
            (Command::new("watchkeeper-no-such-program"), "no directory of PATH"),
            (with_path("/nowhere"), "no directory of PATH"),
        ];
        for (command, words) in cases {
            let found = problem(&command);
            assert!(found.is_some_and(|found| found.contains(words)), "{command:?}: {found:?}");
        }
    }
}
