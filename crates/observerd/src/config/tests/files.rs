//! Files, flags, and what paths name.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::super::{Config, ConfigError, Flags, MAX_FILE, load, read};

/// A directory with a file of settings.
fn file(content: impl AsRef<[u8]>) -> (TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("observerd.toml");
    fs::write(&path, content).unwrap();
    (directory, path)
}

/// The lines of the error, without the directory.
fn lines(path: &Path, result: Result<Config, ConfigError>) -> Vec<String> {
    let text = result.unwrap_err().to_string();
    let directory = format!("{}/", path.parent().unwrap().display());
    text.lines().map(|line| line.replace(&directory, "")).collect()
}

#[test]
fn a_file_that_cannot_be_read_is_another_error_than_a_wrong_one() {
    let (directory, path) = file("");
    assert_eq!(read(&path).unwrap(), Config::default());
    for path in [directory.path().to_owned(), directory.path().join("missing.toml"), path.join("below")] {
        let error = read(&path).unwrap_err();
        assert!(matches!(error, ConfigError::Unreadable { .. }), "{error}");
        assert!(error.to_string().contains("check that it is there"), "{error}");
    }
}

#[test]
fn lines_of_findings_begin_with_the_file() {
    let (_directory, path) = file("[observerd]\nbnid = 1\nbind = 2\n");
    assert_eq!(
        lines(&path, read(&path)),
        [
            "observerd.toml:2:1: problem: unknown key `observerd.bnid`: did you mean `observerd.bind`?",
            "observerd.toml:3:8: problem: `observerd.bind` must be a string in quotation marks, and is a number",
        ]
    );
}

#[test]
fn twenty_findings_are_shown_and_the_others_counted() {
    let (_directory, path) = file((0..33).map(|n| format!("k{n} = 1")).collect::<Vec<_>>().join("\n"));
    let lines = lines(&path, read(&path));
    assert_eq!(lines.len(), 21);
    assert_eq!(lines[20], "observerd.toml: 13 further problems are not shown: fix these first");
}

#[test]
fn other_bytes_than_utf_8_have_their_place() {
    let (_directory, path) = file(b"# ok\n\xc3\xa9 \xff\n");
    assert_eq!(
        lines(&path, read(&path)),
        ["observerd.toml:2:3: problem: byte 8 is not UTF-8: save the file as UTF-8"]
    );
    let (_directory, path) = file(b"\xff\xfe[\0o\0");
    assert_eq!(
        lines(&path, read(&path)),
        ["observerd.toml:1:1: problem: byte 0 is not UTF-8: save the file as UTF-8"]
    );
}

#[test]
fn a_file_over_the_limit_is_refused() {
    let most = usize::try_from(MAX_FILE).unwrap();
    let (_directory, path) = file(vec![b'\n'; most]);
    assert!(read(&path).is_ok());
    let (_directory, path) = file(vec![b'\n'; most + 1]);
    assert_eq!(
        lines(&path, read(&path)),
        ["observerd.toml: problem: the file is over 1 MiB, and no file of settings: give another one"]
    );
    #[cfg(target_os = "linux")]
    assert!(read("/dev/zero").unwrap_err().to_string().contains("over 1 MiB"));
}

#[test]
fn paths_are_checked_for_what_they_name() {
    let (directory, path) = file("");
    let place = directory.path().display();
    fs::write(directory.path().join("ops.jsonl"), "{}\n").unwrap();
    fs::write(directory.path().join("empty"), "").unwrap();
    let cases = [
        (
            format!("persist_path = '{place}/ops.jsonl'"),
            "`observerd.persist_path` names a file, and must name a directory. For the JSON lines of the replaced \
             system: import them into a new directory with `observerd import FILE --data DIR`, and set DIR here",
        ),
        (
            format!("persist_path = '{place}/ops.jsonl/data'"),
            "`observerd.persist_path` is below a file: each part but the last must be a directory",
        ),
        (
            format!("token_file = '{place}'"),
            "`observerd.token_file` names a directory: give a file that has the token alone",
        ),
        (
            format!("token_file = '{place}/none'"),
            "`observerd.token_file` names no file: write the token into it, or remove the key, and a token is generated",
        ),
        (
            format!("token_file = '{place}/empty'"),
            "`observerd.token_file` names an empty file: write the token into it",
        ),
        (
            format!("corrections.path = '{place}'"),
            "`observerd.corrections.path` names a directory: give the file of JSON lines",
        ),
    ];
    for (setting, wanted) in cases {
        fs::write(&path, format!("[observerd]\n{setting}\n")).unwrap();
        let found = lines(&path, read(&path));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].ends_with(wanted), "{found:?}");
        assert!(found[0].starts_with("observerd.toml:2:"), "{found:?}");
    }
    let fine =
        format!("[observerd]\npersist_path = '{place}/new'\ncorrections.path = '{place}/later.jsonl'\n");
    fs::write(&path, fine).unwrap();
    assert!(read(&path).is_ok());
    assert!(!directory.path().join("new").exists());
}

#[test]
fn flags_win_over_the_file() {
    let (directory, path) = file("[observerd]\nbind = \"0.0.0.0:1\"\nauth = \"loopback-open\"\n");
    let listen = |address: &str| Flags { listen: Some(address.parse().unwrap()), ..Flags::default() };
    let config = load(Some(&path), &listen("127.0.0.1:7")).unwrap();
    assert_eq!(config.observerd.bind.port(), 7);
    fs::write(&path, "[observerd]\nauth = \"loopback-open\"\n").unwrap();
    assert!(
        lines(&path, load(Some(&path), &listen("0.0.0.0:7")))[0].starts_with("observerd.toml:2:8: problem: ")
    );
    // Without a file, and with what only a flag has set.
    let data = Flags { data_dir: Some(path.clone()), ..Flags::default() };
    let text = load(None, &data).unwrap_err().to_string();
    assert!(text.starts_with("--data-dir: problem: `observerd.persist_path` names a file"), "{text}");
    let data = Flags { data_dir: Some(directory.path().into()), ..Flags::default() };
    assert_eq!(load(None, &data).unwrap().observerd.persist_path, directory.path());
    assert_eq!(load(None, &Flags::default()).unwrap(), Config::default());
}

/// A path of a flag need not be UTF-8, and hides nothing else.
#[cfg(unix)]
#[test]
fn a_path_that_is_not_utf_8_is_taken() {
    use std::os::unix::ffi::OsStrExt;
    let (directory, path) = file("[observerd]\nsegments = 1\n");
    let odd = directory.path().join(std::ffi::OsStr::from_bytes(b"\xff"));
    let flags = Flags { data_dir: Some(odd.clone()), ..Flags::default() };
    assert!(lines(&path, load(Some(&path), &flags))[0].contains("segments"));
    assert_eq!(load(None, &flags).unwrap().observerd.persist_path, odd);
}
