//! A live feed runs on tokio's clock.

use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::feed::{Feed, FeedError, FeedSuccess};
use watchkeeper::subscription::{CursorError, RecvError};
use watchkeeper::wait::UnmetOutcome;
use watchkeeper::{DynError, ObservationConfig, ObservedSource, Observer, async_trait};

const SECOND: Duration = Duration::from_secs(1);

struct Heights;

#[async_trait]
impl Observer for Heights {
    type Source = ();
    type State = ();
    type Snapshot = u64;
    type Event = u64;

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<(), DynError> {
        Ok(())
    }

    async fn poll(&self, _: &[ObservedSource<()>], (): &mut ()) -> Result<Vec<u64>, DynError> {
        Ok(Vec::new())
    }

    fn snapshot(&self, (): &()) -> u64 {
        0
    }
}

fn config() -> ObservationConfig {
    ObservationConfig { history_limit: 2, ..ObservationConfig::default() }
}

fn success(cycle: u64, value: u64) -> FeedSuccess<u64, u64> {
    FeedSuccess { cycle, generation: 1, began: Instant::now(), is_polled: true, value, events: vec![value] }
}

#[tokio::test(start_paused = true)]
async fn windows_end_and_data_becomes_stale_without_publications() {
    let mut feed: Feed<Heights> = Feed::live(&config(), None).unwrap();
    let handle = feed.handle();
    let reached = handle.eventually("height 7", |height| *height == 7).within(5 * SECOND);
    let never = handle.eventually("height 9", |height| *height == 9).within(5 * SECOND);
    let began = Instant::now();
    tokio::time::advance(SECOND).await;
    feed.success(Instant::now(), success(0, 7)).unwrap();
    assert_eq!(reached.await.unwrap().value, 7);
    assert!(handle.freshness().is_fresh());
    assert_eq!(never.await.unwrap_err().outcome(), UnmetOutcome::NotMet);
    assert_eq!(began.elapsed(), 5 * SECOND);
    assert!(handle.freshness().is_stale(), "the last success is 4 s ago");
}

#[tokio::test(start_paused = true)]
async fn a_moment_to_come_is_refused() {
    let mut feed: Feed<Heights> = Feed::live(&config(), None).unwrap();
    let refused = feed.success(feed.now() + SECOND, success(0, 7));
    assert_eq!(refused, Err(FeedError::NotYet { by: SECOND }));
    let text = "this is 1s from now on the feed's clock, which is tokio's: publish with Instant::now()";
    assert_eq!(refused.unwrap_err().to_string(), text);
    feed.success(Instant::now(), success(0, 7)).unwrap();
}

#[tokio::test(start_paused = true)]
async fn it_continues_where_an_earlier_process_was() {
    let mut feed: Feed<Heights> = Feed::live(&config(), None).unwrap();
    let begin = feed.cursor();
    for number in 0..3 {
        feed.success(Instant::now(), success(number, number)).unwrap();
    }
    let (end, earlier) = (feed.cursor(), feed.cursor().at(1));
    drop(feed);

    let mut feed: Feed<Heights> = Feed::live(&config(), Some(end)).unwrap();
    let handle = feed.handle();
    let (mut at_the_end, mut behind) =
        (handle.subscribe_from(end).unwrap(), handle.subscribe_from(earlier).unwrap());
    let mut from_the_begin = handle.subscribe_from(begin).unwrap();
    let future = handle.subscribe_from(end.at(4)).map(drop);
    assert_eq!(future, Err(CursorError::Future { seq: 4, published: 3 }));
    feed.success(Instant::now(), success(3, 3)).unwrap();
    assert_eq!(at_the_end.recv().await.unwrap().events, [3]);
    assert_eq!(behind.recv().await, Err(RecvError::Lagged { missed: 2, resume: end }));
    assert_eq!(behind.recv().await.unwrap().events, [3]);
    assert_eq!(from_the_begin.recv().await, Err(RecvError::Lagged { missed: 3, resume: end }));
}
