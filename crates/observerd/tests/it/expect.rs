//! `observerd replay --expect`: waits judged over a record.

use observerd::cli::outcome::Outcome;
use observerd::cli::replay::{ReplayArgs, run};
use tempfile::TempDir;

use crate::commands::{args, ended, refused};
use crate::runs::{app, nodes, write};

use Outcome::{Fine, Incomplete, Problems};

fn directory(texts: &[String]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    block_on(write(directory.path(), "run", texts));
    directory
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}

fn expect(directory: &TempDir, words: &str) -> (String, Result<Outcome, String>) {
    let mut out = Vec::new();
    let words: Vec<&str> =
        [directory.path().to_str().unwrap(), "--expect"].into_iter().chain(words.split(' ')).collect();
    let result = block_on(run(&args::<ReplayArgs>(&words), &mut out));
    ended(out, result)
}

/// The words, how it ends, and how its text begins, without the time.
type Case = (&'static str, Outcome, &'static str);

fn check(directory: &TempDir, cases: &[Case]) {
    for (words, wanted, begin) in cases {
        let (text, result) = expect(directory, words);
        assert_eq!(result, Ok(*wanted), "{words}: {text}");
        let first = text.lines().next().unwrap();
        let first = first.split(", at 20").next().unwrap();
        assert!(first == *begin, "{words}: {first}");
    }
}

//  polls: 0 at 0 s, then one more each 0.5 s; none from 3 s to 4.5 s; stops at 7.1 s      n3 joins at 2.5 s
const OF_A_RUN: &[Case] = &[
    ("eventually --at /polls --at-least 3 --within 10s", Fine, "met: \"/polls is at least 3\" in cycle 3"),
    ("eventually --at /polls --is 3.0 --within 10s", Fine, "met: \"/polls is 3.0\" in cycle 3"),
    (
        "eventually --at /polls --at-least 2 --at-most 2 --within 10s",
        Fine,
        "met: \"/polls is from 2 to 2\" in cycle 2",
    ),
    (
        "eventually --at /names/2 --exists --within 10s",
        Fine,
        "met: \"there is something at /names/2\" in cycle 5",
    ),
    (
        "eventually --is {\"polls\":1,\"names\":[\"n1\",\"n2\"]} --within 10s",
        Fine,
        "met: \"the value is {\\\"names\\\":[\\\"n1\\\",\\\"n2\\\"],\\\"polls\\\":1}\" in cycle 1",
    ),
    (
        "eventually --at /polls --at-least 9 --within 3s",
        Problems,
        "not met in time: \"/polls is at least 9\" within 3s",
    ),
    (
        "eventually --at /polls --at-least 3 --within 600ms --after-cycle 1",
        Problems,
        "not met in time: \"/polls is at least 3\" within 600ms",
    ),
    (
        "eventually --at /polls --at-least 30 --within 1m",
        Problems,
        "inconclusive (the runtime has stopped: stop was requested): \"/polls is at least 30\" within 60s",
    ),
    (
        "always --at /polls --at-most 4 --during 2200ms",
        Fine,
        "met: \"always: /polls is at most 4\" in cycle 4",
    ),
    (
        "always --at /polls --at-most 2 --during 2200ms",
        Problems,
        "violated: \"always: /polls is at most 2\" during 2.2s",
    ),
    (
        "never --at /names/2 --exists --during 2200ms",
        Fine,
        "met: \"never: there is something at /names/2\" in cycle 4",
    ),
    (
        "never --at /names/2 --is \"n3\" --during 3s",
        Problems,
        "violated: \"never: /names/2 is \\\"n3\\\"\" during 3s",
    ),
    (
        "always --at /polls --at-most 100 --during 4600ms",
        Problems,
        "inconclusive (the data was stale): \"always: /polls is at most 100\" during 4.6s",
    ),
    ("stable --at /names --hold 2s --within 3s", Fine, "met: \"/names stays the same for 2s\" in cycle 4"),
    (
        "stable --at /polls --hold 1s --within 3s",
        Problems,
        "not met in time: \"/polls stays the same for 1s\" within 3s",
    ),
    ("never --at /polls --is -1 --during 2200ms", Fine, "met: \"never: /polls is -1\" in cycle 4"),
    ("event --at /third --is 6 --within 10s", Fine, "met: \"an event: /third is 6\" in cycle 10"),
    (
        "event --at /third --is 6 --within 2s",
        Problems,
        "not met in time: \"an event: /third is 6\" within 2s",
    ),
    ("reaches --state idle --within 1s", Fine, "met: \"the runtime reaches idle\" in cycle 0"),
    ("reaches --state failed --within 10s", Fine, "met: \"the runtime reaches failed\" in cycle 6"),
    (
        "reaches --state failed --within 2s",
        Problems,
        "not met in time: \"the runtime reaches failed\" within 2s",
    ),
    ("reaches --state stopped --within 10s", Fine, "met: \"the runtime reaches stopped\" in cycle 14"),
    ("fresh --during 3s --after-cycle 0", Fine, "met: \"the data stays fresh\" in cycle 6"),
    ("fresh --during 3s --after-cycle 4", Problems, "violated: \"the data stays fresh\" during 3s"),
    ("stale --within 10s", Fine, "met: \"the data becomes stale\" in cycle 7"),
    ("stale --within 3s", Problems, "not met in time: \"the data becomes stale\" within 3s"),
    (
        "source-fresh --source n1 --within 3s",
        Incomplete,
        "invalid wait (the observer keeps nothing by source: have it implement source_health): \"source \\\"n1\\\" is fresh\" within 3s",
    ),
    (
        "eventually --exists --within 25h",
        Incomplete,
        "invalid wait (the window must be more than zero and at most 24 h): \"there is something at the value\" within 90000s",
    ),
];

#[test]
fn waits_over_a_run_have_their_verdicts() {
    check(&directory(&app()), OF_A_RUN);
}

//  n1: the second      n2: fails from 2 s to 3.5 s, leaves at 6.5 s
const OF_SOURCES: &[Case] = &[
    ("source-fresh --source n2 --within 1s", Fine, "met: \"source \\\"n2\\\" is fresh\" in cycle 0"),
    ("source-failing --source n2 --within 10s", Fine, "met: \"source \\\"n2\\\" is failing\" in cycle 4"),
    (
        "source-failing --source n1 --within 6s",
        Problems,
        "not met in time: \"source \\\"n1\\\" is failing\" within 6s",
    ),
    (
        "source-fresh --source n2 --within 1200ms --after-cycle 4",
        Problems,
        "not met in time: \"source \\\"n2\\\" is fresh\" within 1.2s",
    ),
    (
        "source-fresh --source n2 --within 5s --after-cycle 4",
        Fine,
        "met: \"source \\\"n2\\\" is fresh\" in cycle 8",
    ),
    ("source-vanished --source n2 --within 10s", Fine, "met: \"source \\\"n2\\\" has vanished\" in cycle 13"),
    (
        "source-vanished --source n1 --within 5s",
        Problems,
        "not met in time: \"source \\\"n1\\\" has vanished\" within 5s",
    ),
    (
        "source-stale --source n1 --within 6s",
        Problems,
        "not met in time: \"source \\\"n1\\\" is stale\" within 6s",
    ),
    (
        "eventually --at /sources/n1/answer/value --is 3 --within 10s",
        Fine,
        "met: \"/sources/n1/answer/value is 3\" in cycle 6",
    ),
    (
        "eventually --at /sources/0/answer/value --is 3 --within 10s",
        Fine,
        "met: \"/sources/0/answer/value is 3\" in cycle 6",
    ),
    (
        "event --at /event --is \"recovered\" --within 10s",
        Fine,
        "met: \"an event: /event is \\\"recovered\\\"\" in cycle 8",
    ),
];

#[test]
fn waits_on_sources_have_their_verdicts() {
    check(&directory(&nodes()), OF_SOURCES);
}

#[test]
fn the_report_says_what_was_there() {
    let directory = directory(&app());
    let (text, _) = expect(&directory, "eventually --at /polls --at-least 9 --within 5s");
    for part in [
        "reason: /polls is 5",
        "failed in poll, 4 times in 1.500s: the node\\nis down",
        "sources: n1, n2, n3",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (text, _) = expect(&directory, "eventually --at /nothing --at-least 9 --within 5s");
    assert!(text.contains("reason: there is nothing at /nothing"), "{text}");
    let (text, result) = expect(&directory, "eventually --at /polls --at-least 9 --within 5s --json");
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((result, &report["outcome"]), (Ok(Problems), &"not_met".into()));
    let (text, result) = expect(&directory, "eventually --at /polls --at-least 2 --within 5s --json");
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((result, &report["outcome"], &report["cycle"]), (Ok(Fine), &"met".into(), &2.into()));
}

/// A process that was killed has no stop.
#[test]
fn a_record_that_ends_early_is_inconclusive() {
    let mut texts = app();
    texts.truncate(12);
    let directory = directory(&texts);
    let (text, result) = expect(&directory, "always --at /polls --at-most 100 --during 10s");
    assert_eq!(result, Ok(Problems));
    assert!(text.starts_with("inconclusive (the runtime has stopped"), "{text}");
    let (_, result) = expect(&directory, "eventually --at /polls --at-least 2 --within 10s");
    assert_eq!(result, Ok(Fine));
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let directory = directory(&app());
    let cases = [
        (
            "eventually --within 3s",
            "--expect eventually needs a condition: --is JSON, --at-least N, --at-most N or --exists",
        ),
        ("eventually --exists", "--expect eventually needs its window: --within, such as --within 10s"),
        ("eventually --exists --during 3s", "--expect eventually needs its window: --within"),
        ("always --exists --within 3s", "--expect always needs its window: --during"),
        ("stable --within 3s", "--expect stable needs --hold"),
        ("reaches --within 3s", "--expect reaches needs --state"),
        ("source-fresh --within 3s", "--expect source-fresh needs --source NAME"),
        ("eventually --is idle --within 3s", "--is idle is no JSON"),
        ("eventually --at polls --exists --within 3s", "--at: a JSON pointer begins with a slash"),
        (
            "fresh --during 3s --after-cycle 99",
            "--after-cycle 99: the record ends before that cycle does: the last is 14",
        ),
    ];
    for (words, wanted) in cases {
        let (text, result) = expect(&directory, words);
        let problem = result.unwrap_err();
        assert!(text.is_empty() && problem.contains(wanted), "{words}: {problem}");
    }
    let refusals: [&[&str]; 4] = [
        &["d", "--at", "/x"],
        &["d", "--expect", "fresh", "--during", "1s", "--follow"],
        &["d", "--expect", "eventually", "--is", "1", "--exists", "--within", "1s"],
        &["d", "--expect", "eventually", "--exists", "--within", "soon"],
    ];
    for words in refusals {
        refused::<ReplayArgs>(words);
    }
}

/// The records with these cycles' ends alone, and what is between them.
fn kept(is_kept: impl Fn(u64) -> bool) -> Vec<String> {
    let mut cycle = 0;
    let mut records: Vec<serde_json::Value> =
        app().iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let run = records[0]["run"].clone();
    records.retain(|record| {
        let ended = record.pointer("/success/cycle").or(record.pointer("/failure/cycle"));
        cycle = ended.and_then(serde_json::Value::as_u64).unwrap_or(cycle);
        is_kept(cycle)
    });
    records[0]["run"] = run;
    records.iter().map(ToString::to_string).collect()
}

#[test]
fn a_window_that_begins_where_nothing_is_recorded_is_inconclusive() {
    let wait = "eventually --at /polls --at-least 4 --within 600ms --after-cycle";
    let of = |kept: Vec<String>, cycle: u64| expect(&directory(&kept), &format!("{wait} {cycle}"));
    let (text, result) = of(app(), 1);
    assert!(text.starts_with("not met in time") && result == Ok(Problems), "{text}");
    for cycle in [0, 1, 3] {
        let (text, result) = of(kept(|cycle| cycle >= 4), cycle);
        assert_eq!(
            (text.as_str(), result),
            (
                "inconclusive (the record begins with cycle 4): \"/polls is at least 4\" within 600ms\n",
                Ok(Problems)
            )
        );
    }
    let (text, result) = of(kept(|cycle| !(1..4).contains(&cycle)), 2);
    assert_eq!(
        (text.as_str(), result),
        (
            "inconclusive (the end of cycle 2 is not recorded: cycle 4 follows cycle 0): \"/polls is at least 4\" within \
             600ms\n",
            Ok(Problems)
        )
    );
    // The cycle itself is there.
    let (text, result) = of(kept(|cycle| cycle >= 3), 3);
    assert!(text.starts_with("met: ") && result == Ok(Fine), "{text}");
    let (text, _) = expect(&directory(&kept(|cycle| cycle >= 4)), &format!("{wait} 3 --json"));
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&report["outcome"], &report["reason"]),
        (&"inconclusive".into(), &"inconclusive (the record begins with cycle 4)".into())
    );
}

#[test]
fn a_verdict_has_no_character_that_a_terminal_obeys() {
    let texts: Vec<_> = app().iter().map(|text| text.replace("n3", "n\u{9b}31m\u{202e}3")).collect();
    let directory = directory(&texts);
    for words in [
        "eventually --at /polls --at-least 9 --within 5s",
        "eventually --at /names/2 --is \"n\u{9b}31m\u{202e}3\" --within 5s",
        "eventually --at /x\u{9b}\u{202e} --exists --within 5s",
        "source-fresh --source \u{9b}31m\u{202e} --within 5s",
        "reaches --state failed --within 10s",
    ] {
        for json in ["", " --json"] {
            let (text, _) = expect(&directory, &format!("{words}{json}"));
            let is_bad =
                |character: char| character != '\n' && (character.is_control() || character == '\u{202e}');
            assert!(!text.is_empty() && !text.contains(is_bad), "{words}{json}: {text:?}");
            if !json.is_empty() {
                let report: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert!(report["label"].is_string(), "{text}");
            }
        }
    }
    let (text, _) = expect(&directory, "eventually --at /polls --at-least 9 --within 5s --json");
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["last"]["value"]["names"][2], "n\u{9b}31m\u{202e}3");
}

/// As the loops record their lists.
#[test]
fn what_is_beyond_a_list_that_was_recorded_in_part_is_inconclusive() {
    let texts: Vec<_> =
        app().iter().map(|text| text.replace("\"names\":[", "\"not_recorded\":2,\"names\":[")).collect();
    let directory = directory(&texts);
    let hidden = "inconclusive (a list was recorded in part, and the value may be in its rest)";
    let cases = [
        ("eventually --at /names/3 --exists --within 2s", hidden, Problems),
        ("eventually --at /names/3/x --is 1 --within 2s", hidden, Problems),
        ("eventually --at /names/n9 --exists --within 2s", hidden, Problems),
        ("never --at /names/3 --is \"n4\" --during 2s", hidden, Problems),
        ("always --at /names/3 --is \"n4\" --during 2s", hidden, Problems),
        ("stable --at /names/3 --hold 1s --within 2s", hidden, Problems),
        // There are no more.
        ("eventually --at /names/5 --exists --within 2s", "not met in time", Problems),
        ("never --at /names/5 --is \"n4\" --during 2s", "met", Fine),
        // It is there.
        ("eventually --at /names/1 --is \"n2\" --within 2s", "met", Fine),
        ("never --at /names/1 --is \"n2\" --during 2s", "violated", Problems),
        ("eventually --at /other/3 --exists --within 2s", "not met in time", Problems),
    ];
    for (words, begin, outcome) in cases {
        let (text, result) = expect(&directory, words);
        assert_eq!((text.split(": ").next(), result), (Some(begin), Ok(outcome)), "{words}");
    }
}
