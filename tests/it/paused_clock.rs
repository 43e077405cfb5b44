//! A paused clock does not wait for real I/O: the report of a wait in which nothing answered says so, and no other
//! does.

use std::net::TcpListener;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use watchkeeper::runtime::StateKind;
use watchkeeper::wait::{Unmet, UnmetOutcome};
use watchkeeper::{DynError, ObservationRuntime, ObservedSource, PerSource, StaticSourceProvider};

use crate::common::{Act, App, Call, each_second, ms};

/// A wait of 5 s for a server that accepts connections and never answers.
async fn of_a_silent_server(probe_timeout: u64) -> Unmet {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let nodes = StaticSourceProvider::new(vec![ObservedSource::new("n1", address)]);
    let observer = PerSource::new(|node: ObservedSource<std::net::SocketAddr>| async move {
        let mut stream = TcpStream::connect(node.source).await?;
        Ok::<_, DynError>(stream.read_u8().await?)
    });
    let observer = observer.probe_timeout(ms(probe_timeout));
    let runtime = ObservationRuntime::start(nodes, observer, each_second()).await.unwrap();
    let wait = runtime.handle().all_sources("it answers 1", |value| *value == 1).within(ms(5_000));
    wait.await.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn real_io_is_not_waited_for_and_the_report_says_so() {
    // In flight to the end, and timed out.
    for probe_timeout in [60_000, 700] {
        let unmet = of_a_silent_server(probe_timeout).await;
        assert_eq!(unmet.outcome(), UnmetOutcome::NotMet, "{unmet}");
        let report = unmet.to_string();
        let noted = "tokio's clock ran 5.0 s in ";
        assert!(report.contains(noted) && report.contains(" s: it is paused, and does not wait"), "{report}");
    }
}

/// One source answers as a test has scripted it; the other one is real.
#[tokio::test(start_paused = true)]
async fn a_source_that_answers_does_not_hide_the_one_that_is_real() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let nodes = [("scripted", None), ("real", Some(server.local_addr().unwrap()))];
    let observer = PerSource::new(|node: ObservedSource<Option<std::net::SocketAddr>>| async move {
        let Some(address) = node.source else { return Ok(1) };
        Ok::<_, DynError>(TcpStream::connect(address).await?.read_u8().await?)
    });
    let runtime = ObservationRuntime::start(nodes, observer, each_second()).await.unwrap();
    let wait = runtime.handle().all_sources("they answer 1", |value| *value == 1).within(ms(5_000));
    let report = wait.await.unwrap_err().to_string();
    assert!(report.contains("tokio's clock ran 5.0 s in "), "{report}");
    let of_the_other = runtime.handle().source_failing("scripted").within(ms(5_000));
    let report = of_the_other.await.unwrap_err().to_string();
    assert!(!report.contains("tokio's clock ran"), "{report}");
}

/// On a running clock the report of the same wait does not mention it.
#[tokio::test]
async fn a_running_clock_is_not_mentioned() {
    let app = App::new();
    app.then(Call::Poll, [Act::Hang]);
    let runtime = app.start(watchkeeper::ObservationConfig { interval: ms(10), ..each_second() }).await;
    let wait = runtime.handle().eventually("the impossible", |_| false).within(ms(300));
    let report = wait.await.unwrap_err().to_string();
    assert!(!report.contains("clock"), "{report}");
}

/// What a test scripts on a paused clock fails in its own time.
#[tokio::test(start_paused = true)]
async fn failures_that_are_scripted_are_not_blamed_on_the_clock() {
    let app = App::new();
    app.then(Call::Poll, (0..9).map(|_| Act::Err("down")));
    let runtime = app.start(each_second()).await;
    let handle = runtime.handle();
    let failing = handle.eventually("it recovers", |_| true).within(ms(5_000)).await.unwrap_err();
    let other = App::new().start(each_second()).await;
    let not_met = other.handle().eventually("the impossible", |_| false).within(ms(5_000));
    for unmet in [failing, not_met.await.unwrap_err()] {
        assert!(!unmet.to_string().contains("clock"), "{unmet}");
    }
}

/// Less than a tenth of a second ahead is what any test on a paused clock is.
#[tokio::test(start_paused = true)]
async fn a_clock_that_is_hardly_ahead_is_not_mentioned() {
    let app = App::new();
    app.then(Call::Poll, [Act::Hang]);
    let runtime = app.start(each_second()).await;
    runtime.handle().reaches(StateKind::Polling).within(ms(5_000)).await.unwrap();
    let wait = runtime.handle().eventually("an answer", |_| true).within(ms(90));
    let report = wait.await.unwrap_err().to_string();
    assert!(!report.contains("clock"), "{report}");
}

/// A cycle that never ends judges nothing.
#[tokio::test(start_paused = true)]
async fn a_cycle_that_hangs_names_the_clock() {
    let app = App::new();
    app.then(Call::Poll, [Act::Hang]);
    let runtime = app.start(each_second()).await;
    let wait = runtime.handle().eventually("an answer", |_| true).within(ms(5_000));
    let report = wait.await.unwrap_err().to_string();
    assert!(report.contains("tokio's clock ran 5.0 s in "), "{report}");
}
