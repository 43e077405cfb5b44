//! The corpus of the fuzz target `recovery`, without the fuzzer: real journals, whole, torn, damaged, with duplicates, and files
//! that are none.
//!
//! `JOURNAL_SEEDS=1 cargo test -p watchkeeper-journal --test journal fuzzed` writes the seeds below. What the fuzzer has found
//! is beside them, in files `found-*`.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use watchkeeper_journal::medium::{Medium, Memory};
use watchkeeper_journal::{Entry, Journal, JournalConfig};

use crate::recovers::recovers;

/// Write the seeds in place of comparing them.
const SEEDS: &str = "JOURNAL_SEEDS";

fn corpus() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/recovery"))
}

type Lines = Vec<Vec<u8>>;

/// The lines of a real journal: two records, one with key and position, a batch of three, two more records.
async fn journal() -> Lines {
    let medium = Arc::new(Memory::default());
    let journal = Journal::open_on(medium.clone(), JournalConfig::default()).await.unwrap();
    let entry = |text: &str| Entry::from_text(text).unwrap();
    let tailed = entry("{\"a\":\"\\\\\\\"\"}").with_key("k\"1").unwrap().with_position("f:1").unwrap();
    for entry in [entry("{\"a\":0}"), entry("{}"), tailed] {
        journal.append(entry).await.unwrap();
    }
    let batch = ["{\"b\":3}", "{\"b\":4}", "{\"b\":5}"].map(entry).to_vec();
    journal.append_batch(batch).await.unwrap();
    for text in ["{\"c\":6.0}", "{\"c\":\"\u{e9}\"}"] {
        journal.append(entry(text)).await.unwrap();
    }
    journal.close().await.unwrap();
    let file = medium.open("00000000000000000000.jsonl", false).unwrap();
    let mut bytes = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
    file.read_at(0, &mut bytes).unwrap();
    bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

fn flipped(mut lines: Lines, line: usize) -> Vec<u8> {
    lines[line][4] ^= 1;
    lines.concat()
}

fn zeroed(mut lines: Lines, from: usize, to: usize) -> Vec<u8> {
    lines[from..to].iter_mut().for_each(|line| line.fill(0));
    lines.concat()
}

/// Names and inputs. `recovers.rs` says what the signs at the begin of a line mean.
async fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let lines = journal().await;
    assert_eq!(lines.len(), 8);
    let whole = lines.concat();
    let cut = |length: usize| whole[..length].to_vec();
    let end = |count: usize| lines[..count].iter().map(Vec::len).sum::<usize>();
    let text = |text: &str| text.as_bytes().to_vec();
    // The same records in three segments.
    let segments = |parts: [&[u8]; 3]| [b"@0\n", parts[0], b"@3\n", parts[1], b"@6\n", parts[2]].concat();
    let parts = [&whole[..end(3)], &whole[end(3)..end(6)], &whole[end(6)..]];
    let torn = &parts[0][..parts[0].len() - 9];
    let without = |place: usize| [&lines[..place], &lines[place + 1..]].concat().concat();
    vec![
        ("whole", whole.clone()),
        ("whole-segments", segments(parts)),
        ("empty", Vec::new()),
        ("empty-segment", text("@50\n")),
        ("empty-newest-segment", [&whole[..], b"@8\n"].concat()),
        ("torn-first-record", cut(end(1) - 7)),
        ("torn-in-the-checksum", cut(end(2) - 4)),
        ("torn-before-the-line-feed", cut(end(3) - 1)),
        ("torn-after-one-of-a-batch", cut(end(4))),
        ("torn-in-a-commit-mark", cut(end(6) - 30)),
        ("torn-after-a-batch", cut(end(6))),
        ("torn-last-record", cut(whole.len() - 20)),
        ("torn-with-zeros", [&cut(end(5))[..], &[0; 600]].concat()),
        ("torn-sealed-segment", segments([torn, parts[1], parts[2]])),
        ("torn-newest-segment", segments([parts[0], parts[1], &parts[2][..9]])),
        ("damaged-first", flipped(lines.clone(), 0)),
        ("damaged-middle", flipped(lines.clone(), 2)),
        ("damaged-batch-first", flipped(lines.clone(), 3)),
        ("damaged-batch-middle", flipped(lines.clone(), 4)),
        ("damaged-commit-mark", flipped(lines.clone(), 5)),
        ("damaged-last", flipped(lines.clone(), 7)),
        ("damaged-batch-at-the-end", flipped(lines[..6].to_vec(), 4)),
        ("damaged-before-an-open-batch", flipped(lines[..5].to_vec(), 2)),
        ("damaged-zeros", zeroed(lines.clone(), 1, 5)),
        ("damaged-sealed-segment", segments([&flipped(lines[..3].to_vec(), 1), parts[1], parts[2]])),
        ("missing-record", without(1)),
        ("missing-in-a-batch", without(4)),
        ("missing-segment", [b"@0\n", parts[0], b"@6\n", parts[2]].concat()),
        ("duplicate-record", [&lines[..2], &lines[1..]].concat().concat()),
        ("duplicate-batch", [&lines[..6], &lines[3..]].concat().concat()),
        ("duplicate-segment", [&whole[..], &whole].concat()),
        ("duplicate-segment-name-of-the-next", segments([&whole, parts[1], parts[2]])),
        ("old-record-at-the-end", [&whole[..], &lines[0]].concat()),
        ("order-reversed", lines.iter().rev().flatten().copied().collect()),
        ("foreign-json-lines", text("{\"op\":\"put\"}\n{\"op\":\"get\"}\n")),
        ("foreign-text", text("@7\n\u{feff}one\r\n\r\ntwo")),
        ("foreign-between", [&cut(end(2))[..], b"{\"op\":\"put\"}\nx\n", &whole[end(2)..]].concat()),
        ("made-not-json", text("+0 {\"a\n+1 {\n+2 {\"a\":1}\n+3 {\"a\":[}\n")),
        (
            "made-tails",
            text("+0 {\"a\":1,\"_wk_p\":\"p\",\"_wk_k\":\"k\"\n+1 {\"_wk_b\":\"x\"\n+2 {\"_wk_n\":1\n"),
        ),
        ("made-gaps", text("+3 {\"a\":1\n+9 {\n@20\n+25 {\"a\":2\n+1000000000000000000 {\n")),
        (
            "made-largest-numbers",
            text("+9223372036854775807 {\n+18446744073709551615 {\n@18446744073709551615\n"),
        ),
        ("made-empty-batch", text("+0 {\"_wk_b\":\"00000000000000000000+000000\"\n+1 {\n")),
        ("made-batch-of-others", text("+0 {\n+4 {\"_wk_b\":\"00000000000000000001+000009\"\n+5 {\n")),
        ("long-line", text("+0 {\"a\":1\n*1100000\n\n+1 {\"a\":2\n*99999\n")),
        ("long-line-at-the-end", text("+0 {\"a\":1\n*1100000\n")),
        ("long-body", text("+0 {\"a\":\"\n+1 {\"a\":\"b\"\n*300000\n+2 {\n@2\n+2 {\n*70000\n+3 {\n")),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_seeds_are_those_of_real_journals() {
    let directory = corpus();
    let writes = std::env::var_os(SEEDS).is_some();
    // A package of the crate comes without it.
    if !writes && !directory.exists() {
        return;
    }
    for (name, input) in seeds().await {
        if writes {
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join(name), &input).unwrap();
        }
        assert!(fs::read(directory.join(name)).unwrap() == input, "{name}: write the seeds again");
    }
}

#[test]
fn each_file_of_the_corpus_is_recovered() {
    let Ok(files) = fs::read_dir(corpus()) else { return };
    for file in files {
        let path = file.unwrap().path();
        let input = fs::read(&path).unwrap();
        // The name is in the output of a test that fails.
        println!("{}", path.display());
        recovers(&input);
    }
}
