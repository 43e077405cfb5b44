//! The first observer is the same on the README and on the front page of the docs, where it runs against listeners.

const README: &str = include_str!("../../README.md");
const DOCS: &str = include_str!("../../docs/first_observer.md");

/// What is shown of the blocks of the section, without what opens them and without hidden lines.
fn shown(text: &str) -> Vec<&str> {
    let section = text.split("# A first observer\n").nth(1).unwrap();
    let mut blocks = section.split("```");
    let mut shown = Vec::new();
    for block in [blocks.nth(1), blocks.nth(1)] {
        let lines = block.unwrap().lines().skip(1);
        shown.extend(lines.filter(|line| !line.starts_with("# ") && *line != "#"));
    }
    shown
}

#[test]
fn the_readme_s_first_observer_is_the_one_that_runs() {
    let (readme, docs) = (shown(README), shown(DOCS));
    assert_eq!(readme, docs);
    assert!(readme.len() > 25 && readme[0] == "[dependencies]", "{readme:?}");
    assert!(
        readme.iter().any(|line| line.contains("TcpStream::connect")),
        "a real port is asked: {readme:?}"
    );
}
