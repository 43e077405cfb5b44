//! How many requests an address may send.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::{DashMapStateStore, ShrinkableKeyedStateStore};
use governor::{Quota, RateLimiter};
use http::StatusCode;
use tokio::time::Instant;

use super::problem::Problem;
use crate::config::LimitsConfig;

/// The most addresses that have a quota of their own. Further ones share one.
const MOST_KEYS: usize = 65_536;

/// How often addresses are forgotten that have their whole quota again.
const TIDY: Duration = Duration::from_secs(10);

/// The same while there is no place for further ones.
const TIDY_FULL: Duration = Duration::from_secs(1);

/// How many times the quota of an IPv6 network of 64 bits one of 48 bits has, which one person may hold.
const OF_SITE: u32 = 4;

type Limiter = RateLimiter<Key, Store, SinceStart, NoOpMiddleware<Duration>>;

/// The quotas of addresses: `limits.requests_per_second` and `limits.burst`. An IPv6 address counts as its network of 64 bits, and four times the
/// quota is that of the network of 48 bits around it.
pub struct RateLimit {
    limiter: Limiter,
    sites: Limiter,
    /// How many keys each of them has.
    counts: [Arc<AtomicUsize>; 2],
    most: usize,
    clock: SinceStart,
    /// When addresses are forgotten next, in milliseconds since the start.
    tidy_at: AtomicU64,
}

impl RateLimit {
    /// The quotas of the settings. A setting of 0 counts as 1.
    #[must_use]
    pub fn new(limits: &LimitsConfig) -> Self {
        Self::with_keys(limits, MOST_KEYS)
    }

    fn with_keys(limits: &LimitsConfig, most: usize) -> Self {
        let at_least_one = |count: u32| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        let clock = SinceStart(Instant::now());
        let counts: [Arc<AtomicUsize>; 2] = Default::default();
        let limiter = |times: u32, count: &Arc<AtomicUsize>| {
            let quota = Quota::per_second(at_least_one(limits.requests_per_second.saturating_mul(times)))
                .allow_burst(at_least_one(limits.burst.saturating_mul(times)));
            let store = Store { states: DashMapStateStore::default(), count: Arc::clone(count), most };
            RateLimiter::new(quota, store, clock)
        };
        let (limiter, sites) = (limiter(1, &counts[0]), limiter(OF_SITE, &counts[1]));
        let tidy_at = AtomicU64::new(millis(TIDY));
        Self { limiter, sites, counts, most, clock, tidy_at }
    }

    /// Takes one request from the quota of an address. Requests without an address share a quota.
    ///
    /// # Errors
    ///
    /// A 429 with the seconds after which the address may send the next one.
    pub fn check(&self, peer: Option<SocketAddr>) -> Result<(), Problem> {
        self.tidy();
        let key = peer.map_or(Key::Shared, |peer| Key::of(peer.ip()));
        let site = peer.and_then(|peer| Key::site(peer.ip()));
        let checked = self.limiter.check_key(&key);
        let checked = checked.and_then(|()| site.map_or(Ok(()), |site| self.sites.check_key(&site)));
        checked.map_err(|until| {
            let wait = until.wait_time_from(self.clock.now());
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too-many-requests",
                "There are too many requests",
                "this address has used its quota of requests: send batches, or fewer requests",
            )
            .retry_after(seconds.max(1))
        })
    }

    /// How many addresses are known.
    #[must_use]
    pub fn addresses(&self) -> usize {
        self.limiter.len()
    }

    /// Forgets addresses now and then, sooner if there is no place. A request does it: without requests, nothing grows.
    fn tidy(&self) {
        let now = millis(self.clock.now());
        let at = self.tidy_at.load(Ordering::Relaxed);
        let is_full = self.counts.iter().any(|count| count.load(Ordering::Relaxed) >= self.most);
        let due = if is_full { at.saturating_sub(millis(TIDY.saturating_sub(TIDY_FULL))) } else { at };
        if now >= due
            && self
                .tidy_at
                .compare_exchange(at, now + millis(TIDY), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            self.limiter.retain_recent();
            self.sites.retain_recent();
        }
    }
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit").field("addresses", &self.addresses()).finish_non_exhaustive()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Whose quota it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Address(IpAddr),
    Shared,
}

impl Key {
    fn of(address: IpAddr) -> Self {
        Self::Address(network(address))
    }

    /// The network of 48 bits around an IPv6 address.
    fn site(address: IpAddr) -> Option<Self> {
        match address.to_canonical() {
            IpAddr::V6(address) if !address.is_loopback() => Some(Self::Address(prefix(address, 48))),
            _ => None,
        }
    }
}

fn prefix(address: Ipv6Addr, bits: u32) -> IpAddr {
    Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << (128 - bits))).into()
}

/// Whose address it is: an IPv4 address, or the network of 64 bits that a client of IPv6 has.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => prefix(address, 64),
        address => address,
    }
}

/// The states of a bounded number of keys.
#[derive(Debug)]
struct Store {
    states: DashMapStateStore<Key>,
    /// How many there are: to count them would lock each part of the map.
    count: Arc<AtomicUsize>,
    most: usize,
}

impl StateStore for Store {
    type Key = Key;

    fn measure_and_replace<T, F, E>(&self, key: &Key, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        if self.states.contains_key(key) {
            return self.states.measure_and_replace(key, f);
        }
        if self.count.load(Ordering::Relaxed) >= self.most {
            return self.states.measure_and_replace(&Key::Shared, f);
        }
        // Two requests may add one key at once: it counts twice until the next tidying.
        self.count.fetch_add(1, Ordering::Relaxed);
        self.states.measure_and_replace(key, f)
    }
}

impl ShrinkableKeyedStateStore<Key> for Store {
    fn retain_recent(&self, drop_below: Nanos) {
        ShrinkableKeyedStateStore::retain_recent(&self.states, drop_below);
        ShrinkableKeyedStateStore::shrink_to_fit(&self.states);
        self.count.store(self.states.len(), Ordering::Relaxed);
    }

    fn len(&self) -> usize {
        self.states.len()
    }

    fn is_empty(&self) -> bool {
        self.states.is_empty()
    }
}

/// Tokio's clock, as the time since the start.
#[derive(Clone, Copy, Debug)]
struct SinceStart(Instant);

impl Clock for SinceStart {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests;
