//! Any files are opened as a journal, without a panic, and without a change of what is valid. The fuzz target `recovery` and
//! the test of its corpus share it.
//!
//! The input is text, so that a fuzzer gets far: line by line it makes the segments.
//!
//! | line | makes |
//! |---|---|
//! | `@N` | a segment whose first record is N |
//! | `+N BODY` | a valid line with number N: the text of an object without its closing brace, then the tail |
//! | `*N` | N bytes without a line feed, at most 1,200,000 in all |
//! | another one | itself |

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};
use tokio::runtime::{Builder, Runtime};
use watchkeeper_journal::medium::{Medium, Memory};
use watchkeeper_journal::{
    Entry, Journal, JournalConfig, JournalError, JournalView, ReadFrom, ReadItem, Record,
};

const MOST_SEGMENTS: usize = 8;
const MOST_BYTES: usize = 1_200_000;
/// A record's tail: from the quotation mark before `_wk_n` to the closing brace.
const TAIL: usize = 30 + 20;

type Files = BTreeMap<String, Vec<u8>>;

/// Panics if an opening does what it must not.
pub(crate) fn recovers(input: &[u8]) {
    let segments = segments(input);
    let model = Model::of(&segments);
    let medium = medium(&segments);
    let before = viewed(&medium);
    if let Some(numbers) = &model.numbers {
        assert_eq!(before.iter().map(Record::number).collect::<Vec<_>>(), *numbers);
    }
    agrees_with_plain(&before, &segments);

    let Some((journal, opened)) = open(&medium) else { return };
    let (next, recovery) = (journal.cursor().seq(), journal.recovery().clone());
    close(&journal);
    let kept: Vec<u64> = opened.iter().map(Record::number).collect();
    for record in &before {
        let is_kept = kept.contains(&record.number());
        assert!(is_kept || record.batch().is_some(), "record {} was in no batch", record.number());
    }
    assert!(before.len() - opened.len().min(before.len()) <= usize::try_from(recovery.uncommitted).unwrap());
    // A line that comes too late is a record only if the one before it with a larger number is none.
    if model.is_in_order || recovery.uncommitted == 0 {
        let numbers = |records: &[Record]| records.iter().map(Record::number).collect::<Vec<_>>();
        let is_there = |record: &Record| before.iter().any(|other| is_same(record, other));
        assert!(opened.iter().all(is_there), "{:?} and {:?}", numbers(&before), numbers(&opened));
        nothing_changes_again(&medium, &opened, next);
    } else {
        settle(&medium);
    }

    let Some((journal, opened)) = open(&medium) else { panic!("it opens once, and not again") };
    let next = journal.cursor().seq();
    assert!(opened.iter().all(|record| record.number() < next));
    let entry = |text: &str| Entry::from_text(text).unwrap();
    let (single, batch) = runtime().block_on(async {
        let single = journal.append(entry("{\"appended\":1}")).await.unwrap();
        let batch = journal.append_batch(vec![entry("{\"appended\":2}"), entry("{\"appended\":3}")]);
        (single, batch.await.unwrap())
    });
    assert_eq!((single.number, batch.number), (next, next + 1));
    let appended = read(&journal);
    close(&journal);
    assert_eq!(appended.len(), opened.len() + 3);
    assert!(opened.iter().zip(&appended).all(|(before, after)| is_same(before, after)));
    for (place, record) in appended[opened.len()..].iter().enumerate() {
        assert_eq!(record.number(), next + place as u64);
        assert_eq!(record.body(), format!("{{\"appended\":{}}}", place + 1));
    }
    let Some((journal, reopened)) = open(&medium) else { panic!("what was appended is not opened") };
    assert_eq!((journal.recovery().torn_bytes, journal.cursor().seq()), (0, next + 3));
    close(&journal);
    are_same(&appended, &reopened);
    are_same(&reopened, &viewed(&medium));
}

/// Opens the journal until no line is made invalid any more.
fn settle(medium: &Arc<Memory>) {
    for _ in 0..1_000 {
        let Some((journal, _)) = open(medium) else { panic!("it opens once, and not again") };
        close(&journal);
        if journal.recovery().uncommitted == 0 {
            return;
        }
    }
    panic!("each opening makes further lines invalid");
}

/// Two further openings.
fn nothing_changes_again(medium: &Arc<Memory>, opened: &[Record], next: u64) {
    let segments = |files: &Files| -> Files {
        files.clone().into_iter().filter(|(name, _)| !name.starts_with("quarantine")).collect()
    };
    let first = files(medium);
    let mut before = None;
    for _ in 0..2 {
        let Some((journal, again)) = open(medium) else { panic!("it opens once, and not again") };
        assert_eq!(journal.cursor().seq(), next);
        assert_eq!((journal.recovery().torn_bytes, journal.recovery().uncommitted), (0, 0));
        close(&journal);
        are_same(opened, &again);
        let now = files(medium);
        assert!(segments(&now) == segments(&first), "a second opening changes a segment");
        // What the first one has made invalid is copied as damage by the second.
        assert!(before.is_none_or(|before| before == now), "a third opening changes a file");
        before = Some(now);
    }
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Builder::new_current_thread().enable_all().build().unwrap())
}

/// `None` if the numbers are used up, the only error that files in memory allow.
fn open(medium: &Arc<Memory>) -> Option<(Journal, Vec<Record>)> {
    let medium: Arc<dyn Medium> = medium.clone();
    match runtime().block_on(Journal::open_on(medium, JournalConfig::default())) {
        Ok(journal) => {
            let records = read(&journal);
            Some((journal, records))
        }
        Err(JournalError::NumbersUsedUp { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

fn close(journal: &Journal) {
    runtime().block_on(journal.close()).unwrap();
}

/// Checks that each number is in one item, and returns the records.
fn records(items: impl Iterator<Item = ReadItem>, mut next: u64) -> Vec<Record> {
    let mut records = Vec::new();
    for item in items {
        match item {
            ReadItem::Record(record) => {
                assert_eq!(record.number(), next);
                next += 1;
                records.push(record);
            }
            ReadItem::Gap(gap) => {
                assert_eq!(gap.first, next, "{gap}");
                assert!(gap.last >= gap.first, "{gap}");
                next = gap.last + 1;
            }
        }
    }
    records
}

fn read(journal: &Journal) -> Vec<Record> {
    let mut items = Vec::new();
    runtime().block_on(async {
        let mut reader = journal.reader(ReadFrom::Oldest).unwrap();
        while let Some(item) = reader.next_existing().await.unwrap() {
            items.push(item);
        }
    });
    records(items.into_iter(), journal.oldest().seq())
}

fn viewed(medium: &Arc<Memory>) -> Vec<Record> {
    let view = JournalView::of(medium.clone()).unwrap();
    let items = view.reader(ReadFrom::Oldest).unwrap().map(Result::unwrap);
    records(items, view.oldest().seq())
}

fn is_same(one: &Record, other: &Record) -> bool {
    (one.number(), one.body(), one.batch()) == (other.number(), other.body(), other.batch())
        && (one.key(), one.position()) == (other.key(), other.position())
}

fn are_same(some: &[Record], others: &[Record]) {
    assert_eq!(some.len(), others.len());
    for (one, other) in some.iter().zip(others) {
        let text = |record: &Record| format!("{} {:?} {}", record.number(), record.batch(), record.body());
        assert!(is_same(one, other), "{} and {}", text(one), text(other));
    }
}

/// What the input makes: the first number and the bytes of each segment.
fn segments(input: &[u8]) -> BTreeMap<u64, Vec<u8>> {
    let mut segments: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let (mut current, mut left) = (0, MOST_BYTES);
    for piece in input.split_inclusive(|byte| *byte == b'\n') {
        let line = piece.strip_suffix(b"\n").unwrap_or(piece);
        let (sign, rest) = line.split_first().map_or((b' ', line), |(sign, rest)| (*sign, rest));
        let (digits, body) = rest.split_at(rest.iter().take_while(|byte| byte.is_ascii_digit()).count());
        let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u64>().ok());
        match (sign, number) {
            (b'@', Some(first)) if segments.len() < MOST_SEGMENTS => {
                current = first;
                segments.entry(current).or_default();
            }
            (b'+', Some(number)) => {
                let mut line = body.trim_ascii_start().to_vec();
                let separator = if line == b"{" { "" } else { "," };
                line.extend_from_slice(format!("{separator}\"_wk_n\":\"{number:020}\"").as_bytes());
                let check = crc32fast::hash(&line);
                line.extend_from_slice(format!(",\"_wk_c\":\"{check:08x}\"}}").as_bytes());
                line.extend_from_slice(&piece[1 + rest.len()..]);
                segments.entry(current).or_default().extend_from_slice(&line);
            }
            (b'*', Some(count)) => {
                let count = usize::try_from(count).unwrap_or(usize::MAX).min(left);
                left -= count;
                segments.entry(current).or_default().extend(std::iter::repeat_n(b'x', count));
            }
            _ => segments.entry(current).or_default().extend_from_slice(piece),
        }
    }
    segments
}

fn medium(segments: &BTreeMap<u64, Vec<u8>>) -> Arc<Memory> {
    let medium = Arc::new(Memory::default());
    let identity = format!("{{\"watchkeeper_journal\":1,\"instance\":\"{:032x}\"}}\n", 7);
    medium.create("journal.json").unwrap().append(identity.as_bytes()).unwrap();
    for (first, bytes) in segments {
        medium.create(&format!("{first:020}.jsonl")).unwrap().append(bytes).unwrap();
    }
    medium
}

fn files(medium: &Arc<Memory>) -> Files {
    let read = |name: String| {
        let file = medium.open(&name, false).unwrap();
        let mut bytes = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
        assert_eq!(file.read_at(0, &mut bytes).unwrap(), bytes.len());
        (name, bytes)
    };
    medium.list().unwrap().into_iter().map(read).collect()
}

/// What a plain reader finds in the segments.
struct Model {
    /// The numbers in order; `None` if there are lines of which it cannot say whether they are records.
    numbers: Option<Vec<u64>>,
    /// No line has a smaller number than one before it in its segment.
    is_in_order: bool,
}

impl Model {
    fn of(segments: &BTreeMap<u64, Vec<u8>>) -> Self {
        let (mut numbers, mut is_known, mut is_in_order) = (Vec::new(), true, true);
        let limits = segments.keys().skip(1).copied().chain([u64::MAX]);
        for ((first, bytes), limit) in segments.iter().zip(limits) {
            let (mut expected, mut largest) = (*first, *first);
            for line in
                bytes.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"))
            {
                let Some(number) = number(line) else { continue };
                is_in_order &= number >= largest;
                largest = largest.max(number.saturating_add(1));
                is_known &= is_plain(line);
                if (expected..limit).contains(&number) {
                    numbers.push(number);
                    expected = number + 1;
                }
            }
        }
        Self { numbers: is_known.then_some(numbers), is_in_order }
    }
}

/// The number of a line with a tail whose checksum is right.
fn number(line: &[u8]) -> Option<u64> {
    let place = line.len().checked_sub(TAIL)?;
    let tail = std::str::from_utf8(&line[place..]).ok()?;
    let number = tail.strip_prefix("\"_wk_n\":\"")?.get(..20)?;
    let check = tail.get(29..)?.strip_prefix("\",\"_wk_c\":\"")?.strip_suffix("\"}")?;
    let is_right = format!("{:08x}", crc32fast::hash(&line[..line.len() - 20])) == check;
    (is_right && number.bytes().all(|byte| byte.is_ascii_digit())).then(|| number.parse().ok())?
}

/// Whether a line with a right tail is a JSON object, and all that a record must be besides.
fn is_plain(line: &[u8]) -> bool {
    let Ok(object) = serde_json::from_slice::<Map<String, Value>>(line) else { return false };
    let place = line.len() - TAIL;
    let is_after_comma = place == 1 || line[place - 1] == b',';
    is_after_comma && !object.contains_key("_wk_b") && object["_wk_n"] != "18446744073709551615"
}

/// Each record whose line is a JSON object is that object without the fields of the journal.
fn agrees_with_plain(records: &[Record], segments: &BTreeMap<u64, Vec<u8>>) {
    let own = |text: &[u8]| {
        let mut object: Option<Map<String, Value>> = serde_json::from_slice(text).ok();
        if let Some(object) = &mut object {
            object.retain(|name, _| !name.starts_with("_wk_"));
        }
        object
    };
    let mut lines: BTreeMap<u64, Vec<Option<Map<String, Value>>>> = BTreeMap::new();
    for line in segments.values().flat_map(|bytes| bytes.split(|byte| *byte == b'\n')) {
        if let Some(number) = number(line) {
            lines.entry(number).or_default().push(own(line));
        }
    }
    for record in records {
        assert!(lines[&record.number()].contains(&own(record.body().as_bytes())), "{}", record.body());
    }
}
