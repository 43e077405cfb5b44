//! What the parts of a run find in their context.

use std::sync::{Arc, Mutex};

use tokio::time::sleep;
use watchkeeper::PerSource;
use watchkeeper::runtime::StopOutcome;
use watchkeeper_scenario::{DynError, ExtensionError, ObserverError, RunContext, ScenarioBuilder};

use crate::common::{Memory, Number, Numbers, Watcher, observed, often, scenario, secs};

/// Runs `look` as the only workload; its failed assertions are in the failure of the run.
async fn look<F, W>(builder: ScenarioBuilder<Numbers>, memory: &Memory, look: F)
where
    F: FnOnce(RunContext<Numbers>) -> W + Send + 'static,
    W: Future<Output = Result<(), DynError>> + Send + 'static,
{
    builder.workload("look", look).build().unwrap().run(memory).await.unwrap();
}

#[derive(Debug, PartialEq, Eq)]
struct Tokens(u32);

#[tokio::test(start_paused = true)]
async fn extensions_are_found_by_type() {
    let memory = Memory::default();
    look(scenario().with_extension(Tokens(3)).with_extension("text"), &memory, |context| async move {
        assert_eq!(context.extension::<Tokens>().as_deref(), Some(&Tokens(3)));
        assert_eq!(*context.require_extension::<&'static str>()?, "text");
        assert_eq!(context.extension::<u8>(), None);
        let missing = context.require_extension::<u8>().unwrap_err();
        let text = missing.to_string();
        assert!(text.starts_with("there is no extension of type u8; there are: "), "{text}");
        assert!(text.contains("::Tokens, &str. Add it with `with_extension`"), "{text}");
        let twice = context.add_extension(Tokens(4)).unwrap_err();
        assert!(matches!(twice, ExtensionError::Duplicate { type_name } if type_name.ends_with("::Tokens")));
        assert_eq!(context.extension::<Tokens>().as_deref(), Some(&Tokens(3)), "the first one stays");
        context.add_extension(5_u8)?;
        assert_eq!(*context.require_extension::<u8>()?, 5);
        Ok(())
    })
    .await;
}

type Probed = PerSource<Number, u64>;

#[tokio::test(start_paused = true)]
async fn observers_of_one_type_are_distinguished_by_name() {
    let memory = Memory::default();
    let diary = memory.diary.clone();
    let second = move |_: &RunContext<Numbers>| Watcher::new(&diary);
    look(observed(&memory).with_observer("second", second, often()), &memory, |context| async move {
        context.node_client("n1")?.set(9);
        for name in ["numbers", "second"] {
            let handle = context.require_observer::<Watcher>(name)?;
            handle.eventually("n1 is 9", |seen| seen["n1"] == 9).within(secs(1)).await?;
        }
        assert_eq!(context.observer_control("second")?.stop().await, StopOutcome::Stopped);
        assert!(context.observer::<Watcher>("numbers").unwrap().stop_reason().is_none());
        assert!(context.observer::<Watcher>("second").unwrap().stop_reason().is_some());
        assert_eq!(context.observer_names(), ["numbers", "second"]);
        Ok(())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_error_for_an_unknown_observer_lists_the_known_ones() {
    let memory = Memory::default();
    look(observed(&memory), &memory, |context| async move {
        assert!(context.observer::<Watcher>("other").is_none());
        let text = context.require_observer::<Watcher>("other").unwrap_err().to_string();
        assert!(text.starts_with(r#"no observer is called "other"; the observers are: numbers ("#), "{text}");
        assert!(text.contains("Watcher"), "{text}");

        assert!(context.observer::<Probed>("numbers").is_none());
        let error = context.require_observer::<Probed>("numbers").unwrap_err();
        let ObserverError::OtherType { wanted, is, .. } = error else { panic!("{error:?}") };
        assert!(wanted.contains("PerSource") && is.ends_with("Watcher"), "{wanted} {is}");

        let text = context.observer_control("other").unwrap_err().to_string();
        assert!(text.starts_with("no observer is called"), "{text}");
        Ok(())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_observer_is_refused_when_its_name_is_empty_or_taken() {
    let memory = Memory::default();
    let diary = memory.diary.clone();
    look(observed(&memory), &memory, move |context| async move {
        for (name, expected) in [
            ("", "an observer needs a name: it may not be empty"),
            ("numbers", r#"there is an observer called "numbers" already: give each its own name"#),
        ] {
            let observed =
                context.observe(name, context.clients().clone(), Watcher::new(&diary), often()).await;
            assert_eq!(observed.unwrap_err().to_string(), expected);
        }
        assert_eq!(context.observer_names(), ["numbers"]);
        Ok(())
    })
    .await;
}

/// Two observers start at the same time under one name: one of them is stopped again.
#[tokio::test(start_paused = true)]
async fn of_two_observers_that_race_for_a_name_one_is_left() {
    let memory = Memory::default();
    let diary = memory.diary.clone();
    look(scenario(), &memory, move |context| async move {
        let observe = || context.observe("same", context.clients().clone(), Watcher::new(&diary), often());
        let (first, second) = tokio::join!(observe(), observe());
        assert!(first.is_ok() != second.is_ok());
        assert_eq!(diary.count("observer dropped"), 1, "the other one was stopped, awaited");
        Ok(())
    })
    .await;
    assert_eq!(memory.diary.count("observer dropped"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_context_that_is_kept_holds_nothing_and_starts_nothing() {
    let memory = Memory::default();
    let kept = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&kept);
    look(observed(&memory).with_extension(Tokens(1)), &memory, move |context| async move {
        *keep.lock().unwrap() = Some(context);
        Ok(())
    })
    .await;
    assert_eq!(memory.diary.count("observer dropped"), 1);
    let context = kept.lock().unwrap().take().unwrap();
    assert!(context.extension::<Tokens>().is_none());
    assert!(context.cancellation().is_cancelled());
    assert!(matches!(context.add_extension(Tokens(2)), Err(ExtensionError::Over { .. })));
    let late = context.observe("late", context.clients().clone(), Watcher::new(&memory.diary), often()).await;
    assert!(matches!(late, Err(ObserverError::Over { .. })), "{late:?}");
    // The handle still shows the last snapshot.
    let handle = context.require_observer::<Watcher>("numbers").unwrap();
    assert!(handle.latest_snapshot().is_some() && handle.stop_reason().is_some());
}

#[tokio::test(start_paused = true)]
async fn cancelling_the_token_of_a_context_ends_nothing_else() {
    let memory = Memory::default();
    look(scenario(), &memory, |context| async move {
        context.cancellation().cancel();
        assert!(!context.cancellation().is_cancelled());
        let before = context.elapsed();
        sleep(secs(2)).await;
        assert_eq!(context.elapsed(), before + secs(2));
        assert_eq!(*context.deployment(), 2);
        let text = context.node_client("n3").unwrap_err().to_string();
        assert_eq!(text, r#"no node is called "n3"; the nodes are: n1, n2"#);
        Ok(())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_observer_is_polled_by_name_and_its_cycle_awaited() {
    let memory = Memory::default();
    look(observed(&memory), &memory, |context| async move {
        context.node_client("n1")?.set(9);
        let cycle = context.poll_now_and_wait("numbers").await?;
        let seen = context.require_observer::<Watcher>("numbers")?.latest_snapshot().unwrap();
        assert!(cycle >= 1 && seen.cycle >= cycle && seen.value["n1"] == 9, "{seen:?}");
        let unknown = context.poll_now_and_wait("nobody").await.unwrap_err();
        assert!(matches!(unknown, ObserverError::Unknown { .. }), "{unknown}");
        Ok(())
    })
    .await;
}
