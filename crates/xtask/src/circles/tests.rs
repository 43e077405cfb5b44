use super::*;

/// Paths below `src`, and texts.
type Files = &'static [(&'static str, &'static str)];

/// A crate of these files in `src`.
fn sources(files: &[(&str, &str)]) -> Sources {
    files.iter().map(|(path, text)| (format!("src/{path}"), (*text).to_owned())).collect()
}

/// The circles of a library of these files; each one's edges as `from>to file:line path`.
fn circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let found = find("src/lib.rs", &sources(files)).unwrap();
    let edge = |Import { from, to, file, line, path }: &Import| {
        format!("{from}>{to} {}:{line} {path}", file.strip_prefix("src/").unwrap())
    };
    found.iter().map(|circle| circle.imports.iter().map(edge).collect()).collect()
}

/// Whether `a`, of this text, imports from `b`, which imports from `a`.
fn imports_b(a: &str) -> bool {
    let files =
        [("lib.rs", "mod a; mod b; pub use b::Re;"), ("a.rs", a), ("b.rs", "use crate::a; pub struct Re;")];
    match &circles(&files)[..] {
        [] => false,
        [edges] => {
            assert_eq!(edges.len(), 2, "{edges:?}");
            true
        }
        more => panic!("{more:?}"),
    }
}

#[test]
fn each_way_to_write_an_import_counts() {
    let cases = [
        "use crate::b;",
        "use crate::b::B;",
        "use crate::b::*;",
        "use crate::b::B as Other;",
        "use crate::b::B as _;",
        "use crate::{b::{self, B}};",
        "use crate::{other, b::{deep::{C, D}, B}};",
        "use super::b::B;",
        "use super::{b};",
        "use self::super::b::B;",
        "fn f() { crate::b::f() }",
        "fn f() { super::b::f::<u8>() }",
        "fn f(x: &[Option<crate::b::B>]) {}",
        "impl<T: crate::b::Trait> Clone for A<T> {}",
        "fn f() { <u8 as crate::b::Trait>::f() }",
        "fn f(x: u8) { match x { crate::b::LIMIT => {} _ => {} } }",
        "fn f() { fn g() { use crate::b::B; } }",
        "mod inner { use super::super::b::B; }",
        "fn f() { crate::b::made!() }",
        // The crate re-exports it from there.
        "use crate::Re;",
        "use super::Re;",
        "use super::*; fn f(x: Re) {}",
        "use crate as this; fn f(x: this::Re) {}",
        // Tokens.
        r#"fn f() { format!("{}", crate::b::f()) }"#,
        "fn f(x: u8) -> bool { matches!(x, 0..crate::b::LIMIT | 7) }",
        "fn f() { tokio::select! { x = crate::b::f() => {} } }",
        "macro_rules! m { ($x:expr) => { $crate::b::f($x) }; }",
        "use crate::b as c; fn f() { vec![c::f()]; }",
        "#[derive(crate::b::Derive)] struct A;",
        // Not for tests alone.
        "#[cfg(not(test))] use crate::b::B;",
        "#[cfg(any(test, unix))] use crate::b::B;",
        "#[cfg(watchkeeper_loom)] use crate::b::B;",
    ];
    for text in cases {
        assert!(imports_b(text), "{text}");
    }
}

#[test]
fn what_is_no_import_does_not_count() {
    let cases = [
        "// use crate::b::B;",
        "/// See [`crate::b::B`].\n struct A;",
        "//! crate::b::B",
        r#"const B: &str = "crate::b::B";"#,
        r#"fn f() { format!("crate::b::B {b}") }"#,
        "pub(in crate::b) struct A;",
        "use ::b::B;",
        "use b::B;",
        "use other::b::B;",
        "fn f(b: u8) -> u8 { b.b() }",
        "fn f() { other::b::f(); vec![x.b, other::b]; }",
        "#[cfg(test)] use crate::b::B;",
        "#[cfg(test)] mod tests { use crate::b::B; }",
        "#[cfg(all(test, unix))] mod tests { use crate::b::B; }",
        "#[cfg(any(test, all(test, unix)))] fn f() { crate::b::f() }",
        "#[test] fn f() { crate::b::f() }",
        "#[tokio::test] async fn f() { crate::b::f() }",
        "impl A { #[cfg(test)] fn f() { crate::b::f() } }",
        "struct A { #[cfg(test)] b: crate::b::B }",
        "fn f() { #[cfg(test)] let b = crate::b::f(); }",
        "#![cfg(test)] use crate::b::B;",
    ];
    for text in cases {
        assert!(!imports_b(text), "{text}");
    }
}

#[test]
fn a_module_is_a_file_and_its_parents_do_not_count() {
    let cases: [(&str, Files, &[&[&str]]); 8] = [
        (
            "the crate and its modules",
            &[("lib.rs", "mod a; pub use a::A; pub struct L; fn f() { a::f() }"), ("a.rs", "use crate::L;")],
            &[],
        ),
        (
            "a folder and its children, at any depth",
            &[
                ("lib.rs", "mod a;"),
                ("a/mod.rs", "mod b; use b::c::C; pub struct A;"),
                ("a/b.rs", "pub mod c; use super::A;"),
                ("a/b/c.rs", "use crate::a::A; pub struct C;"),
            ],
            &[],
        ),
        (
            "siblings in a folder, through what the folder re-exports",
            &[
                ("lib.rs", "mod a;"),
                ("a.rs", "mod b; mod c; pub use b::B; pub use self::c::C as Renamed;"),
                ("a/b.rs", "use super::Renamed;\npub struct B;"),
                ("a/c.rs", "\n\npub struct C(super::B);"),
            ],
            &[&["a::b>a::c a/b.rs:1 super::Renamed", "a::c>a::b a/c.rs:3 super::B"]],
        ),
        (
            "a folder's child and a neighbour, through two re-exports",
            &[
                ("lib.rs", "mod a; mod d; pub use a::B;"),
                ("a/mod.rs", "mod b; pub use b::*;"),
                ("a/b.rs", "use crate::d::D; pub struct B;"),
                ("d.rs", "use crate::B; pub struct D;"),
            ],
            &[&["a::b>d a/b.rs:1 crate::d::D", "d>a::b d.rs:1 crate::B"]],
        ),
        (
            "what is re-exported from another crate is of the module that does it",
            &[
                ("lib.rs", "mod a; mod b;"),
                ("a.rs", "pub use serde::Value; use crate::b;"),
                ("b.rs", "use crate::a::Value;"),
            ],
            &[&["a>b a.rs:1 crate::b", "b>a b.rs:1 crate::a::Value"]],
        ),
        (
            "a module that is written out is of its file",
            &[
                ("lib.rs", "mod a; mod b;"),
                ("a.rs", "mod c { pub struct C; } pub mod d { use super::c::C; use crate::b::B; }"),
                ("b.rs", "pub struct B(crate::a::d::D);"),
            ],
            &[&["a>b a.rs:1 crate::b::B", "b>a b.rs:1 crate::a::d::D"]],
        ),
        (
            "an exported macro",
            &[
                ("lib.rs", "mod a; mod b;"),
                ("a.rs", "use crate::b; #[macro_export] macro_rules! m { () => {} }"),
                ("b.rs", "fn f() { crate::m!() }"),
            ],
            &[&["a>b a.rs:1 crate::b", "b>a b.rs:1 crate::m"]],
        ),
        (
            "imports that name each other and nothing else, which no compiler takes",
            &[
                ("lib.rs", "mod a; mod b;"),
                ("a.rs", "pub use crate::b::x;"),
                ("b.rs", "pub use crate::a::x;"),
            ],
            &[],
        ),
    ];
    for (what, files, expected) in cases {
        assert_eq!(circles(files), expected, "{what}");
    }
}

#[test]
fn circles_of_one_crate_are_separate_and_tests_are_in_none() {
    let cases: [(&str, Files, &[&[&str]]); 2] = [
        (
            "two circles, and a module that only leads from one to the other",
            &[
                ("lib.rs", "mod a; mod b; mod c; mod d; mod e; mod f;"),
                ("a.rs", "use crate::b;"),
                ("b.rs", "use crate::c;"),
                ("c.rs", "use crate::{a, d};"),
                ("d.rs", "use crate::e;"),
                ("e.rs", "use crate::f;"),
                ("f.rs", "use crate::e;"),
            ],
            &[
                &["a>b a.rs:1 crate::b", "b>c b.rs:1 crate::c", "c>a c.rs:1 crate::a"],
                &["e>f e.rs:1 crate::f", "f>e f.rs:1 crate::e"],
            ],
        ),
        (
            "the file of a test module, its children, and a file by `#[path]`",
            &[
                ("lib.rs", "#[cfg(test)] mod tests; mod a; #[path = \"x/../y.rs\"] mod b;"),
                ("tests.rs", "mod more; use crate::a;"),
                ("tests/more.rs", "use crate::tests;"),
                ("a.rs", "use crate::b;"),
                ("y.rs", "use crate::a;"),
            ],
            &[&["a>b a.rs:1 crate::b", "b>a y.rs:1 crate::a"]],
        ),
    ];
    for (what, files, expected) in cases {
        assert_eq!(circles(files), expected, "{what}");
    }
}

#[test]
fn a_circle_prints_its_modules_and_where_each_import_is() {
    let files = [("lib.rs", "mod a; mod b;"), ("a.rs", "use crate::b;"), ("b.rs", "\nuse crate::{a::A};")];
    let found = find("src/lib.rs", &sources(&files)).unwrap();
    assert_eq!(
        found[0].to_string(),
        "src/lib.rs: 2 modules import in a circle: a, b\n  \
         a -> b  src/a.rs:1: crate::b\n  \
         b -> a  src/b.rs:2: crate::a::A"
    );
}

#[test]
fn what_cannot_be_read_names_the_file_and_the_place() {
    let error = |files: &[(&str, &str)]| find("src/lib.rs", &sources(files)).unwrap_err();
    let broken = error(&[("lib.rs", "mod a;"), ("a.rs", "use crate::b;\nfn f() { let }")]);
    let SourceError::Syntax { file, line, column, .. } = &broken else { panic!("{broken}") };
    assert_eq!((file.as_str(), *line, *column), ("src/a.rs", 2, 14));
    assert!(broken.to_string().starts_with("src/a.rs:2:14: the file does not parse: "), "{broken}");

    let absent = error(&[("lib.rs", "mod a;"), ("a/mod.rs", "\nmod b;")]);
    let looked_for = ["src/a/b.rs", "src/a/b/mod.rs"].map(str::to_owned).to_vec();
    assert_eq!(
        absent,
        SourceError::NoFile { file: "src/a/mod.rs".to_owned(), line: 2, name: "b".to_owned(), looked_for }
    );
    assert_eq!(error(&[]), SourceError::NoRoot { file: "src/lib.rs".to_owned() });
}
