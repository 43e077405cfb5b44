//! A run of `PerSource`: waits on sources have their verdicts again.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use watchkeeper::per_source::{PerSourceSnapshot, SourceEvent};
use watchkeeper::source::SharedSources;
use watchkeeper::wait::Wait;
use watchkeeper::{
    DynError, ObservationConfig, ObservationHandle, ObservationRuntime, ObservationSnapshot, ObservedSource,
    PerSource,
};
use watchkeeper_journal::Journal;
use watchkeeper_journal::run::{PerSourceFormat, Replay, RunJournal};

use super::app::ms;
use crate::common;

type Nodes = PerSource<u64, u64>;
type Seen = Arc<ObservationSnapshot<PerSourceSnapshot<u64>>>;
type Verdict = Pin<Box<dyn Future<Output = String> + Send>>;

fn config() -> ObservationConfig {
    ObservationConfig { interval: ms(500), history_limit: 100, ..ObservationConfig::default() }
}

//  n1: counts; fails from 4 to 6 s      n2: hangs from 3 to 9 s, leaves at 12 s      n3: joins at 7 s, slow      n4: always fails
async fn probe(start: Instant, node: ObservedSource<u64>) -> Result<u64, DynError> {
    let second = start.elapsed().as_secs_f64();
    match &*node.name {
        "n1" if (4.0..6.0).contains(&second) => Err("refused".into()),
        "n2" if (3.0..9.0).contains(&second) => std::future::pending().await,
        "n3" => {
            tokio::time::sleep(ms(180)).await;
            Ok(3)
        }
        "n4" => Err("never".into()),
        _ => Ok(start.elapsed().as_secs()),
    }
}

fn verdict<T: 'static>(wait: Wait<'static, Nodes, T>, cycle: fn(&T) -> u64) -> Verdict {
    Box::pin(async move {
        match wait.await {
            Ok(value) => format!("met in cycle {}", cycle(&value)),
            Err(unmet) => format!("{:?}, reason {:?}", unmet.outcome(), unmet.reason()),
        }
    })
}

fn waits(handle: &ObservationHandle<Nodes>, at: u64) -> Vec<(String, Verdict)> {
    let mut all = Vec::new();
    let cycle = |seen: &Seen| seen.cycle;
    for window in [ms(3_130), ms(7_070)] {
        let mut add = |kind: &str, verdict| all.push((format!("{kind} for {window:?} at {at}"), verdict));
        add("all", verdict(handle.all_sources("all", |_| true).within(window), cycle));
        add("any 3", verdict(handle.any_source("3", |value| *value == 3).within(window), cycle));
        add("three", verdict(handle.at_least_sources(3, "three", |_| true).within(window), cycle));
        let two = |seen: &PerSourceSnapshot<u64>| seen.answering().count() >= 2;
        add("always", verdict(handle.always("two answer", two).during(window), cycle));
        let answering = |seen: &PerSourceSnapshot<u64>| Some(seen.answering().count());
        add("stable", verdict(handle.stable_for("as many", ms(1_600), answering).within(window), cycle));
        for name in ["n1", "n2", "n3", "n4"] {
            let kind = |what: &str| format!("{what} {name}");
            add(&kind("fresh"), verdict(handle.source_fresh(name).within(window), cycle));
            add(&kind("stale"), verdict(handle.source_stale(name).within(window), cycle));
            add(&kind("failing"), verdict(handle.source_failing(name).within(window), cycle));
            add(&kind("vanished"), verdict(handle.source_vanished(name).within(window), |seen| seen.cycle));
            let recovered = move |event: &SourceEvent<u64>| matches!(event, SourceEvent::Recovered { source, .. } if &**source == name);
            let event = handle.event("it recovers", recovered).within(window);
            add(&kind("recovered"), verdict(event, |met| met.batch.cycle));
        }
    }
    all
}

const BEGIN: [u64; 6] = [255, 2_755, 5_255, 8_255, 13_755, 16_755];

#[tokio::test(start_paused = true)]
async fn waits_on_sources_have_the_verdicts_of_the_run() {
    let start = Instant::now();
    let sources = SharedSources::new(["n1", "n2", "n4"].map(|name| ObservedSource::new(name, 0)).into());
    let observer = Nodes::new(move |node| probe(start, node)).probe_timeout(Duration::from_secs(60));
    let runtime = ObservationRuntime::start_in_background(sources.clone(), observer, config()).unwrap();
    let handle = runtime.handle();
    let journal: RunJournal<Nodes, _> =
        RunJournal::of(Journal::in_memory(common::config()).unwrap(), "nodes", PerSourceFormat);
    let recording = journal.record(&handle, &config()).unwrap();
    let mut judged = Vec::new();
    let mut steps: Vec<u64> = BEGIN.into_iter().chain([6_900, 11_900, 22_130]).collect();
    steps.sort_unstable();
    let mut subscription = handle.subscribe();
    for at in steps {
        sleep_until(start + ms(at)).await;
        match at {
            6_900 => drop(sources.insert("n3", 0)),
            11_900 => drop(sources.remove("n2")),
            22_130 => drop(runtime.stop().await),
            _ => judged.extend(waits(&handle, at).into_iter().map(|(kind, wait)| {
                (kind, tokio::spawn(async move { (wait.await, start.elapsed().as_millis()) }))
            })),
        }
    }
    let mut live = Vec::new();
    for (kind, wait) in judged {
        let (verdict, when) = wait.await.unwrap();
        live.push((kind, verdict, when));
    }
    assert!(recording.finished().await.is_ok());
    let mut events = Vec::new();
    while let Ok(batch) = subscription.recv().await {
        events
            .extend(batch.events.iter().map(|event| (event.source().to_string(), event.asked_at() - start)));
    }

    let mut replay: Replay<Nodes, _> = Replay::of(&journal.journal().view(), PerSourceFormat).unwrap();
    let (handle, began) = (replay.handle(), replay.recorded_at());
    let (mut again, mut waiting) = (Vec::new(), Vec::<(String, Verdict)>::new());
    let mut subscription = handle.subscribe();
    for millis in (0..25_000).step_by(5) {
        while replay.next_at().is_some_and(|next| next <= began + ms(millis)) {
            replay.step().unwrap();
            look(&mut waiting, &mut again, (replay.now() - began).as_millis());
        }
        let now = replay.advance(began + ms(millis));
        look(&mut waiting, &mut again, (now - began).as_millis());
        if BEGIN.contains(&millis) {
            waiting.extend(waits(&handle, millis));
            look(&mut waiting, &mut again, u128::from(millis));
        }
    }
    assert!(waiting.is_empty());
    live.sort();
    again.sort();
    assert_eq!(live, again);
    for outcome in ["met in cycle", "NotMet", "Violated"] {
        assert!(live.iter().any(|(_, verdict, _)| verdict.contains(outcome)), "no wait was {outcome}");
    }
    let mut replayed = Vec::new();
    while let Ok(batch) = subscription.recv().await {
        replayed
            .extend(batch.events.iter().map(|event| (event.source().to_string(), event.asked_at() - began)));
    }
    assert_eq!(events, replayed);
}

fn look(waiting: &mut Vec<(String, Verdict)>, judged: &mut Vec<(String, String, u128)>, now: u128) {
    waiting.retain_mut(|(kind, wait)| match wait.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(verdict) => {
            judged.push((std::mem::take(kind), verdict, now));
            false
        }
        Poll::Pending => true,
    });
}
