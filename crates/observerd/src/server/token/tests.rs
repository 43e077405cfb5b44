use tempfile::tempdir;

use super::*;

const TEXT: &str = "0123456789abcdef";

fn written(directory: &Path, text: &[u8], mode: u32) -> PathBuf {
    let path = directory.join(TOKEN_FILE);
    let _ = fs::remove_file(&path);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn tokens_as_text() {
    for text in [TEXT, &"x".repeat(4_096), "!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~"] {
        let token = Token::new(text).unwrap();
        assert!(token.is(text.as_bytes()));
        assert!(!token.is(&text.as_bytes()[1..]));
        assert!(!token.is(b""));
    }
    for text in
        ["", "short", &"x".repeat(4_097), "0123456789 abcdef", "0123456789abcdef\n", "0123456789abcdé1"]
    {
        let error = Token::new(text).unwrap_err().to_string();
        assert!(error.contains("must be 16 to 4096 visible ASCII characters"), "{error}");
        assert!(!error.contains("0123"), "{error}");
    }
    let error = Token::from_environment(OsStr::new("short")).unwrap_err();
    assert!(error.to_string().starts_with("OBSERVERD_TOKEN must be"), "{error}");
}

#[test]
fn nothing_prints_a_token() {
    assert_eq!(format!("{:?}", Token::new(TEXT).unwrap()), "Token(..)");
}

#[test]
fn files_of_tokens() {
    let directory = tempdir().unwrap();
    for text in [TEXT.to_owned(), format!("{TEXT}\n"), format!("{TEXT}\r\n")] {
        let path = written(directory.path(), text.as_bytes(), 0o600);
        assert!(Token::from_file(&path).unwrap().is(TEXT.as_bytes()), "{text:?}");
    }
    let bad = [
        String::new(),
        "\n".to_owned(),
        format!("{TEXT}\n\n"),
        format!(" {TEXT}"),
        format!("{}\r\n", "x".repeat(4_097)),
    ];
    for text in bad {
        let path = written(directory.path(), text.as_bytes(), 0o600);
        assert!(matches!(Token::from_file(&path), Err(TokenError::Invalid { .. })), "{text:?}");
    }
    let path = written(directory.path(), b"\xff\xfe0123456789abcdef", 0o600);
    assert!(matches!(Token::from_file(&path), Err(TokenError::Invalid { .. })));
    let longest = format!("{}\r\n", "x".repeat(4_096));
    assert!(Token::from_file(&written(directory.path(), longest.as_bytes(), 0o600)).is_ok());
    // A directory, and no file.
    assert!(matches!(Token::from_file(directory.path()), Err(TokenError::Read { .. })));
    assert!(matches!(Token::from_file(&directory.path().join("none")), Err(TokenError::Read { .. })));
}

#[test]
fn modes_of_files() {
    let directory = tempdir().unwrap();
    for (mode, is_named, is_own) in [
        (0o600, true, true),
        (0o400, true, true),
        (0o640, true, false),
        (0o644, true, false),
        (0o660, false, false),
        (0o602, false, false),
    ] {
        let path = written(directory.path(), TEXT.as_bytes(), mode);
        assert_eq!(Token::from_file(&path).is_ok(), is_named, "{mode:o}");
        assert_eq!(Token::in_directory(directory.path()).is_ok(), is_own, "{mode:o}");
    }
    let error = Token::in_directory(directory.path()).unwrap_err().to_string();
    assert!(error.contains("(mode 602)") && error.contains("chmod 600"), "{error}");
}

#[test]
fn a_token_is_made_once() {
    let directory = tempdir().unwrap();
    let (token, is_made) = Token::in_directory(directory.path()).unwrap();
    assert!(is_made);
    let path = directory.path().join(TOKEN_FILE);
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!((text.len(), text.ends_with('\n')), (65, true));
    assert!(text.trim_end().bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert!(token.is(text.trim_end().as_bytes()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let (again, is_made) = Token::in_directory(directory.path()).unwrap();
    assert!(!is_made);
    assert!(again.is(text.trim_end().as_bytes()));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn processes_that_make_a_token_at_once_have_the_same() {
    let directory = tempdir().unwrap();
    let made: usize = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| Token::in_directory(directory.path()).unwrap())).collect();
        let tokens: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        let text = fs::read_to_string(directory.path().join(TOKEN_FILE)).unwrap();
        assert!(tokens.iter().all(|(token, _)| token.is(text.trim_end().as_bytes())));
        tokens.iter().filter(|(_, is_made)| *is_made).count()
    });
    assert_eq!(made, 1);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_directory_that_is_not_there_is_an_error() {
    let error = Token::in_directory(Path::new("/nonexistent/observerd")).unwrap_err();
    assert!(error.to_string().contains("set OBSERVERD_TOKEN or token_file"), "{error}");
}

#[test]
fn a_link_to_nothing_is_not_replaced() {
    let directory = tempdir().unwrap();
    std::os::unix::fs::symlink("nowhere", directory.path().join(TOKEN_FILE)).unwrap();
    assert!(matches!(Token::in_directory(directory.path()), Err(TokenError::Read { .. })));
}

#[test]
fn a_link_to_a_token_is_not_followed_in_the_directory() {
    let directory = tempdir().unwrap();
    let elsewhere = tempdir().unwrap();
    let path = written(elsewhere.path(), TEXT.as_bytes(), 0o600);
    std::os::unix::fs::symlink(path, directory.path().join(TOKEN_FILE)).unwrap();
    assert!(matches!(Token::in_directory(directory.path()), Err(TokenError::Read { .. })));
    // A person may name a link, such as a container's secret.
    assert!(Token::from_file(&directory.path().join(TOKEN_FILE)).is_ok());
}

#[test]
fn a_directory_that_others_may_write_is_refused_and_one_with_a_new_token_is_tightened() {
    let directory = tempdir().unwrap();
    let mode = |mode| fs::set_permissions(directory.path(), Permissions::from_mode(mode)).unwrap();
    written(directory.path(), TEXT.as_bytes(), 0o600);
    for (bits, is_refused) in [(0o700, false), (0o755, false), (0o775, true), (0o757, true), (0o1777, true)] {
        mode(bits);
        let error = Token::in_directory(directory.path()).err();
        assert_eq!(matches!(error, Some(TokenError::Directory { .. })), is_refused, "{bits:o}: {error:?}");
        assert_eq!(error.is_some(), is_refused);
    }
    fs::remove_file(directory.path().join(TOKEN_FILE)).unwrap();
    mode(0o2775);
    assert!(Token::in_directory(directory.path()).unwrap().1);
    assert_eq!(fs::metadata(directory.path()).unwrap().mode() & 0o7777, 0o2755);
}

#[test]
fn a_token_of_another_user_is_refused() {
    let directory = tempdir().unwrap();
    let path = written(directory.path(), TEXT.as_bytes(), 0o600);
    // Only root can give a file away; with another user this checks what is its own.
    let is_given = std::os::unix::fs::chown(&path, Some(12_345), None).is_ok();
    let found = Token::in_directory(directory.path());
    assert_eq!(matches!(found, Err(TokenError::Owner { user: 12_345, .. })), is_given);
    assert_eq!(found.is_ok(), !is_given);
}
