//! Any text as the query and the `Last-Event-ID` of a stream: the first line, and the second one if there is one. `@` is the instance of
//! the journal. The fuzz target `sse_id` and the test of its corpus share it.

use std::sync::LazyLock;

use http::Uri;
use observerd::fuzzed::{position, reader_from};
use observerd::server::problem::Problem;
use tokio::runtime::{Builder, Runtime};
use watchkeeper_journal::{Entry, Journal, JournalConfig, ReadFrom, ReadItem};

const RECORDS: u64 = 3;

/// Whether a stream begins there. Panics if a position is read as it must not be.
pub(crate) fn sse_id(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let oldest = SERVED.journal.oldest().to_string();
    let instance = oldest.split('.').next().unwrap();
    let text = text.replace('@', instance);
    let (query, last_event_id) = match text.split_once('\n') {
        Some((query, id)) => (query, Some(id)),
        None => (&*text, None),
    };
    // The id alone is what a browser sends.
    let by_id = begins(&Uri::from_static("/v1/observer/events"), Some(query));
    let uri = format!("/v1/observer/events?{query}").parse::<Uri>();
    uri.is_ok_and(|uri| begins(&uri, last_event_id)) || by_id && last_event_id.is_none()
}

/// A truncated detail says how much is missing.
fn is_refusal(problem: &Problem, status: u16) -> bool {
    assert_eq!(problem.status, status, "{problem:?}");
    assert!(problem.detail.len() <= 1_040 && !problem.detail.contains(char::is_control), "{problem:?}");
    false
}

fn begins(uri: &Uri, last_event_id: Option<&str>) -> bool {
    let from = match position(uri, last_event_id) {
        Ok(from) => from,
        Err(problem) => return is_refusal(&problem, 400),
    };
    if let (ReadFrom::Cursor(cursor), Some(id)) = (from, last_event_id.filter(|id| !id.is_empty())) {
        assert_eq!(cursor.to_string(), id, "an id has one text");
    }
    let mut reader = match reader_from(&SERVED.journal, from) {
        Ok(reader) => reader,
        Err(problem) => return is_refusal(&problem, 410),
    };
    let mut next = reader.cursor().seq();
    match from {
        ReadFrom::Oldest => assert_eq!(next, 0),
        ReadFrom::End => assert_eq!(next, RECORDS),
        ReadFrom::Last(count) => assert_eq!(next, RECORDS.saturating_sub(count)),
        ReadFrom::Cursor(cursor) => assert_eq!(reader.cursor(), cursor),
        ReadFrom::Number(number) => panic!("{number} is no text"),
    }
    SERVED.runtime.block_on(async {
        while let Some(item) = reader.next_existing().await.unwrap() {
            let ReadItem::Record(record) = item else { panic!("there is no gap") };
            assert_eq!(record.number(), next);
            next += 1;
            let id = record.after().to_string();
            let again = position(&Uri::from_static("/"), Some(&id)).unwrap();
            assert_eq!(again, ReadFrom::Cursor(record.after()));
        }
    });
    assert_eq!(next, RECORDS);
    true
}

struct Served {
    runtime: Runtime,
    journal: Journal,
}

static SERVED: LazyLock<Served> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().build().unwrap();
    let journal = runtime.block_on(async {
        let journal = Journal::in_memory(JournalConfig::default()).unwrap();
        for _ in 0..RECORDS {
            journal.append(Entry::from_text(r#"{"endpoint":"/put"}"#).unwrap()).await.unwrap();
        }
        journal
    });
    Served { runtime, journal }
});
