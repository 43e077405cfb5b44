//! Which conditions are printed.

use watchkeeper_chain::Hash;
use watchkeeper_chain::adapter::ChainIdentity;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn refused(method: &'static str, reason: &str) -> Condition {
    let (endpoint, reason) = ("http://node.example:80".to_owned(), reason.to_owned());
    Condition::failing(ChainError::Refused { endpoint, method, reason })
}

fn limited(seconds: u64) -> Condition {
    let retry_after = Some(Duration::from_secs(seconds));
    Condition::failing(ChainError::RateLimited { endpoint: String::new(), retry_after })
}

fn untrue(reason: &str) -> Condition {
    let (endpoint, reason) = (String::new(), reason.to_owned());
    Condition::failing(ChainError::Untrue { endpoint, method: "eth_getBlockByHash", reason })
}

#[test]
fn that_a_node_is_not_believed_is_printed_before_its_errors() {
    let chain = ChainIdentity { id: "5".to_owned(), genesis: Hash([5; 32]) };
    let endpoint = || "http://node.example".to_owned();
    let (method, reason) = ("eth_getBlockReceipts", "no".to_owned());
    let error = ChainError::Refused { endpoint: endpoint(), method, reason };
    let empty = ChainError::Empty { endpoint: endpoint() };
    for error in [Some(&error), Some(&empty), None] {
        for (agreement, kind, text) in [
            (
                Agreement::OtherChain(chain.clone()),
                Kind::OtherChain("5".to_owned()),
                "answers, but is on chain 5 (05050505), and not on the one that is followed",
            ),
            (
                Agreement::Breached,
                Kind::Breached,
                "answers, but is on a branch without a block that is final: not believed",
            ),
        ] {
            let condition = Condition::seen(None, error, true, &agreement, true);
            let besides = error.map_or_else(String::new, |error| format!("; besides: {error}"));
            assert_eq!((condition.kind, condition.text), (kind, format!("{text}{besides}")));
        }
    }
    let now = Instant::now();
    let failure = Arc::new(ProbeFailure::new(now, now, Cause::Error, "HTTP status 503: ask again in 1 s"));
    let condition = Condition::seen(Some(&failure), None, true, &Agreement::Breached, true);
    assert_eq!(condition.text, "fails: HTTP status 503");
}

/// Two conditions, and whether the second one is printed after the first.
#[test]
fn a_condition_is_printed_when_its_kind_changes_and_not_its_text() {
    let other = |id: &str| Condition::not_on("1", id);
    let other_genesis = ChainIdentity { id: "5".to_owned(), genesis: Hash([5; 32]) };
    for (first, second, is_printed) in [
        (refused("eth_getBlockByNumber", "request 1"), refused("eth_getBlockByNumber", "request 2"), false),
        (refused("eth_getBlockByNumber", "request 1"), refused("eth_chainId", "request 1"), true),
        (limited(7), limited(6), false),
        (limited(7), refused("eth_chainId", "7"), true),
        (untrue("block 0123 at height 7"), untrue("block 4567 at height 8"), false),
        (untrue("block 0123"), refused("eth_getBlockByHash", "block 0123"), true),
        (other("5"), other(&other_genesis.id), false),
        (other("5"), other("7"), true),
    ] {
        let now = Instant::now();
        let mut conditions = Conditions::every(SECOND);
        assert_eq!(conditions.note(now, &first), Some(first.text.clone()));
        let printed = conditions.note(now + SECOND, &second);
        assert_eq!(printed, is_printed.then(|| second.text.clone()), "{first:?} {second:?}");
    }
}

/// ```text
/// looks:    fails, answers, fails, ... once a second for five minutes | then it answers
/// printed:  4 lines, "alternates"                                       after a minute "answers"
/// ```
#[test]
fn a_node_that_alternates_is_printed_as_such_once_and_again_when_it_is_steady() {
    let fails = refused("eth_getBlockByNumber", "later");
    let answers = Condition { kind: Kind::Answers, text: "answers".to_owned() };
    let (began, mut conditions) = (Instant::now(), Conditions::every(SECOND));
    let mut printed = Vec::new();
    for second in 0..500 {
        let condition = if second < 300 && second % 2 == 0 { &fails } else { &answers };
        let line = conditions.note(began + SECOND * second, condition);
        printed.extend(line.map(|line| (second, line)));
    }
    let seconds: Vec<_> = printed.iter().map(|(second, _)| *second).collect();
    assert_eq!(seconds, [0, 1, 2, 3, 4, 359], "{printed:#?}");
    let expected = format!(
        "alternates: its condition is printed again when it has stayed for 1m; for now it {}",
        fails.text
    );
    assert_eq!((&printed[4].1, &*printed[5].1), (&expected, "answers"));
}

/// A node that is asked each 20 s changes three times a minute.
#[test]
fn an_alternation_is_noticed_at_long_intervals_too() {
    let conditions = [limited(1), untrue("block 1")];
    let (interval, began) = (20 * SECOND, Instant::now());
    let mut printing = Conditions::every(interval);
    let looks = (0_u32..100).zip(conditions.iter().cycle());
    let printed =
        looks.filter_map(|(look, condition)| printing.note(began + interval * look, condition)).count();
    assert_eq!(printed, 5);
}

/// One that is asked for its chain again each 30 s, and has no error meanwhile.
#[test]
fn a_condition_that_comes_back_twice_a_minute_alternates() {
    let (began, mut printing) = (Instant::now(), Conditions::every(SECOND));
    let looks = (0..600_u32).map(|second| (second, second % 30 == 0));
    let condition = |is_asked| if is_asked { limited(1) } else { untrue("block 1") };
    let printed =
        looks.filter_map(|(second, is_asked)| printing.note(began + SECOND * second, &condition(is_asked)));
    assert_eq!(printed.count(), 5);
}

#[test]
fn changes_that_are_far_apart_are_all_printed() {
    let conditions = [limited(1), untrue("block 1")];
    let (began, mut printing) = (Instant::now(), Conditions::every(SECOND));
    let changes = (0_u32..100).zip(conditions.iter().cycle());
    let far = changes.filter_map(|(nth, condition)| printing.note(began + 40 * SECOND * nth, condition));
    assert_eq!(far.count(), 100);
}

fn answers() -> Condition {
    Condition { kind: Kind::Answers, text: "answers".to_owned() }
}

/// Looks, one an interval: the nth condition at the nth one. Which of them are printed, and what.
fn printed(interval: Duration, looks: impl Iterator<Item = Condition>) -> Vec<(u32, String)> {
    let (began, mut conditions) = (Instant::now(), Conditions::every(interval));
    let lines = (0..)
        .zip(looks)
        .filter_map(|(look, condition)| Some((look, conditions.note(began + interval * look, &condition)?)));
    lines.collect()
}

/// ```text
/// looks, one an hour:  fails, answers, fails, ... | chain 5 from the 21st on
/// printed:             4 lines, "alternates"        at once, and when it has stayed
/// ```
#[test]
fn a_kind_that_was_not_printed_is_printed_while_a_node_alternates() {
    let looks = (0..40).map(|look| match look {
        0..20 if look % 2 == 0 => limited(1),
        0..20 => answers(),
        _ => Condition::not_on("1", "5"),
    });
    let printed = printed(Duration::from_hours(1), looks);
    let looks: Vec<_> = printed.iter().map(|(look, _)| *look).collect();
    assert_eq!(looks, [0, 1, 2, 3, 4, 20, 24], "{printed:#?}");
    assert!(printed[4].1.contains(" has stayed for 3h 10m; "), "{printed:#?}");
    assert!(printed[5].1.starts_with("is on chain 5"), "{printed:#?}");
}

/// One that was among the alternating ones is printed at the fourth look, and not after ten hours.
#[test]
fn a_node_that_stays_down_after_it_alternated_is_printed_soon_at_long_intervals() {
    let looks = (0..40).map(|look| if look < 20 && look % 2 == 0 { answers() } else { limited(1) });
    let printed = printed(Duration::from_hours(1), looks);
    assert_eq!(printed.last().map(|(look, _)| *look), Some(19 + 4), "{printed:#?}");
}

#[test]
fn the_window_is_ten_intervals_and_bounded() {
    for (interval, window) in [(1, 60), (6, 60), (12, 120), (60, 600), (3_600, 11_400), (28_800, 87_000)] {
        let conditions = Conditions::every(SECOND * interval);
        assert_eq!(conditions.window, SECOND * window, "{interval}");
    }
}

#[test]
fn kinds_without_end_are_an_alternation() {
    let looks = (0..100_000).map(|chain| Condition::not_on("1", &chain.to_string()));
    let printed = printed(Duration::from_millis(1), looks);
    assert_eq!(printed.len(), MOST_SEEN + MOST_RETURNS, "{printed:#?}");
    assert!(printed.last().is_some_and(|(_, line)| line.starts_with("alternates: ")), "{printed:#?}");

    let (began, mut conditions) = (Instant::now(), Conditions::every(SECOND));
    for chain in 0..1_000 {
        conditions.note(began + SECOND * chain, &Condition::not_on("1", &chain.to_string()));
    }
    assert!(conditions.seen.len() <= MOST_SEEN && conditions.returns.len() <= MOST_RETURNS);
}

#[test]
fn no_line_has_the_time_that_is_left() {
    let unreachable = |reason: &str| {
        let (endpoint, reason) = ("http://node.example".to_owned(), reason.to_owned());
        ChainError::Unreachable { endpoint, reason }
    };
    for (error, text) in [
        (unreachable("HTTP status 503: ask again in 1 s"), "is unreachable: HTTP status 503"),
        (unreachable("refused: ask again in a while"), "is unreachable: refused: ask again in a while"),
        (unreachable("HTTP status 503"), "is unreachable: HTTP status 503"),
    ] {
        let expected = format!("http://node.example {text}");
        assert_eq!(without_time(&error.to_string()), expected);
        assert_eq!(lasting(error).to_string(), expected);
    }
    assert_eq!(
        without_time("it limits the rate of requests: ask again in 20 s"),
        "it limits the rate of requests"
    );
}
