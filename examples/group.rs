//! Many observations of different kinds: spread over their interval, read by name, stopped together.
//!
//! `cargo run --example group`

use std::time::Duration;

use watchkeeper::group::ObservationGroup;
use watchkeeper::runtime::{CancellationToken, StopOutcome};
use watchkeeper::wait::UnmetOutcome;
use watchkeeper::{DynError, ObservationConfig, ObservedSource, observe};

async fn height(node: ObservedSource<u64>) -> Result<u64, DynError> {
    Ok(node.source)
}

async fn greeting(server: ObservedSource<&'static str>) -> Result<String, DynError> {
    if server.source.is_empty() { Err("connection refused".into()) } else { Ok(server.source.to_owned()) }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), DynError> {
    let window = Duration::from_secs(10);
    let everything = CancellationToken::new(); // of the app: cancelling it stops all members
    let group = ObservationGroup::with_parent(everything.clone());
    let named = |name: &str| {
        // Each gets an offset of its own, so that they do not all work at the same moment.
        group.spread(ObservationConfig { name: Some(name.to_owned()), ..Duration::from_secs(1).into() })
    };
    group.add(observe(named("nodes"), [("n1", 7), ("n2", 8)], height).await?)?;
    group.add(observe(named("mail"), [("smtp", "220 ready"), ("imap", "")], greeting).await?)?;
    let twice = group.add(observe(named("mail"), [("pop3", "+OK")], greeting).await?);
    println!("{}", twice.expect_err("the name is taken"));

    // One line each, whatever they observe.
    for status in group.statuses() {
        println!("{}: {}, cycle {}, {:?}", status.name, status.state, status.cycle, status.source_names);
        assert!(status.freshness.is_fresh() && status.source_names.len() == 2);
    }

    // A handle without the observer's type has the same waits.
    let mail = group.handle("mail").ok_or("it was added")?;
    mail.source_fresh("smtp").within(window).await?;
    let unmet = mail.source_fresh("imap").within(window).await.expect_err("it refuses");
    assert_eq!(unmet.outcome(), UnmetOutcome::NotMet);
    println!("{}", mail.why_stale("imap"));
    assert!(mail.why_stale("imap").contains("imap has never answered; 1"));
    let answers = group.handles().iter().all(|handle| {
        let first = handle.status().source_names[0].clone();
        handle.look(|seen| seen.source_health(&first)).flatten().is_some_and(|health| !health.is_failing())
    });
    assert!(answers, "the first source of each answers");

    // One is controlled by its name; all end together.
    group.control("nodes").ok_or("it was added")?.pause().await?;
    assert!(group.status("nodes").ok_or("it was added")?.paused);
    everything.cancel();
    let ended = group.stop_all().await;
    assert_eq!(ended.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["nodes", "mail"]);
    assert!(ended.iter().all(|(_, outcome)| *outcome == StopOutcome::Stopped));
    Ok(())
}
