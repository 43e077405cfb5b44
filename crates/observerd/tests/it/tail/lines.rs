//! What becomes of a line.

use observerd::operation::Operation;

use super::*;

#[tokio::test]
async fn a_line_is_an_operation_of_the_overseer() {
    let rig = Rig::new().await;
    rig.write("{\"note\":\"too short\",\"n\":1}\n");
    rig.write("{\"endpoint\":\"/put\",\"source\":\"llm\",\"success\":true,\"timestamp\":\"2026-01-02T03:04:05Z\",\"n\":2}\n");
    rig.write("{\"endpoint\":\"\",\"source\":null,\"line_source\":7,\"n\":3}\n");
    let report = rig.caught_up().await;
    assert_eq!((report.lines, report.recorded, report.skipped), (3, 3, 0));
    let records = rig.records().await;
    let operations: Vec<_> = records.iter().map(|record| Operation::of_record(record).unwrap()).collect();
    assert!(operations.iter().all(|operation| operation.source == "overseer_correction"));
    let endpoints: Vec<_> = operations.iter().map(|operation| operation.endpoint.as_str()).collect();
    assert_eq!(endpoints, ["/overseer/correction", "/put", "/overseer/correction"]);
    assert_eq!(
        operations.iter().map(|operation| operation.success).collect::<Vec<_>>(),
        [false, true, false]
    );
    assert_eq!(operations[1].timestamp_text, "2026-01-02T03:04:05Z");
    assert!(records[0].body().starts_with(r#"{"note":"too short","n":1,"endpoint":"/overseer/correction","#));
    assert!(records[1].body().ends_with(r#""source":"overseer_correction","line_source":"llm"}"#));
    assert!(records[2].body().contains(r#""line_source":7"#));
    let stats = rig.store().stats();
    assert_eq!((stats.total, stats.successes, stats.by_source["overseer_correction"]), (3, 1, 3));
    let count = 3;
    let events = rig.events();
    assert!(events.contains(&TailEvent::Recorded { count, first_sequence: 0 }), "{events:?}");
}

#[tokio::test]
async fn a_half_line_waits_for_its_line_feed() {
    let rig = Rig::new().await;
    let line = "{\"n\":1,\"note\":\"\u{e4}\"}\n".as_bytes();
    // Within the character too.
    let umlaut = line.iter().position(|byte| *byte == 0xc3).unwrap();
    rig.write(lines([0]));
    for end in [3, umlaut, umlaut + 1, line.len() - 1] {
        let written = fs::metadata(&rig.path).map_or(0, |file| file.len()) - 8;
        rig.write(&line[usize::try_from(written).unwrap()..end]);
        let report = rig.caught_up().await;
        assert_eq!((report.lines, report.offset), (1, 8), "up to {end}");
    }
    rig.write("\n");
    rig.caught_up().await;
    assert_eq!(rig.recorded().await, [0, 1]);
}

#[tokio::test]
async fn carriage_returns_empty_lines_and_a_byte_order_mark_are_ignored() {
    let rig = Rig::new().await;
    rig.write("\u{feff}{\"n\":1}\r\n\r\n\n  \n{\"n\":2}\r\n");
    let report = rig.caught_up().await;
    assert_eq!((report.lines, report.skipped), (2, 0), "{report:?}");
    assert_eq!(rig.recorded().await, [1, 2]);
}

#[tokio::test]
async fn what_is_no_correction_is_skipped_and_counted() {
    let bad: [(&[u8], &str); 9] = [
        (b"{\"n\":", "no JSON"),
        (b"[1]", "no object"),
        (b"17", "no object"),
        (b"{\"n\":9,\"_wk_n\":\"1\"}", "_wk_"),
        (b"{\"n\":9,\"x\":\"\xff\"}", "UTF-8"),
        (b"{\"n\":9,\"success\":\"yes\"}", "success"),
        (b"{\"n\":9,\"timestamp\":\"yesterday\"}", "timestamp"),
        (b"{\"n\":9,\"error\":\"a\",\"error\":\"b\"}", "twice"),
        (b"\xef\xbb\xbf{\"n\":9}", "no JSON"),
    ];
    let rig = Rig::new().await;
    rig.write(lines([0]));
    let mut offset = 8;
    for (count, (line, reason)) in (1..).zip(bad) {
        rig.write(line);
        rig.write("\n");
        rig.write(lines([count]));
        let report = rig.caught_up().await;
        assert_eq!((report.skipped, report.recorded), (count, count + 1), "{reason}");
        let last = report.last_skipped.unwrap();
        assert_eq!(last.offset, offset, "{reason}");
        assert!(last.reason.contains(reason), "{} has no {reason}", last.reason);
        offset += line.len() as u64 + 1 + 8;
        let event = TailEvent::Skipped { count: 1, last };
        assert!(rig.events().contains(&event));
    }
    assert_eq!(rig.recorded().await, (0..=9).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_line_over_a_mebibyte_is_skipped_even_if_it_comes_in_pieces() {
    let rig = Rig::new().await;
    rig.write(lines([1]));
    rig.write("{\"x\":\"");
    let piece = "x".repeat(900_000);
    for _ in 0..7 {
        rig.write(&piece);
        let report = rig.caught_up().await;
        assert_eq!((report.offset, report.lines), (8, 1));
    }
    rig.write(format!("\"}}\n{}", lines([2])));
    let report = rig.caught_up().await;
    assert_eq!((report.lines, report.skipped), (3, 1));
    assert_eq!(report.last_skipped.unwrap().offset, 8);
    assert_eq!(rig.recorded().await, [1, 2]);
}

#[tokio::test]
async fn the_longest_line_is_recorded_and_one_that_grows_beyond_is_skipped() {
    let rig = Rig::new().await;
    let fits = 1024 * 1024 - 200;
    for (n, length) in [(1, fits), (2, 1024 * 1024), (3, fits)] {
        let start = format!("{{\"n\":{n},\"x\":\"");
        rig.write(format!("{start}{}\"}}\r\n", "x".repeat(length - start.len() - 2)));
    }
    let report = rig.caught_up().await;
    assert_eq!((report.recorded, report.skipped), (2, 1), "{report:?}");
    assert_eq!(rig.recorded().await, [1, 3]);
}

#[tokio::test]
async fn many_lines_are_read_in_several_polls_that_follow_at_once() {
    let rig = Rig::stopped();
    rig.write(lines(0..25_000));
    let mut rig = rig;
    rig.start().await;
    let handle = rig.runtime().handle();
    // One poll is asked for.
    let _ = rig.runtime().control().poll_now().await;
    let caught_up = handle.eventually("it is caught up", |report: &TailReport| report.caught_up);
    let report = caught_up.within(Duration::from_mins(1)).await.unwrap();
    assert_eq!(report.value.recorded, 25_000);
    let events = rig.events();
    let most = events.iter().filter_map(|event| match event {
        TailEvent::Recorded { count, .. } => Some(*count),
        _ => None,
    });
    assert!(most.max().unwrap() <= 10_000);
    assert_eq!(rig.recorded().await, (0..25_000).collect::<Vec<_>>());
}
