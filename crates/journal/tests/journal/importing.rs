//! Importing lines of other programs and of other journals.

use std::error::Error;
use std::fs;
use std::io::{self, Read};

use serde_json::json;
use watchkeeper_journal::{AppendError, Entry, ImportError, Journal, MAX_RECORD, ReadFrom, import};

use crate::common::*;

async fn bodies(journal: &Journal) -> Vec<String> {
    let mut reader = journal.reader(ReadFrom::Oldest).unwrap();
    let mut bodies = Vec::new();
    while let Some(item) = reader.next_existing().await.unwrap() {
        let record = item.record().unwrap();
        assert_eq!(record.batch(), None);
        bodies.push(record.body().to_owned());
    }
    bodies
}

#[tokio::test]
async fn each_line_is_a_record_or_is_counted() {
    let journal = Journal::in_memory(config()).unwrap();
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_RECORD - 8));
    let lines: Vec<Vec<u8>> = vec![
        b"\xef\xbb\xbf{\"a\":1}\r".to_vec(),
        b"".to_vec(),
        b" \t\r".to_vec(),
        b"{\"a\":".to_vec(),
        b"[{}]".to_vec(),
        b"{\"_wk_n\":\"00000000000000000003\",\"_wk_c\":\"00000000\"}".to_vec(),
        b"{\"a\":\"\xff\"}".to_vec(),
        b"{\"a\":\"\0\"}".to_vec(),
        b"\0\0\0".to_vec(),
        long.clone().into_bytes(),
        format!("{long} {{").into_bytes(),
        vec![b'x'; 5_000_000],
        b"\xef\xbb\xbf{}".to_vec(),
        b"{\"a\":1} {\"b\":2}".to_vec(),
        // What is read of it is an object, and white space.
        format!("{{}}{}x", " ".repeat(2_000_000)).into_bytes(),
        b"  {\"a\" : 2 }".to_vec(),
    ];
    let file = lines.join(&b'\n');
    let size = file.len() as u64;
    let report = import(io::Cursor::new(file), &journal).await.unwrap();
    assert_eq!((report.lines, report.bytes, report.imported, report.blank), (16, size, 3, 2));
    assert_eq!((report.first, report.last), (Some(0), Some(2)));
    assert_eq!(report.malformed.first, [4, 13, 14]);
    assert_eq!(report.not_objects.first, [5]);
    assert_eq!(report.reserved.first, [6]);
    assert_eq!(report.not_text.first, [7, 8, 9]);
    assert_eq!(report.too_long.first, [11, 12, 15]);
    assert_eq!(report.skipped(), 11);
    assert_eq!(bodies(&journal).await, ["{\"a\":1}", &long, "{\"a\" : 2 }"]);
}

#[tokio::test]
async fn the_end_of_a_file_may_be_anywhere() {
    for (file, lines, imported, malformed) in [
        ("", 0, 0, 0),
        ("\n", 1, 0, 0),
        ("\u{feff}", 1, 0, 0),
        ("{}", 1, 1, 0),
        ("{}\n", 1, 1, 0),
        ("{}\n{\"a\":", 2, 1, 1),
    ] {
        let journal = Journal::in_memory(config()).unwrap();
        let report = import(file.as_bytes(), &journal).await.unwrap();
        assert_eq!(
            (report.lines, report.imported, report.malformed.count),
            (lines, imported, malformed),
            "{file:?}"
        );
    }
}

#[tokio::test]
async fn the_first_ten_skipped_lines_are_named() {
    let journal = Journal::in_memory(config()).unwrap();
    let report = import(io::Cursor::new("7\n".repeat(1_000)), &journal).await.unwrap();
    assert_eq!(report.not_objects.first, (1..=10).collect::<Vec<_>>());
    let text = "1000 (lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 990 more)";
    assert_eq!(report.not_objects.to_string(), text);
    assert_eq!(report.malformed.to_string(), "0");
}

#[tokio::test]
async fn the_segments_of_another_journal_lose_their_tails_and_keep_keys_and_positions() {
    let directory = directory();
    let other = open(&directory.path().join("other")).await;
    let entry = Entry::new(&json!({ "n": 0 })).unwrap();
    other.append(entry.clone().with_key("k\"\u{1}").unwrap().with_position("17").unwrap()).await.unwrap();
    other.append_batch(vec![entry; 2]).await.unwrap();
    other.append(Entry::from_text("{}").unwrap()).await.unwrap();
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_RECORD - 8));
    let long = Entry::from_text(long).unwrap().with_key(&"\u{1}".repeat(256)).unwrap();
    other.append(long.with_position(&"\u{1}".repeat(1_024)).unwrap()).await.unwrap();
    other.close().await.unwrap();

    let journal = open(&directory.path().join("new")).await;
    append_all(&journal, 0..3).await;
    let segment = fs::File::open(&segments(&directory.path().join("other"))[0]).unwrap();
    let report = import(segment, &journal).await.unwrap();
    assert_eq!((report.imported, report.skipped(), report.first, report.last), (5, 0, Some(3), Some(7)));
    let mut reader = journal.reader(ReadFrom::Number(3)).unwrap();
    let first = reader.recv().await.unwrap().unwrap().record().unwrap();
    assert_eq!((first.body(), first.key().unwrap().as_str()), ("{\"n\":0}", "k\"\u{1}"));
    assert_eq!(first.position().unwrap(), "17");
    for body in ["{\"n\":0}", "{\"n\":0}", "{}"] {
        let record = reader.recv().await.unwrap().unwrap().record().unwrap();
        assert_eq!((record.body(), record.batch(), record.key()), (body, None, None));
    }
    let last = reader.recv().await.unwrap().unwrap().record().unwrap();
    assert_eq!((last.body().len(), last.position().unwrap().len()), (MAX_RECORD, 1_024));
}

#[tokio::test]
async fn more_lines_than_may_wait_are_imported_in_order() {
    let directory = directory();
    let journal = open(directory.path()).await;
    let count = 50_000_u64;
    let lines: Vec<String> = (0..count).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let report = import(io::Cursor::new(lines.concat()), &journal).await.unwrap();
    assert_eq!((report.imported, report.last), (count, Some(count - 1)));
    assert_eq!(numbers(&journal).await, (0..count).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_line_of_any_length_is_skipped() {
    let journal = Journal::in_memory(config()).unwrap();
    let file = io::repeat(b'x').take(100_000_000).chain(&b"\n{}\n"[..]);
    let report = import(file, &journal).await.unwrap();
    assert_eq!((report.lines, report.imported, report.too_long.first), (2, 1, vec![1]));
}

/// Its last read fails, and one before is interrupted.
struct Fails(u32);

impl Read for Fails {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0 += 1;
        match self.0 {
            1 => Err(io::ErrorKind::Interrupted.into()),
            2 => {
                bytes[..6].copy_from_slice(b"{}\n{}\n");
                Ok(6)
            }
            _ => Err(io::Error::other("bad sector")),
        }
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_read_further_ends_the_import_with_the_line() {
    let journal = Journal::in_memory(config()).unwrap();
    let error = import(Fails(0), &journal).await.unwrap_err();
    assert!(matches!(error, ImportError::Read { line: 2, imported: 2, .. }), "{error}");
    assert_eq!(error.source().unwrap().to_string(), "bad sector");
    assert_eq!(bodies(&journal).await.len(), 2);
}

#[tokio::test]
async fn a_journal_that_is_closed_ends_the_import_with_the_line() {
    let journal = Journal::in_memory(config()).unwrap();
    journal.close().await.unwrap();
    let file = io::Cursor::new("7\n{}\n".repeat(100_000));
    let error = import(file, &journal).await.unwrap_err();
    let ImportError::Append { line: 2, imported: 0, source: AppendError::Closed } = error else {
        panic!("{error}")
    };
}
