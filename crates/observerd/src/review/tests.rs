use proptest::prelude::*;
use serde_json::{Value, json};
use watchkeeper_journal::{Entry, Journal, JournalConfig};

use super::facts::Facts;
use super::*;
use crate::loops::cluster::Cluster;
use crate::loops::normalise;

fn now() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

/// `ok:/a`, `fail:/a` with an error, and an input after another colon.
fn op(short: &str) -> Value {
    let mut parts = short.split(':');
    let (outcome, endpoint, input) = (parts.next(), parts.next(), parts.next());
    let mut op = json!({"endpoint": endpoint, "success": outcome == Some("ok")});
    if outcome == Some("fail") {
        op["error"] = "timeout of node 7".into();
    }
    if let Some(input) = input {
        op["input_summary"] = input.into();
    }
    op
}

fn request(op: &Value, history: &[Value]) -> ReviewRequest {
    ReviewRequest::read(&json!({"op": op, "history": history}).to_string()).unwrap()
}

fn cluster(endpoint: &str, message: &str, count: u64, share: f64) -> Cluster {
    Cluster {
        id: "0123456789abcdef".into(),
        endpoint: endpoint.into(),
        message: message.into(),
        count,
        share,
        per_minute: 1.0,
        first_sequence: 1,
        last_sequence: 9,
        first_timestamp: String::new(),
        last_timestamp: String::new(),
        example: String::new(),
        sources: Vec::new(),
    }
}

fn playbook(steps: &[&str], successes: u64, attempts: u64) -> Playbook {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let rate = successes as f64 / attempts as f64;
    Playbook {
        id: "fedcba9876543210".into(),
        steps: steps.iter().map(|step| (*step).to_owned()).collect(),
        successes,
        attempts,
        rate,
        median_ms: None,
        last_sequence: 9,
        last_timestamp: String::new(),
        threads: 1,
    }
}

fn context() -> ReviewContext {
    ReviewContext {
        clusters: Arc::new(Clusters::new(
            vec![
                cluster("/known", "timeout of node <num>", 3, 0.3),
                cluster("/rare", "timeout of node <num>", 2, 0.1),
            ],
            // None of its clusters is listed.
            std::iter::once(("/bad".to_owned(), 0.6)).collect(),
        )),
        playbooks: Arc::new(vec![playbook(&["/a", "/b", "/c"], 4, 5), playbook(&["/x", "/y"], 3, 3)]),
    }
}

/// The ids of the rules, in order.
fn ids(review: &Review) -> String {
    let id = |reason: &String| reason.split(':').next().unwrap_or_default().to_owned();
    review.reasons.iter().map(id).collect::<Vec<_>>().join(" ")
}

#[test]
fn each_rule_has_its_verdict_and_weight() {
    use Verdict::{Accept, Cycle, Reject};
    // (op, history, verdict, confidence, rules)
    type Case<'a> = (&'a str, &'a str, Verdict, f64, &'a str);
    let cases: &[Case<'_>] = &[
        ("ok:/z", "", Accept, 0.5, "A1"),
        ("ok:/z", "ok:/z", Accept, 0.6, "A1 A3"),
        ("ok:/z", "fail:/z", Accept, 0.5, "A1"),
        // Playbooks.
        ("ok:/b", "ok:/a", Accept, 0.74, "A1 A2"),
        ("ok:/c", "ok:/z ok:/a ok:/b ok:/b", Accept, 0.74, "A1 A2"),
        ("ok:/y", "ok:/x ok:/x", Accept, 0.8, "A1 A2"),
        ("ok:/c", "ok:/b", Accept, 0.5, "A1"),
        ("ok:/c", "ok:/a fail:/z ok:/b", Accept, 0.5, "A1"),
        ("ok:/a", "ok:/a", Accept, 0.6, "A1 A3"),
        ("ok:/bad", "", Accept, 0.35, "A1 D1"),
        // Failures.
        ("fail:/z", "", Reject, 0.5, "R1"),
        ("silent:/z", "", Reject, 0.4, "R1 D3"),
        ("fail:/known", "", Reject, 0.75, "R1 R3"),
        ("fail:/rare", "", Reject, 0.5, "R1"),
        ("fail:/bad", "", Reject, 0.5, "R1"),
        ("fail:/z", "fail:/z ok:/y", Reject, 0.65, "R1 R4"),
        ("fail:/z", "fail:/z ok:/z", Reject, 0.5, "R1"),
        // Cycles.
        ("fail:/z", "fail:/z fail:/z", Cycle, 0.6, "C1 R1 R4"),
        ("fail:/z", "fail:/z ok:/q fail:/z fail:/z", Cycle, 0.84, "C1 R1 R4"),
        ("fail:/z", "fail:/z fail:/z ok:/z", Reject, 0.5, "R1"),
        ("fail:/z", "fail:/z silent:/z", Reject, 0.65, "R1 R4"),
        ("silent:/z:in", "fail:/z:in fail:/z:in", Cycle, 0.6, "C2 R1 R4"),
        ("silent:/z:in", "fail:/z:in ok:/z:in", Reject, 0.4, "R1 D3"),
        ("silent:/z:in", "fail:/z:in fail:/z:other", Reject, 0.52, "R1 R4 D3"),
        ("ok:/z:in", "ok:/z:in ok:/z:in ok:/z:in", Accept, 0.6, "A1 A3"),
        ("ok:/z:in", "ok:/z:in ok:/z:in ok:/z:in ok:/z:in", Cycle, 0.5, "C3 A1 A3"),
        ("ok:/z", "ok:/z ok:/z ok:/z ok:/z ok:/z", Accept, 0.6, "A1 A3"),
        ("ok:/z:in", "ok:/z:in ok:/z:in ok:/q ok:/z:in ok:/z:in", Accept, 0.6, "A1 A3"),
        ("fail:/q", "silent:/z fail:/q silent:/z", Cycle, 0.6, "C4 R1 R4"),
        ("fail:/q", "fail:/z ok:/q fail:/z", Reject, 0.5, "R1"),
        ("silent:/r", "fail:/p fail:/q silent:/r fail:/p fail:/q", Cycle, 0.6, "C4 R1 R4"),
        ("fail:/q", "fail:/p fail:/z fail:/r", Reject, 0.5, "R1"),
        ("fail:/b", "silent:/a silent:/a silent:/b fail:/a silent:/a", Reject, 0.65, "R1 R4"),
        ("fail:/a", "silent:/a silent:/b fail:/a silent:/a silent:/b", Reject, 0.65, "R1 R4"),
    ];
    for (reviewed, history, verdict, confidence, rules) in cases {
        let history: Vec<Value> = history.split_whitespace().map(op).collect();
        let review = review(&request(&op(reviewed), &history), &context(), now()).unwrap();
        let expected = (*verdict, *confidence, (*rules).to_owned());
        assert_eq!(
            (review.verdict, review.confidence, ids(&review)),
            expected,
            "{reviewed} after {history:?}: {review:?}"
        );
    }
}

#[test]
fn claims_that_contradict_themselves_are_rejected_first() {
    let mut contradiction = op("ok:/z:in");
    contradiction["error"] = "but it was full".into();
    let history: Vec<Value> = std::iter::repeat_n(op("ok:/z:in"), 6).collect();
    let review = review(&request(&contradiction, &history), &context(), now()).unwrap();
    assert_eq!((review.verdict, review.confidence), (Verdict::Reject, 0.6));
    assert_eq!(ids(&review), "R2 C3 A1 A3");
}

#[test]
fn a_time_from_the_future_is_a_doubt() {
    let mut op = op("ok:/z");
    for (timestamp, confidence) in
        [("2026-06-01T12:05:00Z", 0.5), ("2026-06-01T12:05:01Z", 0.45), ("1970-01-01T00:00:00Z", 0.5)]
    {
        op["timestamp"] = timestamp.into();
        let review = review(&request(&op, &[]), &context(), now()).unwrap();
        assert_eq!(review.confidence.to_bits(), f64::to_bits(confidence), "{timestamp}");
    }
}

#[test]
fn the_operation_itself_and_other_staffers_are_no_history() {
    let mut own = op("fail:/z");
    own["staffer_id"] = "one".into();
    own["timestamp"] = "2026-06-01T11:00:00Z".into();
    let mut other = own.clone();
    other["staffer_id"] = "two".into();
    let mut before = own.clone();
    before["timestamp"] = "2026-06-01T10:59:00Z".into();
    // (history, verdict)
    let cases = [
        (vec![own.clone()], "R1"),
        (vec![other.clone(), other.clone()], "R1"),
        (vec![before.clone(), before.clone(), own.clone()], "C1 R1 R4"),
        (vec![before.clone(), own.clone()], "R1 R4"),
        (vec![op("fail:/z"), op("fail:/z")], "C1 R1 R4"),
    ];
    for (history, rules) in cases {
        let review = review(&request(&own, &history), &context(), now()).unwrap();
        assert_eq!(ids(&review), rules, "{history:?}");
    }
}

#[test]
fn inputs_are_compared_as_a_whole() {
    let long = "x ".repeat(10_000);
    let of = |end: &str| {
        let mut op = op("silent:/z");
        op["input_summary"] = format!("{long}{end}").into();
        op
    };
    // (the inputs of the history, rules)
    let cases = [(["one", "two"], "R1 R4 D3"), (["three", "\n three\t"], "C2 R1 R4")];
    for (ends, rules) in cases {
        let mut history = ends.map(of);
        // Not the same error: that is another rule.
        for (past, error) in history.iter_mut().zip(["full", "gone"]) {
            past["error"] = error.into();
        }
        let review = review(&request(&of("three"), &history), &context(), now()).unwrap();
        assert_eq!(ids(&review), rules, "{ends:?}");
    }
}

#[test]
fn only_the_entries_that_rules_read_are_normalised() {
    let mut past = op("fail:/z");
    past["error"] = "word 17 ".repeat(3_000).into();
    let read = |count: usize| {
        let history: Vec<Value> = std::iter::repeat_n(past.clone(), count).collect();
        let (request, before) = (request(&op("fail:/q"), &history), normalise::steps());
        review(&request, &context(), now()).unwrap();
        normalise::steps() - before
    };
    let few = read(19);
    assert!(few > 0);
    assert_eq!(read(MAX_HISTORY), few);
}

#[test]
fn what_is_no_request_is_refused_with_its_place() {
    let long: Vec<Value> = std::iter::repeat_n(op("ok:/z"), MAX_HISTORY + 1).collect();
    // (body, what is said, pointer)
    let cases = [
        ("{".to_owned(), "no JSON at line 1", None),
        ("[]".to_owned(), "must be an object with `op`", None),
        ("{}".to_owned(), "must be an object with `op`", None),
        (json!({"op": op("ok:/z"), "history": {}}).to_string(), "must be an object with `op`", None),
        (json!({"op": 7}).to_string(), "`op`: a JSON value that is no object", Some("/op")),
        (json!({"op": null}).to_string(), "`op`: a JSON value", Some("/op")),
        (json!({"op": {}}).to_string(), "`op`: `endpoint` is required", Some("/op/endpoint")),
        (json!({"op": {"endpoint": " "}}).to_string(), "`endpoint` is required", Some("/op/endpoint")),
        (
            json!({"op": {"endpoint": "/z", "duration_ms": -1}}).to_string(),
            "must be zero or more",
            Some("/op/duration_ms"),
        ),
        (r#"{"op":{"endpoint":"/z","endpoint":"/z"}}"#.to_owned(), "given twice", Some("/op/endpoint")),
        (
            json!({"op": op("ok:/z"), "history": [op("ok:/z"), {"a": 1}]}).to_string(),
            "`history[1]`",
            Some("/history/1"),
        ),
        (json!({"op": op("ok:/z"), "history": [null]}).to_string(), "`history[0]`", Some("/history/0")),
        (json!({"op": op("ok:/z"), "history": long}).to_string(), "has 1001 entries", Some("/history")),
        (format!("{{\"op\":{}", "[".repeat(100_000)), "no JSON", None),
    ];
    for (body, says, pointer) in cases {
        let result = ReviewRequest::read(&body).and_then(|request| review(&request, &context(), now()));
        let error = result.expect_err(&body[..body.len().min(80)]);
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(error.pointer().as_deref(), pointer, "{error}");
    }
}

#[test]
fn a_history_is_read_as_records_are() {
    let history =
        [json!({"endpoint": "/z", "success": "yes", "timestamp": 7, "duration_ms": -1}), op("ok:/z")];
    let review = review(&request(&op("ok:/z"), &history), &context(), now()).unwrap();
    assert_eq!(ids(&review), "A1 A3");
}

#[tokio::test]
async fn an_absent_history_is_what_was_recorded_of_the_staffer() {
    let journal = Journal::in_memory(JournalConfig::default()).unwrap();
    let append = async |staffer: &str, endpoint: &str| {
        let body = json!({"endpoint": endpoint, "staffer_id": staffer, "success": false, "error": "full"});
        journal.append(Entry::from_text(body.to_string()).unwrap()).await.unwrap();
    };
    for number in 0..120 {
        append("one", &format!("/{number}")).await;
        append("two", "/z").await;
    }
    journal.append(Entry::from_text(r#"{"no":"operation"}"#).unwrap()).await.unwrap();
    let mut reviewed = op("ok:/z");
    // (staffer, history of the request, entries, the first one)
    let cases = [
        ("one", None, Some(40), "/80"),
        ("three", None, Some(0), ""),
        ("", None, None, ""),
        ("one", Some(vec![]), Some(0), ""),
    ];
    for (staffer, history, count, first) in cases {
        reviewed["staffer_id"] = staffer.into();
        let mut request = ReviewRequest { history, ..request(&reviewed, &[]) };
        add_history(&mut request, &journal).await.unwrap();
        let history = request.history.as_ref();
        assert_eq!(history.map(Vec::len), count, "{staffer}");
        let oldest = history.and_then(|history| Facts::read_past(history.first()?.get()));
        assert_eq!(oldest.map(|past| past.endpoint).unwrap_or_default(), first);
    }
    journal.close().await.unwrap();
}

#[tokio::test]
async fn a_fetched_history_does_not_have_the_operation_itself() {
    let failed = |endpoint: &str, timestamp: Option<&str>| {
        let body = json!({"endpoint": endpoint, "staffer_id": "s", "success": false, "error": "full"});
        let mut body = body.as_object().unwrap().clone();
        body.extend(timestamp.map(|at| ("timestamp".to_owned(), at.into())));
        Value::from(body)
    };
    let (one, two) = (Some("2026-06-01T10:00:00Z"), Some("2026-06-01T10:00:01+00:00"));
    // (recorded, reviewed, rules)
    let cases = [
        (vec![failed("/p", None)], failed("/p", None), "R1"),
        (vec![failed("/p", one)], failed("/p", one), "R1"),
        (vec![failed("/p", one)], failed("/p", two), "R1 R4"),
        (vec![failed("/p", None), failed("/p", None), failed("/q", None)], failed("/p", None), "R1 R4"),
        (vec![failed("/p", one), failed("/p", two), failed("/q", None)], failed("/p", two), "R1 R4"),
        (vec![failed("/p", one), failed("/p", two), failed("/p", None)], failed("/p", None), "C1 R1 R4"),
        (vec![failed("/p", one), failed("/p", one)], failed("/p", one), "R1 R4"),
        (vec![failed("/q", None)], failed("/p", None), "R1"),
    ];
    for (recorded, reviewed, rules) in cases {
        let journal = Journal::in_memory(JournalConfig::default()).unwrap();
        for body in &recorded {
            let (_, entry) = crate::operation::Operation::read(&body.to_string(), now()).unwrap();
            journal.append(entry).await.unwrap();
        }
        let mut request = ReviewRequest::read(&json!({"op": reviewed}).to_string()).unwrap();
        add_history(&mut request, &journal).await.unwrap();
        let review = review(&request, &context(), now()).unwrap();
        assert_eq!(ids(&review), rules, "{reviewed} after {recorded:?}");
        journal.close().await.unwrap();
    }
}

#[test]
fn the_schema_requires_what_the_service_requires() {
    let schema =
        |schema: utoipa::openapi::RefOr<utoipa::openapi::Schema>| serde_json::to_value(schema).unwrap();
    let request = schema(<ReviewRequest as utoipa::PartialSchema>::schema());
    assert_eq!(request["required"], json!(["op"]), "{request}");
    assert_eq!(request["properties"]["history"]["maxItems"], json!(MAX_HISTORY), "{request}");
    let operation = schema(<ReviewedOperation as utoipa::PartialSchema>::schema());
    assert_eq!(operation["required"], json!(["endpoint"]), "{operation}");
    assert_eq!(operation["properties"]["endpoint"]["minLength"], json!(1), "{operation}");
}

#[test]
fn the_answer_is_json_as_documented() {
    let review = review(&request(&op("fail:/z"), &[]), &ReviewContext::default(), now()).unwrap();
    let json = serde_json::to_value(&review).unwrap();
    assert_eq!(
        json,
        json!({"verdict": "reject", "confidence": 0.5, "reasons": ["R1: the operation of `/z` failed"]})
    );
}

proptest! {
    #[test]
    fn every_answer_is_bounded_and_has_reasons(
        op in short(), history in proptest::collection::vec(short(), 0..40), long in 0..2_usize,
    ) {
        let mut reviewed = tests::op(&op);
        if long > 0 {
            reviewed["endpoint"] = "\u{1b}é".repeat(300).into();
            reviewed["error"] = "secret ".repeat(10_000).into();
        }
        let history: Vec<Value> = history.iter().map(|past| tests::op(past)).collect();
        let review = review(&request(&reviewed, &history), &context(), now()).unwrap();
        prop_assert!((0.0..=0.99).contains(&review.confidence));
        prop_assert!(!review.reasons.is_empty());
        for reason in &review.reasons {
            prop_assert!(reason.len() < 1_200 && !reason.chars().any(char::is_control), "{}", reason);
        }
        if review.verdict == Verdict::Accept {
            prop_assert!(reviewed["success"] == true);
        }
    }
}

fn short() -> impl Strategy<Value = String> {
    (0..3_usize, 0..4_usize, 0..3_usize).prop_map(|(outcome, endpoint, input)| {
        let input = ["", ":one", ":two"][input];
        format!("{}:{}{input}", ["ok", "fail", "silent"][outcome], ["/a", "/b", "/c", "/bad"][endpoint])
    })
}
