use super::list::{Entry, Exception};
use super::*;

const SMALL: &str = "\
# A list

## Words

| not | but |
|---|---|
| tell, told | emit |
| in a row | consecutive |

## Exceptions

| files | word | reason |
|---|---|---|
| docs/*.md | * | a list |
| src/a.rs | told | a quote |
";

fn small() -> List {
    List::parse(SMALL).unwrap()
}

/// The lines of `text` that have a word of the small list.
fn found(text: &str) -> Vec<String> {
    let mut list = small();
    list.exceptions.clear();
    broken(&list, &[("f".to_owned(), text.to_owned())])
}

#[test]
fn a_word_is_found_in_text_and_in_names() {
    let cases: [(&str, &[&str]); 16] = [
        ("nothing here", &[]),
        ("It is told.", &["f:1: \"told\": write emit"]),
        ("// Tell\n//\n/// TOLD", &["f:1: \"tell\": write emit", "f:3: \"told\": write emit"]),
        ("fn what_is_told_first() {}", &["f:1: \"told\": write emit"]),
        ("struct IsTold; const TOLD_AS: u8;", &["f:1: \"told\": write emit", "f:1: \"told\": write emit"]),
        ("untold, retell, tells, stoller", &[]),
        ("`tell`-tale", &["f:1: \"tell\": write emit"]),
        ("two in a row", &["f:1: \"in a row\": write consecutive"]),
        ("fails_twice_in_a_row", &["f:1: \"in a row\": write consecutive"]),
        ("/// two in\n    /// a row", &["f:1: \"in a row\": write consecutive"]),
        ("//! two in a\n//! row", &["f:1: \"in a row\": write consecutive"]),
        ("> two in a\n> row", &["f:1: \"in a row\": write consecutive"]),
        ("\"two in \\\n   a row\"", &["f:1: \"in a row\": write consecutive"]),
        ("come in. A row", &[]),
        ("in (a) row", &[]),
        ("in any row, in a rowing boat", &[]),
    ];
    for (text, expected) in cases {
        assert_eq!(found(text), expected, "{text}");
    }
}

#[test]
fn an_exception_covers_its_files_and_words_and_one_that_is_not_needed_is_an_error() {
    let files = |all: &[(&str, &str)]| -> Vec<(String, String)> {
        all.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
    };
    let both = files(&[("docs/x/list.md", "told in a row"), ("src/a.rs", "told")]);
    assert_eq!(broken(&small(), &both), [""; 0]);
    let others = files(&[("docs/list.txt", "tell"), ("src/a.rs", "told, and tell"), ("x/docs/a.md", "tell")]);
    assert_eq!(
        broken(&small(), &others),
        [
            "docs/words.md:14: nothing needs this exception: take it out",
            "docs/list.txt:1: \"tell\": write emit",
            "src/a.rs:1: \"tell\": write emit",
            "x/docs/a.md:1: \"tell\": write emit",
        ]
    );
}

#[test]
fn what_is_printed_is_bounded_and_counted() {
    let mut list = small();
    list.exceptions.clear();
    let files = [("src/a.rs", 40), ("crates/x/src/b.rs", 30), ("README.md", 1)]
        .map(|(path, count)| (path.to_owned(), "told\n".repeat(count)));
    let broken = broken(&list, &files);
    assert_eq!(broken.len(), SHOWN + 1);
    assert_eq!(broken[SHOWN], "the first 50 of 71: . 1, crates/x 30, src 40");
}

#[test]
fn a_list_is_two_tables() {
    let entry = |words: &[&str], instead: &str| Entry {
        words: words.iter().map(|&word| word.to_owned()).collect(),
        instead: instead.to_owned(),
    };
    let exception =
        |files: &str, word: &str, line| Exception { files: files.to_owned(), word: word.to_owned(), line };
    let expected = List {
        entries: vec![entry(&["tell", "told"], "emit"), entry(&["in a row"], "consecutive")],
        exceptions: vec![exception("docs/*.md", "*", 14), exception("src/a.rs", "told", 15)],
    };
    assert_eq!(small(), expected);
    let cases = [
        ("", "1: there are no words below"),
        ("## Words\n|a|b|\n|-|-|\n| told |\n", "4: a row of words is"),
        ("## Words\n|a|b|\n|-|-|\n| told | |\n", "4: a row has an empty cell"),
        (
            "## Words\n|a|b|\n|-|-|\n| told | emit |\n| tell, told | emit |\n",
            "5: `told` is in the list twice",
        ),
        (&SMALL.replace("| told |", "| tale |"), "15: `tale` is no word of the list"),
        (&SMALL.replace("| told | a quote", ""), "15: a row of exceptions is"),
    ];
    for (text, expected) in cases {
        let error = List::parse(text).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn the_list_of_the_project_is_read() {
    let text = fs::read_to_string(format!("{}/{LIST}", crate::ROOT)).unwrap();
    let list = List::parse(&text).unwrap();
    assert!(list.entries.iter().any(|entry| entry.words.iter().any(|word| word == "told")));
    assert!(list.exceptions.iter().any(|exception| exception.files == "GLOSSARY.md"));
}
