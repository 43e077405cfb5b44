//! A poll that is cut off loses nothing: what it had collected is told by the next one.

use watchkeeper::{
    Cause, ObservationConfig, ObservationFailureStage, ObservationRuntime, SharedSources, StateKind,
};

use super::{Probes, Says, cycle, sources, told, values};
use crate::common::{each_second, ms, status_when};

//  a:      2           3
//  h:      |==================...
//  poll:   |====x      |
//          1   1.2     2 s     (the time-out is 200 ms, collecting would take 500)
#[tokio::test(start_paused = true)]
async fn a_time_out_keeps_the_events_and_the_state() {
    let probes = Probes::new();
    let set = SharedSources::new(sources(&["a", "gone", "h"]));
    let config = ObservationConfig { poll_timeout: ms(200), ..each_second() };
    let runtime = ObservationRuntime::start(set.clone(), probes.observer(), config).await.unwrap();
    let mut subscription = runtime.handle().subscribe();

    probes.set("a", Says::Value(2)).set("h", Says::Hang).set("new", Says::Error("no"));
    set.remove("gone");
    set.insert("new", 0);
    let failed = status_when(&runtime, |status| status.state.kind() == StateKind::Failed).await;
    let failure = failed.last_error.unwrap();
    assert_eq!(
        (failure.cycle, failure.stage, failure.cause, failure.elapsed),
        (1, ObservationFailureStage::Poll, Cause::TimedOut, ms(200))
    );
    assert_eq!(values(&failed.snapshot.unwrap().value), "a=1 gone=1 h=1", "a failure keeps the snapshot");
    assert!(told(&mut subscription).is_empty());

    probes.set("a", Says::Value(3));
    let snapshot = cycle(&runtime, 2).await;
    assert_eq!((snapshot.generation, &*values(&snapshot.value)), (1, "a=3 h=1 new=-"));
    assert!(snapshot.elapsed.is_zero(), "what hangs was begun by another cycle");
    let expected = [
        "a appeared: 1",
        "gone appeared: 1",
        "h appeared: 1",
        "gone vanished: Some(1)",
        "a changed: 1 to 2",
        "new failed: no",
        "a changed: 2 to 3",
    ];
    assert_eq!(told(&mut subscription), expected, "in the order in which it happened");
    assert_eq!(probes.most_of_one(), 1, "the probe in flight was kept as well");
}
