//! Dead letters are listed, replayed and discarded.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;
use watchkeeper::DynError;
use watchkeeper_pipeline::{
    DeadLetterError, Emitter, Handler, Item, MemoryStore, OnError, OnStageFailure, Pipeline, StageState,
    Upstream, UpstreamPosition, stage,
};

use crate::common::{
    Published, Refusing, STEADY, Seen, has_committed, has_seen, is_in, numbers, pass, scripted,
};

/// What becomes of the items over 100: `Ok` passes them.
type Fate = Arc<Mutex<Result<(), &'static str>>>;

async fn pipeline(source: &Published, seen: &Seen, fate: &Fate, store: &Refusing) -> Pipeline {
    let fate = Arc::clone(fate);
    let act = move |item: Item<u64>, attempt| {
        let fate = *fate.lock().unwrap();
        match fate {
            Err("panic") if item.event() > Some(100) => panic!("over 100"),
            Err(error) if item.event() > Some(100) => Err(error.into()),
            _ => pass(item, attempt),
        }
    };
    Pipeline::builder("letters")
        .on_stage_failure(OnStageFailure::Isolate)
        .stage(
            stage("one", scripted(seen, act))
                .from(Upstream::observation("numbers", &source.handle()))
                .store(store.clone())
                .retries(0)
                .on_error(OnError::DeadLetter)
                .backoff(STEADY),
        )
        .start()
        .await
        .unwrap()
}

fn fails(error: &'static str) -> Fate {
    Arc::new(Mutex::new(Err(error)))
}

#[tokio::test(start_paused = true)]
async fn a_replayed_letter_is_handled_committed_and_gone() {
    let mut source = Published::new(64);
    let (seen, fate, store) = (Seen::default(), fails("over 100"), Refusing::default());
    let pipeline = pipeline(&source, &seen, &fate, &store).await;
    let one = pipeline.stage("one").unwrap();
    let begin = source.cursor();
    source.batch([1, 101, 102, 2]);
    has_committed(&pipeline, "one", 4).await;
    let letters = one.dead_letters();
    let shown: Vec<_> = letters
        .iter()
        .map(|letter| (letter.id, &*letter.upstream, &*letter.item, &*letter.error, letter.attempts))
        .collect();
    assert_eq!(shown, [(0, "numbers", "101", "over 100", 1), (1, "numbers", "102", "over 100", 1)]);
    let position = UpstreamPosition::Batch { cursor: begin, done: 1 };
    assert_eq!(letters[0].position, position);
    *fate.lock().unwrap() = Ok(());
    let mut outputs = pipeline.output::<u64>("one").unwrap().subscribe();
    one.replay(0).await.unwrap();
    assert_eq!(seen.lock().unwrap().last(), Some(&(Item::Event(101), position, 2)));
    assert_eq!(outputs.recv().await.unwrap().events, [101]);
    assert_eq!(one.dead_letters()[..], letters[1..]);
    assert_eq!(store.kept.stored().dead_letters.len(), 1);
    let progress = pipeline.output::<u64>("one").unwrap().latest_snapshot().unwrap().value;
    assert_eq!(progress.items, 5);
    let position = store.kept.stored().position.get("numbers");
    assert_eq!(position, Some(UpstreamPosition::Batch { cursor: source.cursor(), done: 0 }));
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_fails_again_has_the_new_error_and_one_more_attempt() {
    let mut source = Published::new(64);
    let (seen, fate, store) = (Seen::default(), fails("the first"), Refusing::default());
    let pipeline = pipeline(&source, &seen, &fate, &store).await;
    let one = pipeline.stage("one").unwrap();
    source.batch([101]);
    has_committed(&pipeline, "one", 1).await;
    for (new, attempts, error) in [("another", 2, "another"), ("panic", 3, "panicked: over 100")] {
        *fate.lock().unwrap() = Err(new);
        let refused = one.replay(0).await.unwrap_err();
        assert_eq!(refused.to_string(), format!("dead letter 0 of stage one has failed again: {error}"));
        let letter = &one.dead_letters()[0];
        assert_eq!((letter.attempts, &*letter.error), (attempts, error));
        let kept = &store.kept.stored().dead_letters[0];
        assert_eq!((kept.attempts, &*kept.error), (attempts, error));
        assert_eq!(one.state(), StageState::Running);
    }
    *fate.lock().unwrap() = Ok(());
    one.replay(0).await.unwrap();
    let attempts: Vec<u64> = seen.lock().unwrap().iter().map(|(_, _, attempt)| *attempt).collect();
    assert_eq!(attempts, [1, 2, 3, 4]);
    source.batch([1]);
    has_committed(&pipeline, "one", 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_discarded_letter_is_gone_and_its_number_is_not_used_again() {
    let mut source = Published::new(64);
    let (seen, fate, store) = (Seen::default(), fails("over 100"), Refusing::default());
    let begun = pipeline(&source, &seen, &fate, &store).await;
    let one = begun.stage("one").unwrap();
    source.batch([101]);
    has_committed(&begun, "one", 1).await;
    one.discard(0).await.unwrap();
    assert_eq!(one.dead_letters(), []);
    assert_eq!(numbers(&seen), [101]);
    source.batch([102]);
    has_committed(&begun, "one", 2).await;
    one.discard(1).await.unwrap();
    let unknown = "stage one has no dead letter 1: it was replayed or discarded, or never was; list them with dead_letters";
    assert_eq!(one.discard(1).await.unwrap_err().to_string(), unknown);
    assert!(matches!(one.replay(7).await, Err(DeadLetterError::Unknown { id: 7, .. })));
    begun.stop().await;
    let again = pipeline(&source, &seen, &fate, &store).await;
    source.batch([103]);
    has_committed(&again, "one", 1).await;
    assert_eq!(again.stage("one").unwrap().dead_letters()[0].id, 2);
}

#[tokio::test(start_paused = true)]
async fn letters_of_the_store_are_there_after_a_start() {
    let mut source = Published::new(64);
    let (seen, fate, store) = (Seen::default(), fails("over 100"), Refusing::default());
    let begun = pipeline(&source, &seen, &fate, &store).await;
    source.batch([101]);
    has_committed(&begun, "one", 1).await;
    let letters = begun.stage("one").unwrap().dead_letters();
    begun.stop().await;
    *fate.lock().unwrap() = Ok(());
    let again = pipeline(&source, &seen, &fate, &store).await;
    let one = again.stage("one").unwrap();
    assert_eq!(one.dead_letters(), letters);
    one.replay(0).await.unwrap();
    assert_eq!(
        seen.lock().unwrap().last().map(|(item, _, attempt)| (*item, *attempt)),
        Some((Item::Event(101), 2))
    );
}

#[tokio::test(start_paused = true)]
async fn a_letter_whose_commit_is_refused_stays_until_it_is_committed() {
    let mut source = Published::new(64);
    let (seen, fate, store) = (Seen::default(), fails("over 100"), Refusing::default());
    let pipeline = pipeline(&source, &seen, &fate, &store).await;
    let one = pipeline.stage("one").unwrap();
    source.batch([101, 102]);
    has_committed(&pipeline, "one", 2).await;
    *fate.lock().unwrap() = Ok(());
    let mut outputs = pipeline.output::<u64>("one").unwrap().subscribe();
    for id in [0, 1] {
        store.refusals.store(2, std::sync::atomic::Ordering::Relaxed);
        let refused = if id == 0 { one.replay(id).await } else { one.discard(id).await };
        assert!(matches!(refused, Err(DeadLetterError::NotCommitted { .. })), "{refused:?}");
        assert_eq!(one.dead_letters()[0].id, id, "it is not committed");
        one.restart().await.unwrap();
        has_committed(&pipeline, "one", 3).await;
        one.wait_for("it runs", |status| status.state == StageState::Running)
            .within(crate::common::LONG)
            .await
            .unwrap();
        source.batch([id + 1]);
        let expected = if id == 0 { vec![vec![101], vec![1]] } else { vec![vec![2]] };
        for events in expected {
            assert_eq!(outputs.recv().await.unwrap().events, events, "once, not for the refused commit too");
        }
    }
    assert_eq!(one.dead_letters(), []);
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_has_given_up_answers_and_one_that_has_ended_does_not() {
    let mut source = Published::new(64);
    let (seen, fate, store) = (Seen::default(), fails("over 100"), Refusing::default());
    let pipeline = pipeline(&source, &seen, &fate, &store).await;
    let one = pipeline.stage("one").unwrap();
    source.batch([101, 102, 103]);
    has_committed(&pipeline, "one", 3).await;
    *fate.lock().unwrap() = Ok(());
    store.refusals.store(1, std::sync::atomic::Ordering::Relaxed);
    source.batch([1]);
    is_in(&pipeline, "one", StageState::Failed).await;
    one.replay(0).await.unwrap();
    one.discard(1).await.unwrap();
    assert_eq!((one.state(), numbers(&seen)), (StageState::Failed, vec![101, 102, 103, 1, 101]));
    let kept = store.kept.stored();
    assert_eq!(kept.dead_letters.iter().map(|letter| letter.id).collect::<Vec<_>>(), [2]);
    one.restart().await.unwrap();
    source.batch([2]);
    has_committed(&pipeline, "one", 6).await;
    pipeline.stop().await;
    let refused =
        "dead letter 2 stays: stage one has ended with its pipeline, build the pipeline again".to_owned();
    assert_eq!(one.replay(2).await.unwrap_err().to_string(), refused);
    assert_eq!(one.discard(2).await.unwrap_err().to_string(), refused);
    assert_eq!(one.dead_letters().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_restart_cancels_a_replay_that_hangs_and_drops_what_it_emitted() {
    struct Hangs(Fate, Seen);

    impl Handler<u64> for Hangs {
        type Output = u64;

        async fn handle(&mut self, item: Item<&u64>, out: &mut Emitter<u64>) -> Result<(), DynError> {
            let Item::Event(number) = item else { return Ok(()) };
            self.1.lock().unwrap().push((Item::Event(*number), out.position(), out.attempt()));
            out.emit(*number);
            let fate = *self.0.lock().unwrap();
            match fate {
                Err("hang") if *number > 100 => std::future::pending().await,
                Err(error) if *number > 100 => Err(error.into()),
                _ => Ok(()),
            }
        }
    }

    let mut source = Published::new(64);
    let (seen, fate, store) = (Seen::default(), fails("over 100"), Refusing::default());
    let make = {
        let (fate, seen) = (Arc::clone(&fate), Arc::clone(&seen));
        move || Hangs(Arc::clone(&fate), Arc::clone(&seen))
    };
    let one = stage("one", make).from(Upstream::observation("numbers", &source.handle()));
    let one = one.retries(0).on_error(OnError::DeadLetter).store(store.clone());
    let pipeline = Pipeline::builder("letters").on_stage_failure(OnStageFailure::Isolate).stage(one);
    let pipeline = pipeline.start().await.unwrap();
    let one = pipeline.stage("one").unwrap();
    let mut outputs = pipeline.output::<u64>("one").unwrap().subscribe();
    source.batch([101]);
    has_committed(&pipeline, "one", 1).await;
    store.refusals.store(1, std::sync::atomic::Ordering::Relaxed);
    source.batch([1]);
    is_in(&pipeline, "one", StageState::Failed).await;
    *fate.lock().unwrap() = Err("hang");
    let replays = tokio::spawn({
        let one = one.clone();
        async move { one.replay(0).await }
    });
    has_seen(&seen, 3).await;
    one.restart().await.unwrap();
    assert!(replays.await.unwrap().is_err());
    has_committed(&pipeline, "one", 2).await;
    assert_eq!(outputs.recv().await.unwrap().events, [1]);
    assert_eq!(one.dead_letters().len(), 1);
    source.batch([2]);
    assert_eq!(outputs.recv().await.unwrap().events, [2]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_does_not_wait_for_a_call_that_has_no_room() {
    let mut source = Published::new(64);
    let (seen, fate, store) = (Seen::default(), fails("over 100"), Refusing::default());
    let act = {
        let fate = Arc::clone(&fate);
        move |item: Item<u64>, attempt| {
            let fails = fate.lock().unwrap().is_err();
            if fails && item.event() > Some(100) { Err("over 100".into()) } else { pass(item, attempt) }
        }
    };
    let stuck = |_, _| Err("stuck".into());
    let one = stage("one", scripted(&seen, act))
        .from(Upstream::observation("numbers", &source.handle()))
        .retries(0)
        .capacity(1)
        .on_error(OnError::DeadLetter)
        .store(store.clone());
    let two = stage("two", scripted(&Seen::default(), stuck)).from(Upstream::stage("one")).retries(0);
    let pipeline =
        Pipeline::builder("letters").on_stage_failure(OnStageFailure::Isolate).stage(one).stage(two);
    let pipeline = pipeline.start().await.unwrap();
    let one = pipeline.stage("one").unwrap();
    source.batch([101]);
    has_committed(&pipeline, "one", 1).await;
    source.batch([1]);
    is_in(&pipeline, "two", StageState::Failed).await;
    store.refusals.store(1, std::sync::atomic::Ordering::Relaxed);
    source.batch([102]);
    is_in(&pipeline, "one", StageState::Failed).await;
    *fate.lock().unwrap() = Ok(());
    let refused = one.replay(0).await.unwrap_err().to_string();
    assert!(refused.contains("the stages after it have no room for what was emitted"), "{refused}");
    one.restart().await.unwrap();
    assert_eq!(one.state(), StageState::Running);
}

#[tokio::test(start_paused = true)]
async fn a_stage_with_too_many_letters_goes_on_once_some_are_discarded() {
    let mut source = Published::new(64);
    let seen = Seen::default();
    let act =
        |item: Item<u64>, _| if item.event() > Some(100) { Err("over 100".into()) } else { pass(item, 1) };
    let one = stage("one", scripted(&seen, act))
        .from(Upstream::observation("numbers", &source.handle()))
        .retries(0)
        .on_error(OnError::DeadLetter)
        .max_dead_letters(1);
    let pipeline = Pipeline::builder("letters").on_stage_failure(OnStageFailure::Isolate).stage(one);
    let pipeline = pipeline.start().await.unwrap();
    let one = pipeline.stage("one").unwrap();
    source.batch([101, 102, 3]);
    is_in(&pipeline, "one", StageState::Failed).await;
    let failure = one.status().failure.unwrap().to_string();
    assert!(failure.starts_with("the item of numbers at "), "{failure}");
    assert!(failure.ends_with(
        "would be one dead letter more than max_dead_letters allows: replay or discard some, or raise it; its error: over 100"
    ));
    one.restart().await.unwrap();
    is_in(&pipeline, "one", StageState::Failed).await;
    one.discard(0).await.unwrap();
    one.restart().await.unwrap();
    has_committed(&pipeline, "one", 3).await;
    assert_eq!(one.dead_letters().iter().map(|letter| letter.id).collect::<Vec<_>>(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_busy_stage_replays_between_two_items() {
    let mut source = Published::new(64);
    let (seen, gate) = (Seen::default(), Arc::new(Semaphore::new(0)));
    let make = crate::common::gated(&seen, &gate);
    let pipeline = Pipeline::builder("letters")
        .stage(
            stage("one", make)
                .from(Upstream::observation("numbers", &source.handle()))
                .item_timeout(Duration::from_secs(5))
                .retries(0)
                .on_error(OnError::DeadLetter),
        )
        .start()
        .await
        .unwrap();
    let one = pipeline.stage("one").unwrap();
    source.batch([1]);
    has_committed(&pipeline, "one", 1).await;
    assert_eq!(one.dead_letters()[0].error, "took longer than the item_timeout of 5s");
    source.batch([2]);
    source.batch([3]);
    has_seen(&seen, 2).await;
    let replayed = tokio::spawn(async move { one.replay(0).await });
    while gate.available_permits() == 0 && !replayed.is_finished() && numbers(&seen).len() < 3 {
        tokio::task::yield_now().await;
        gate.add_permits(1);
    }
    gate.add_permits(2);
    replayed.await.unwrap().unwrap();
    has_committed(&pipeline, "one", 4).await;
    assert_eq!(numbers(&seen), [1, 2, 1, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_replay_waits_while_the_stage_backs_off() {
    let mut source = Published::new(64);
    let (seen, fate, store) = (Seen::default(), fails("over 100"), Refusing::default());
    let act = {
        let fate = Arc::clone(&fate);
        move |item: Item<u64>, attempt| {
            let fails = fate.lock().unwrap().is_err();
            match item {
                Item::Event(101) if fails => Err("over 100".into()),
                Item::Event(1) if attempt == 1 => Err("one".into()),
                _ => pass(item, attempt),
            }
        }
    };
    let pipeline = Pipeline::builder("letters")
        .stage(
            stage("one", scripted(&seen, act))
                .from(Upstream::observation("numbers", &source.handle()))
                .store(store)
                .retries(1)
                .on_error(OnError::DeadLetter)
                .backoff(STEADY),
        )
        .start()
        .await
        .unwrap();
    source.batch([101]);
    has_committed(&pipeline, "one", 1).await;
    *fate.lock().unwrap() = Ok(());
    source.batch([1]);
    is_in(&pipeline, "one", StageState::BackingOff).await;
    pipeline.stage("one").unwrap().replay(0).await.unwrap();
    assert_eq!(numbers(&seen), [101, 101, 1, 101, 1], "before the next attempt");
}

#[tokio::test(start_paused = true)]
async fn a_view_shows_one_escaped_and_bounded_line() {
    let mut source = Published::new(64);
    let letter = |item: Item<String>| async move {
        Err::<Vec<()>, _>(DynError::from(
            format!("line\nbreak {}", "e".repeat(5_000)).clone() + &item.event().unwrap(),
        ))
    };
    let text = |number: &u64| format!("a\u{1b}b\n{number} {}", "x".repeat(2_000));
    let pipeline = Pipeline::builder("letters")
        .stage(
            stage("one", move || watchkeeper_pipeline::handler_fn(letter))
                .from(Upstream::observation("numbers", &source.handle()).map(text))
                .store(MemoryStore::new())
                .retries(0)
                .on_error(OnError::DeadLetter),
        )
        .start()
        .await
        .unwrap();
    let one = pipeline.stage("one").unwrap();
    source.batch([7]);
    let output = pipeline.output::<()>("one").unwrap();
    output.eventually("one item", |progress| progress.items == 1).within(crate::common::LONG).await.unwrap();
    let view = &one.dead_letters()[0];
    assert!(view.item.starts_with(r#""a\u{1b}b\n7 xxx"#), "{}", view.item);
    assert!(view.error.starts_with(r"line\nbreak eee"), "{}", view.error);
    assert!((300..=400).contains(&view.item.len()), "{}", view.item.len());
    assert!((900..=1_024).contains(&view.error.len()), "{}", view.error.len());
    for text in [&view.item, &view.error] {
        assert!(!text.contains(char::is_control), "{text}");
    }
}
