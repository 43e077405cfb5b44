//! Programs that end with their parent, also when the parent is killed.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Runs a program while its parent lives: `$1` is the parent's id, `$2` the parent's lifeline, the rest is the
/// program.
///
/// Standard error goes to standard output. `setpriv` requests the signal from the kernel before the shell checks the
/// parent's id, so that a parent that died between is noticed.
///
/// The signal reaches the program and not its children. For them a guard in the same process group reads the lifeline,
/// which ends with the parent. The guard starts before the program and is not its child, because a program may wait for
/// all its children. The guard is killed with the group when the program ends.
const WHILE_PARENT_LIVES: &str = r#"exec 2>&1
[ "$PPID" = "$1" ] || exit 1
if [ -r "/proc/$1/fd/$2" ]; then
    exec 9<"/proc/$1/fd/$2"
    ( { read -r line; kill -KILL 0; } <&9 9<&- >&- 2>&- & )
    exec 9<&-
fi
shift 2
exec "$@""#;

/// The prefix of the variables that carry the values of the program's variables to `env`; a number follows.
const CARRIER: &str = "WATCHKEEPER_PROCESS_VALUE_";

/// What std shows in place of a string with a NUL byte, until it refuses that at the start.
const WITH_NUL: &str = "<string-with-nul>";

/// A string of a command, for another command: a NUL byte stays one, so that the start is still refused.
fn kept(string: &OsStr) -> &OsStr {
    if string == WITH_NUL { OsStr::new("\0") } else { string }
}

/// Where programs are searched for if `PATH` is not set.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Runs `program` by `setpriv`, so that the kernel kills it when this process ends in any way.
///
/// For programs that do not do that themselves. Arguments, the directory, and variables that are set or removed one by
/// one are kept; with a directory, a relative path to the program begins there. Standard input is empty, and standard
/// error goes to standard output. Everything that a [`Command`] does not show is lost: a call of
/// [`env_clear`](Command::env_clear), other streams, and the settings of `CommandExt`. A program, an argument or a
/// directory with a NUL byte, or one that is the text `<string-with-nul>`, is refused at the start.
///
/// `setpriv` (Debian: util-linux), `sh` and, if there are variables, `env` (coreutils 8.30 or later) are those of this
/// process's `PATH` and run with this process's variables; the program is searched for in its own `PATH`. `env` cannot
/// run a program with a `=` in its name: then `setpriv` and `sh` get its variables as well. The values of variables are
/// in no command line, where every user could read them.
///
/// # What is left
///
/// The command has its own process group. When this process ends, the kernel kills the program, and a guard kills the
/// rest of the group, such as the children of a shell that does not `exec`. What survives: processes that have moved to
/// another group (by `setsid` or `setpgid`), processes of another user, and, if `/proc` is hidden from the guard, the
/// children. A program that gains privileges by its file (set-user-ID) loses the kernel's signal.
#[must_use]
pub fn while_parent_lives(program: &Command) -> Command {
    let mut command = Command::new(found("setpriv"));
    command
        .args(["--pdeathsig", "KILL"])
        .arg(found("sh"))
        .args(["-c", WHILE_PARENT_LIVES, "sh"])
        .arg(std::process::id().to_string())
        .arg(lifeline())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    if let Some(directory) = program.get_current_dir() {
        command.current_dir(kept(directory.as_os_str()));
    }
    if is_assignment(program) {
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
    } else {
        add_environment(&mut command, program);
    }
    command.arg(kept(program.get_program())).args(program.get_args().map(kept));
    command
}

/// Whether `env` would read the program as a variable, because its name has a `=`.
fn is_assignment(program: &Command) -> bool {
    program.get_program().as_encoded_bytes().contains(&b'=')
}

/// Sets the variables of the program for the program alone: `setpriv` and the shell must not get its `LD_PRELOAD`,
/// `LD_LIBRARY_PATH` or `PATH`.
///
/// Every user can read a command line, but not an environment, so no value is an argument: each is in a variable
/// with another name until `env` expands it.
fn add_environment(command: &mut Command, program: &Command) {
    let (mut removed, mut set) = (Vec::new(), Vec::new());
    for (number, (name, value)) in program.get_envs().enumerate() {
        let Some(value) = value else {
            removed.extend(b"-u ");
            quote(name, &mut removed);
            removed.push(b' ');
            continue;
        };
        let carrier = format!("{CARRIER}{number}");
        removed.extend(format!("-u {carrier} ").into_bytes());
        quote(name, &mut set);
        set.extend(format!("=${{{carrier}}} ").into_bytes());
        command.env(carrier, value);
    }
    if removed.is_empty() {
        return;
    }
    removed.extend(b"-- ");
    removed.append(&mut set);
    command.arg(found("env")).arg("-S").arg(OsString::from_vec(removed));
}

/// Quotes a name so that `env -S` reads it as one word.
fn quote(name: &OsStr, quoted: &mut Vec<u8>) {
    quoted.push(b'\'');
    for byte in name.as_bytes() {
        if matches!(byte, b'\'' | b'\\') {
            quoted.push(b'\\');
        }
        quoted.push(*byte);
    }
    quoted.push(b'\'');
}

/// The descriptor of a pipe that only this process could write to, and never does: the pipe ends with this process.
fn lifeline() -> String {
    static LIFELINE: OnceLock<io::Result<(PipeReader, PipeWriter)>> = OnceLock::new();
    match LIFELINE.get_or_init(io::pipe) {
        Ok((reader, _)) => reader.as_raw_fd().to_string(),
        // Without a free descriptor, only the kernel's signal is left.
        Err(_) => "none".to_owned(),
    }
}

/// The file of a program in this process's `PATH`: that of the started program may lead elsewhere.
fn found(program: &str) -> PathBuf {
    let path = env::var_os("PATH");
    let path = path.as_deref().filter(|path| !path.is_empty()).unwrap_or(OsStr::new(DEFAULT_PATH));
    let mut files = env::split_paths(path).chain(env::split_paths(DEFAULT_PATH)).map(|dir| dir.join(program));
    let runs = |file: &PathBuf| {
        let is_program = |file: std::fs::Metadata| file.is_file() && file.permissions().mode() & 0o111 != 0;
        // A relative entry of `PATH` would lead elsewhere from the program's directory.
        file.is_absolute() && file.metadata().is_ok_and(is_program)
    };
    // The error of the start names a missing file.
    files.find(runs).unwrap_or_else(|| PathBuf::from("/usr/bin").join(program))
}
