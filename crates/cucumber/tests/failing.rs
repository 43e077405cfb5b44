//! Runs that fail, each in its own process: its exit code and its three reports.
#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "without a harness this is no test to clippy; cucumber passes captures by value"
)]

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode, Output};
use std::time::Duration;

use cucumber::writer::{Basic, Coloring, JUnit, Json};
use cucumber::{World as _, WriterExt as _};
use serde_json::Value;
use support::{SUITE, World, on_the_paused_clock, start_suite};
use tokio::time::Instant;
use watchkeeper_cucumber::{after, finish_suite, list_tests, with_steps};

/// The feature that this process runs, and the directory of its reports.
const FEATURE: &str = "WATCHKEEPER_TEST_FEATURE";
const REPORTS: &str = "WATCHKEEPER_TEST_REPORTS";

fn main() -> ExitCode {
    if let (Ok(feature), Ok(reports)) = (std::env::var(FEATURE), std::env::var(REPORTS)) {
        return on_the_paused_clock(run(&feature, Path::new(&reports)));
    }
    if list_tests(&["failing"]) {
        return ExitCode::SUCCESS;
    }
    a_failing_scenario_carries_its_report();
    an_answer_from_before_the_step_does_not_meet_it();
    data_of_sources_that_no_longer_answer_is_not_fresh();
    a_value_that_does_not_change_or_stay_is_shown();
    an_answer_before_a_scenario_does_not_count_for_it();
    a_mistake_is_one_clear_error();
    concurrent_scenarios_count_separately();
    a_run_that_fails_by_panicking_returns_an_error();
    a_violation_that_a_step_expects_fails_the_scenario();
    a_run_in_which_nothing_was_run_fails();
    a_run_that_uses_no_observer_reports_it();
    a_violation_without_the_after_hook_is_reported();
    ExitCode::SUCCESS
}

async fn run(feature: &str, reports: &Path) -> ExitCode {
    let path = match feature {
        // The directory has reports and no features.
        "empty" => reports.display().to_string(),
        "filtered" => concat!(env!("CARGO_MANIFEST_DIR"), "/tests/features").to_owned(),
        _ => format!("{}/tests/failing_features/{feature}.feature", env!("CARGO_MANIFEST_DIR")),
    };
    start_suite().await;
    let began = Instant::now();
    let run = World::cucumber().steps(with_steps(World::collection())).with_default_cli();
    if feature == "no_hook" {
        let writer = run.run(path).await;
        return finish_suite(&SUITE, &writer).await;
    }
    let run = run.after(after);
    if feature == "panic" {
        run.fail_on_skipped().run_and_exit(path).await;
        return ExitCode::SUCCESS;
    }
    let filtered = feature == "filtered";
    let (json, junit) = (File::create(reports.join("json")), File::create(reports.join("junit")));
    let writer = Basic::raw(io::stdout(), Coloring::Never, 0)
        .summarized()
        .tee::<World, _>(Json::for_tee(json.unwrap()))
        .tee::<World, _>(JUnit::for_tee(junit.unwrap(), 0))
        .normalized();
    let run = run.with_writer(writer).fail_on_skipped();
    let writer = run.filter_run(path, move |_, _, _| !filtered).await;
    fs::write(reports.join("elapsed"), began.elapsed().as_millis().to_string()).unwrap();
    finish_suite(&SUITE, &writer).await
}

/// The output of a run in its own process.
struct Ran {
    output: Output,
    terminal: String,
    /// The message of every failed test case.
    junit: Vec<String>,
    /// The messages of failed steps and hooks, by scenario.
    failures: BTreeMap<String, Vec<String>>,
    /// How long it took on its own clock.
    elapsed: Duration,
}

fn ran(feature: &str) -> Ran {
    let reports = tempfile::tempdir().unwrap();
    let output = start(feature, reports.path());
    let read = |name: &str| {
        let read = fs::read_to_string(reports.path().join(name));
        read.unwrap_or_else(|error| panic!("no report {name}: {error}; {output:?}"))
    };
    let features: Value = serde_json::from_str(&read("json")).unwrap();
    let mut failures = BTreeMap::<String, Vec<String>>::new();
    for scenario in features[0]["elements"].as_array().into_iter().flatten() {
        let failed = failures.entry(scenario["name"].as_str().unwrap().to_owned()).or_default();
        let parts = ["steps", "after"].map(|part| scenario[part].as_array().cloned().unwrap_or_default());
        for result in parts.concat().iter().map(|part| &part["result"]) {
            failed.extend(result["error_message"].as_str().map(str::to_owned));
        }
    }
    Ran {
        terminal: String::from_utf8(output.stdout.clone()).unwrap(),
        junit: junit_failures(&read("junit")),
        elapsed: Duration::from_millis(read("elapsed").parse().unwrap()),
        failures,
        output,
    }
}

fn junit_failures(report: &str) -> Vec<String> {
    let plain = |message: &str| message.replace("&quot;", "\"").replace("&apos;", "'").replace("&amp;", "&");
    let failures = report.split("<failure ").skip(1).filter_map(|rest| rest.split("message=\"").nth(1));
    failures.map(|message| plain(message.split('"').next().unwrap_or_default())).collect()
}

fn start(feature: &str, reports: &Path) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(FEATURE, feature).env(REPORTS, reports).output().unwrap()
}

impl Ran {
    /// Checks that exactly these scenarios failed, each once, with all these parts in each of the three reports.
    fn check(&self, expected: &[(&str, &[&str])]) {
        let failed = self.failures.iter().filter(|(_, messages)| !messages.is_empty());
        let failed: Vec<&str> = failed.map(|(name, _)| &**name).collect();
        let mut known: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
        known.sort_unstable();
        assert_eq!(failed, known, "{}", self.terminal);
        for (name, parts) in expected {
            let [message] = &self.failures[*name][..] else { panic!("{name}: {:?}", self.failures[*name]) };
            for part in *parts {
                assert!(message.contains(part), "{name}: {part:?} is missing in {message}");
                // The report in the terminal is indented.
                for line in part.lines() {
                    assert!(self.terminal.contains(line), "{name}: {line:?} is missing in {}", self.terminal);
                }
                let reported = self.junit.iter().any(|message| message.contains(part));
                assert!(reported, "{name}: {part:?} is missing in {:?}", self.junit);
            }
        }
        assert_eq!(self.output.status.code(), Some(1), "{:?}", self.output);
    }
}

fn a_failing_scenario_carries_its_report() {
    let violated =
        "violated: \"the forbidden node is never named leader\"\n  first violation at +0.100s, in cycle 1:";
    let ran = ran("reports");
    ran.check(&[
        (
            "A wait that is not met",
            &[
                "\"n1\" is at \"/n1/leader\"\n\
                 not met in time: \"the snapshot at /n1/leader becomes n2\" within 2s\n  judged 19; the last snapshot, \
                 of cycle 19:\n",
                "      \"leader\": \"n1\"\n",
                "  lifecycle\n    +0.000s idle, cycle 0\n    +1.900s cycles 1 to 19 succeeded\n",
                "  sources: n1, n2",
            ],
        ),
        (
            "An answer from before the step",
            &[
                "there is nothing at \"/n1/leader\"; the nearest that exists is \"/n1\", null\n\
                 not met in time: \"the snapshot at /n1/leader becomes n1\" within 500ms\n",
            ],
        ),
        (
            "An invariant that is violated while a step waits",
            &["a background invariant was violated\n", violated],
        ),
        (
            "An invariant that was violated before a step that does not wait",
            &["Step panicked. Captured output: a background invariant was violated\n", violated],
        ),
        ("An invariant that is violated during other steps", &["a background invariant was violated\n", violated]),
        (
            "An invariant that was never judged",
            &[
                "a background invariant is inconclusive\n\
                 inconclusive (no cycle that counts has succeeded): \"the forbidden node is never named leader\"",
            ],
        ),
        (
            "An invariant that was never judged since a step failed",
            &["the observer \"raft\" is paused: resume it"],
        ),
        (
            "Failures that were recorded",
            &[
                "the observer \"raft\" has recorded failures since the scenario began:\n  \
                 cycle 1 failed in source refresh: there is no node",
            ],
        ),
        (
            "Too few events",
            &["the observer \"raft\" has seen 2 events since the scenario began\nnot met in time: "],
        ),
        (
            "Too few events, with nothing to judge in the window",
            &["the observer \"raft\" has seen 2 events since the scenario began\ninconclusive (the data was stale): "],
        ),
        (
            "A source that does not recover",
            &["not met in time: \"source \\\"n1\\\" is failing\" within 2s\n", "20 consecutive failures"],
        ),
        (
            "A loop that runs, of sources that never answer",
            &[
                "the observer \"dead\" runs, but none of its sources has ever answered: n1 has never answered; ",
                ": connection refused; n2 has never answered; probe in flight for 2.0 s\nnot met in time: \"the data \
                 is fresh\" within 2s\n",
            ],
        ),
        (
            "A loop that keeps running, of sources that never answer",
            &["the observer \"dead\" runs, but none of its sources has ever answered: n1 has never answered; "],
        ),
    ]);
    assert!(ran.elapsed < Duration::from_secs(60), "an hour is not waited for: {:?}", ran.elapsed);
}

fn an_answer_from_before_the_step_does_not_meet_it() {
    ran("older_answers").check(&[(
        "Both nodes hang after they have answered",
        &["null is at \"/leader\"\nnot met in time: \"the snapshot at /leader becomes n1\" within 500ms\n"],
    )]);
}

fn data_of_sources_that_no_longer_answer_is_not_fresh() {
    let silent = "the observer \"raft\" runs, but none of its sources answers now: n1 is ";
    let violated = "violated: \"the data of a source stays fresh\"";
    let empty = "the observer \"empty\" runs, but has no sources, so that nothing is known";
    let ran = ran("fresh");
    ran.check(&[
        ("All nodes refuse after they have answered", &[silent, "refused", violated]),
        ("All nodes hang after they have answered", &[silent, "probe in flight for ", violated]),
        ("All nodes refuse, for less time than makes their answers stale", &[silent, "refused"]),
        (
            "All nodes refuse, and the loop is fresh",
            &[silent, "not met in time: \"the data is fresh\" within 500ms"],
        ),
        ("No source at all", &[empty, "not met in time: \"the data is fresh\" within 2s"]),
        ("No source at all, for a while", &[empty, violated]),
    ]);
    assert!(ran.elapsed < Duration::from_secs(300), "an hour is not waited for: {:?}", ran.elapsed);
    assert!(ran.terminal.contains("; observers without sources: empty\n"), "{}", ran.terminal);
}

fn a_value_that_does_not_change_or_stay_is_shown() {
    let late = |what: &str| format!("\nnot met in time: \"the snapshot at {what} within 2s\n");
    let null = "null is not another value, since it may mean that nothing is known: if it is an answer, write becomes \"null\"";
    let is_not = late("/n1/leader is not n1\"");
    let changes = late("/n1/leader changes\"");
    let violated = "\nviolated: \"the snapshot at /n1/leader stays n1\" during 3600s\n  first violation at +0.100s, in cycle ";
    let ran = ran("snapshots");
    ran.check(&[
        ("The value is still there", &[&format!("\"n1\" is at \"/n1/leader\"{is_not}")]),
        (
            "An unknown value is not another value",
            &[&format!("there is nothing at \"/n1/leader\"; the nearest that exists is \"/n1\", null{is_not}")],
        ),
        ("Null is not another value", &[&format!("null is at \"/n1/leader\"; {null}{is_not}")]),
        (
            "A number that could never be there",
            &[
                "\"2\" is at \"/n1/term\"; the snapshot has the string \"2\", the step has the number 2: write it with \
                 quotes, is not \"\\\"2\\\"\"\ngiven up: \"the snapshot at /n1/term is not 2\" within 3600s\n  \
                 reason: as it is written, the step's value can never be there\n",
            ],
        ),
        (
            "JSON that could never be there",
            &[
                "{\"leader\":\"n1\"} is at \"/n1\"; the step's value is text, because it is not JSON (expected ident at line \
                 1 column 13)\ngiven up: ",
            ],
        ),
        (
            "Nothing changes",
            &[&format!("\"n1\" is at \"/n1/leader\"; it had this value when the step began{changes}")],
        ),
        (
            "A node that refuses has not changed",
            &[&format!("there is nothing at \"/n1/leader\"; the nearest that exists is \"/n1\", null{changes}")],
        ),
        (
            "What was not known before has not changed",
            &["\"n1\" is at \"/n3/leader\"; it had this value when it first became known, after the step began\nnot met"],
        ),
        ("A change to null", &[&format!("null is at \"/n1/leader\"; {null}{changes}")]),
        ("It does not stay", &[&format!("\"n2\" is at \"/n1/leader\"{violated}")]),
        (
            "It does not stay there at all",
            &[&format!(
                "there is nothing at \"/n1/leader\"; the nearest that exists is \"/n1\", with the keys term{violated}"
            )],
        ),
        (
            "A number stays, the step has a string",
            &[
                "2 is at \"/n1/term\"; the snapshot has the number 2, the step has the string \"2\": write it without \
                 quotes, stays \"2\"\nviolated: ",
            ],
        ),
        ("Nothing was judged", &["inconclusive (", "): \"the snapshot at /n1/leader stays n1\""]),
        ("No pointer", &["\"n1.leader\" is no JSON pointer: it must be empty or begin with a slash"]),
        ("No time", &["\"ever\" is no time to wait: \"ever\" is no number: use digits"]),
        ("No JSON", &["the observer \"mute\" has no JSON to look into: add it with `add_with_json`"]),
        ("No JSON to stay", &["the observer \"mute\" has no JSON to look into: add it with `add_with_json`"]),
    ]);
    assert!(ran.elapsed < Duration::from_secs(60), "an hour is not waited for: {:?}", ran.elapsed);
}

fn an_answer_before_a_scenario_does_not_count_for_it() {
    let ran = ran("silent_suite");
    assert_eq!(ran.output.status.code(), Some(0), "{:?}", ran.output);
    let line = "sources that answered: none; sources that never answered: shared/n1\n";
    assert!(ran.terminal.contains(line), "{}", ran.terminal);
}

fn a_mistake_is_one_clear_error() {
    let no_time = |given: &str, mistake: &str| {
        format!(
            "{given:?} is no time to wait: {mistake}; write it such as \"5 seconds\", \"500 ms\" or \"1 minute and \
             5 seconds\""
        )
    };
    ran("input").check(&[
        ("Unknown observer", &["no observer is called \"rift\"; the scenario's observers are raft"]),
        ("No observers", &["no observer is called \"raft\"; the scenario has none: add one"]),
        ("Duplicate name", &["the group already has a member named \"raft\": give each a name of its own"]),
        ("Name of the suite's", &["the group already has a member named \"shared\""]),
        ("Zero time", &[&no_time("0 seconds", "it is zero; it must be more than zero")]),
        ("No time", &[&no_time("a while", "\"a\" is no number: use digits")]),
        ("Too much time", &[&no_time("2 days", "it is over 24 h; it must be at most 24 h")]),
        (
            "Unknown unit",
            &["\"1 minute and 5 parsecs\" is no time to wait: \"parsecs\" is no unit of time; the units are ms, s"],
        ),
        ("No unit", &[&no_time("5", "there is no unit after \"5\"")]),
        ("No number", &[&no_time("seconds", "there is no number before \"seconds\"")]),
        ("Negative time", &[&no_time("-5 seconds", "\"-5\" is negative")]),
        (
            "Words after the time",
            &[&no_time("5 seconds or so", "\"or\" after \"seconds\" is neither a number nor the end")],
        ),
        (
            "Unknown state",
            &[
                "no state is called \"Sleeping\"; the states are starting, refreshing, polling, idle, failed, \
                 stopped",
            ],
        ),
        (
            "Unknown condition",
            &["a source cannot be waited to be \"happy\"; it can be fresh, stale or failing"],
        ),
        (
            "Unknown source",
            &["no source of the observer \"raft\" is called \"n9\"; its sources are n1, n2\nnot met in time: "],
        ),
        ("No events", &["0 events cannot be waited for: the count must be at least 1"]),
        ("Too large a count", &["99999999999999999999 sources cannot be waited for: the count"]),
        ("No pointer", &["\"n1.leader\" is no JSON pointer: it must be empty or begin with a slash"]),
        ("No escape of a pointer", &["\"/n1/a~b\" is no JSON pointer: write ~0 for a ~ in a key"]),
        (
            "A number where the snapshot has a string",
            &[
                "\"2\" is at \"/n1/term\"; the snapshot has the string \"2\", the step has the number 2: write it with \
                 quotes, becomes \"\\\"2\\\"\"\nnot met in time: ",
            ],
        ),
        (
            "A string where the snapshot has a number",
            &[
                "2 is at \"/n1/term\"; the snapshot has the number 2, the step has the string \"2\": write it without \
                 quotes, becomes \"2\"\nnot met in time: ",
            ],
        ),
        (
            "A string where the snapshot has a number, deep inside",
            &[
                "{\"term\":2} is at \"/n1\"; the snapshot has the number 2, the step has the string \"2\": write it \
                 without quotes, 2\nnot met in time: ",
            ],
        ),
        (
            "A large number that is nearly right",
            &["18446744073709551615 is at \"/n1/term\"\nnot met in time: "],
        ),
        (
            "A slip in JSON",
            &[
                "{\"leader\":\"n1\"} is at \"/n1\"; the step's value is text, because it is not JSON (expected ident at line \
                 1 column 13)\nnot met in time: ",
            ],
        ),
        (
            "Escapes and line breaks in a snapshot",
            &["\"one\\ntwo\\u{202e}\\u001b[2J\" is at \"/n1/said\"\nnot met in time: "],
        ),
        (
            "Escapes in a key of a snapshot",
            &["the nearest that exists is \"/n1\", with the keys \\u{1b}[2J\nnot met in time: "],
        ),
        (
            "No such path",
            &[
                "there is nothing at \"/n1/leder/name\"; the nearest that exists is \"/n1\", with the keys \
                 leader\nnot met in time: ",
            ],
        ),
        ("No JSON", &["the observer \"mute\" has no JSON to look into: add it with `add_with_json`"]),
        ("Paused", &["the observer \"raft\" is paused: resume it"]),
        ("Stopped", &["the observer \"raft\" is stopped: start another one"]),
        (
            "Control of what has stopped",
            &["the observer \"raft\" was not paused: the runtime has stopped (stop was requested)"],
        ),
        ("An unknown step", &["Step doesn't match any function"]),
    ]);
}

/// The late scenario shares the observer after the failure and the first event of the early one: it has seen no failure
/// and one of the two events.
fn concurrent_scenarios_count_separately() {
    let ran = ran("side_by_side");
    ran.check(&[
        ("Early", &["the observer \"shared\" has recorded failures since the scenario began:\n  cycle 1 failed"]),
        (
            "Late",
            &[
                "the observer \"shared\" has seen 1 event since the scenario began\nnot met in time: \"at least 2 \
                 events were seen since the scenario began\"",
            ],
        ),
    ]);
    let rests = "this run rests on 1 feature, 2 scenarios, 16 steps that passed, ";
    assert!(ran.terminal.contains(rests), "{}", ran.terminal);
    assert!(ran.terminal.contains("; sources that answered: shared/n1\n"), "{}", ran.terminal);
}

fn a_run_that_fails_by_panicking_returns_an_error() {
    let output = start("panic", Path::new("/nowhere"));
    assert_eq!(output.status.code(), Some(101), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("1 step failed"), "{output:?}");
}

/// Each is reported once: by the step that fails with it, or at the scenario's end.
fn a_violation_that_a_step_expects_fails_the_scenario() {
    let ran = ran("expected_violation");
    assert_eq!(ran.output.status.code(), Some(1), "{:?}", ran.output);
    let violated =
        "a background invariant was violated\nviolated: \"the forbidden node is never named leader\"";
    for (scenario, step) in [
        ("Then the scenario ends", None),
        ("Then a step of the project's own passes", None),
        ("Then a step of the project's own fails", Some("wrong sum")),
        ("Then a shipped step checks the observer", Some(violated)),
    ] {
        let messages = &ran.failures[scenario];
        let once = messages.iter().filter(|message| message.contains(violated)).count();
        assert_eq!(once, 1, "{scenario}: {messages:?}");
        let is_expected = |step: &str| messages.iter().any(|message| message.contains(step));
        assert!(step.is_none_or(is_expected), "{scenario}: {messages:?}");
        let expected = if step == Some("wrong sum") { 2 } else { 1 };
        assert_eq!(messages.len(), expected, "{scenario}: {messages:?}");
    }
}

fn a_run_in_which_nothing_was_run_fails() {
    for (feature, skipped) in [("empty", 0), ("filtered", 0), ("skipped", 1)] {
        let output = ran(feature).output;
        assert_eq!(output.status.code(), Some(1), "{feature}: {output:?}");
        let refused = format!("no step has passed ({skipped} skipped): this run proves nothing");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains(&refused), "{feature}: {errors}");
    }
}

fn a_run_that_uses_no_observer_reports_it() {
    let ran = ran("no_observer");
    assert_eq!(ran.output.status.code(), Some(0), "{:?}", ran.output);
    let line =
        "this run rests on 1 feature, 1 scenario, 1 step that passed; no step has waited on an observer";
    assert!(ran.terminal.contains(line), "{}", ran.terminal);
}

fn a_violation_without_the_after_hook_is_reported() {
    let output = start("no_hook", Path::new("/nowhere"));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let errors = String::from_utf8_lossy(&output.stderr);
    for part in [
        "a scenario has ended, and its end was not awaited: a background invariant was violated\nviolated: \"the \
         forbidden node is never named leader\"",
        "these invariants were not collected: the forbidden node is never named leader; let the run call \
         `.after(after)`",
        "background invariants were violated in scenarios that no hook has ended",
    ] {
        assert!(errors.contains(part), "{part:?} is missing in {errors}");
    }
}
