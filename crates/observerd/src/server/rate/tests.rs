use tokio::time::advance;

use super::*;

fn limits(requests_per_second: u32, burst: u32) -> LimitsConfig {
    LimitsConfig { requests_per_second, burst, ..LimitsConfig::default() }
}

fn peer(address: &str) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), 1_234)
}

/// How many of 100 requests pass.
fn passed(rate: &RateLimit, address: &str) -> usize {
    (0..100).filter(|_| rate.check(Some(peer(address))).is_ok()).count()
}

#[tokio::test(start_paused = true)]
async fn an_address_has_its_burst_and_then_its_rate() {
    let rate = RateLimit::new(&limits(2, 10));
    assert_eq!(passed(&rate, "192.0.2.1"), 10);
    assert_eq!(passed(&rate, "192.0.2.2"), 10);
    advance(Duration::from_millis(1_500)).await;
    assert_eq!(passed(&rate, "192.0.2.1"), 3);
    advance(Duration::from_hours(1)).await;
    assert_eq!(passed(&rate, "192.0.2.1"), 10);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_when_to_try_again() {
    let rate = RateLimit::new(&limits(50_000, 1));
    rate.check(Some(peer("192.0.2.1"))).unwrap();
    let problem = rate.check(Some(peer("192.0.2.1"))).unwrap_err();
    assert_eq!((problem.status, problem.retry_after), (429, Some(1)));

    let rate = RateLimit::new(&limits(1, 1));
    rate.check(Some(peer("192.0.2.1"))).unwrap();
    advance(Duration::from_millis(1)).await;
    let seconds = rate.check(Some(peer("192.0.2.1"))).unwrap_err().retry_after.unwrap();
    assert_eq!(seconds, 1);
    advance(Duration::from_secs(seconds)).await;
    assert!(rate.check(Some(peer("192.0.2.1"))).is_ok(), "after the seconds it passes");
}

#[tokio::test(start_paused = true)]
async fn addresses_that_share_a_quota() {
    let rate = RateLimit::new(&limits(1, 10));
    assert_eq!(passed(&rate, "2001:db8:0:1::1"), 10);
    assert_eq!(passed(&rate, "2001:db8:0:1:ffff::2"), 0, "the same /64");
    assert_eq!(passed(&rate, "2001:db8:0:2::1"), 10, "another /64");
    assert_eq!(passed(&rate, "192.0.2.1"), 10);
    assert_eq!(passed(&rate, "::ffff:192.0.2.1"), 0, "the same address");
    assert_eq!(passed(&rate, "::ffff:192.0.2.2"), 10);
    assert_eq!(passed(&rate, "::1"), 10);
    assert_eq!((0..100).filter(|_| rate.check(None).is_ok()).count(), 10);
}

#[tokio::test(start_paused = true)]
async fn addresses_are_bounded_and_forgotten() {
    let rate = RateLimit::with_keys(&limits(10, 10), 4);
    for last in 1..=4 {
        assert_eq!(passed(&rate, &format!("192.0.2.{last}")), 10);
    }
    assert_eq!(passed(&rate, "198.51.100.1"), 10, "the shared quota");
    assert_eq!(passed(&rate, "198.51.100.2"), 0, "the shared quota");
    for last in 1..=200 {
        let _ = rate.check(Some(peer(&format!("203.0.113.{last}"))));
    }
    assert_eq!(rate.addresses(), 5);

    advance(TIDY).await;
    assert_eq!(passed(&rate, "198.51.100.2"), 10, "a quota of its own");
    assert_eq!(rate.addresses(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_network_of_48_bits_has_four_times_the_quota() {
    let rate = RateLimit::new(&limits(1, 10));
    for (network, expected) in [(1, 10), (2, 10), (3, 10), (4, 10), (5, 0), (6, 0)] {
        assert_eq!(passed(&rate, &format!("2001:db8:7:{network}::1")), expected, "{network}");
    }
    assert_eq!(passed(&rate, "2001:db8:8:1::1"), 10, "another network");
}

#[tokio::test(start_paused = true)]
async fn a_full_table_forgets_those_that_have_their_quota_after_a_second() {
    let rate = RateLimit::with_keys(&limits(10, 10), 4);
    for last in 1..=4 {
        rate.check(Some(peer(&format!("192.0.2.{last}")))).unwrap();
    }
    assert_eq!(passed(&rate, "198.51.100.1"), 10, "the shared quota");
    assert_eq!(passed(&rate, "198.51.100.2"), 0, "the shared quota");
    advance(TIDY_FULL).await;
    assert_eq!(passed(&rate, "198.51.100.2"), 10, "a quota of its own");
    assert_eq!(passed(&rate, "198.51.100.3"), 10, "a quota of its own");
}

#[tokio::test(start_paused = true)]
async fn zeros_count_as_one() {
    let rate = RateLimit::new(&limits(0, 0));
    assert_eq!(passed(&rate, "192.0.2.1"), 1);
}
