//! Programs that end when their parent does, however that ends.

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

/// Runs a program as long as its parent lives: `$1` is the parent's id, `$2` the parent's lifeline, the rest is the
/// program.
///
/// What it says of errors is read too. `setpriv` has asked the kernel for the signal before the shell looks who the
/// parent is, so that one that died in between is seen.
///
/// The signal reaches the program and not its children. For them a guard sits in the same process group, which
/// reads the lifeline: that ends with the parent. It is there before the program is, and no child of it, which may
/// wait for all it has; it is killed with the group when the program ends.
const WHILE_PARENT_LIVES: &str = r#"exec 2>&1
[ "$PPID" = "$1" ] || exit 1
if [ -r "/proc/$1/fd/$2" ]; then
    exec 9<"/proc/$1/fd/$2"
    ( { read -r line; kill -KILL 0; } <&9 9<&- >&- 2>&- & )
    exec 9<&-
fi
shift 2
exec "$@""#;

/// What the variables are called that bring the values of the program's as far as `env`; a number follows.
const CARRIER: &str = "WATCHKEEPER_PROCESS_VALUE_";

/// Where programs are looked for if `PATH` is not set.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Runs `program` by way of `setpriv`, so that the kernel kills it when this process ends, however it ends.
///
/// For programs that do not see to that themselves. Its arguments, its directory and the variables that are set or
/// removed one by one are kept; where it has a directory, a relative path to the program begins there. Standard input
/// is empty, and errors go where the output goes. All else is not kept, since a [`Command`] does not say: that
/// [`env_clear`](Command::env_clear) was called, other streams, and what `CommandExt` adds.
///
/// `setpriv` (Debian: util-linux), `sh` and, if there are variables, `env` (coreutils 8.30 or later) are those of this
/// process's `PATH` and run with this process's variables; the program is looked for in its own `PATH`. One with a `=`
/// in its name cannot be run by `env`: its variables are then those of `setpriv` and `sh` as well. The values of
/// variables are in no command line, where every user could read them.
///
/// # What is left
///
/// The command has a process group of its own. When this process ends, the kernel kills the program, and a guard
/// kills what else is in the group: the children of a shell that does not `exec`. Left is what has moved to another
/// group (by `setsid` or `setpgid`), what runs as another user, and, where `/proc` is hidden from the guard, the
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
        command.current_dir(directory);
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
    command.arg(program.get_program()).args(program.get_args());
    command
}

/// Whether `env` would take the program for one more variable: it has a `=` in its name.
fn is_assignment(program: &Command) -> bool {
    program.get_program().as_encoded_bytes().contains(&b'=')
}

/// Sets the variables of the program, and runs nothing else with them: `LD_PRELOAD`, `LD_LIBRARY_PATH` and `PATH` are
/// for the program, and would be for `setpriv` and the shell as well.
///
/// Every user can read a command line and not an environment, so that no value is an argument: each is in a variable
/// with another name until `env` expands that.
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

/// As `env -S` takes it for one word, whatever is in it.
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

/// The descriptor of a pipe that nobody writes to, and that only this process could: it ends with us.
fn lifeline() -> String {
    static LIFELINE: OnceLock<io::Result<(PipeReader, PipeWriter)>> = OnceLock::new();
    match LIFELINE.get_or_init(io::pipe) {
        Ok((reader, _)) => reader.as_raw_fd().to_string(),
        // Out of descriptors: the kernel's signal alone is left.
        Err(_) => "none".to_owned(),
    }
}

/// The file of a program, by our own `PATH`: the one that the program is given may lead elsewhere.
fn found(program: &str) -> PathBuf {
    let path = env::var_os("PATH");
    let path = path.as_deref().filter(|path| !path.is_empty()).unwrap_or(OsStr::new(DEFAULT_PATH));
    let mut files = env::split_paths(path).chain(env::split_paths(DEFAULT_PATH)).map(|dir| dir.join(program));
    let runs = |file: &PathBuf| {
        let is_program = |file: std::fs::Metadata| file.is_file() && file.permissions().mode() & 0o111 != 0;
        // A relative entry of `PATH` would lead elsewhere from the program's directory.
        file.is_absolute() && file.metadata().is_ok_and(is_program)
    };
    // One that is nowhere is named by the error of the start.
    files.find(runs).unwrap_or_else(|| PathBuf::from("/usr/bin").join(program))
}
