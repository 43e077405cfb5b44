//! Where a restart goes on.

use super::*;

type Damage = Box<dyn Fn(&Path)>;

fn checkpoint(rig: &Rig) -> PathBuf {
    rig.data().join("tail.json")
}

#[tokio::test]
async fn a_restart_goes_on_after_the_last_recorded_line() {
    let mut rig = Rig::new().await;
    rig.write(lines(0..3) + "{\"n\":");
    rig.caught_up().await;
    rig.restart().await;
    rig.write("3}\n");
    let report = rig.caught_up().await;
    assert_eq!(report.recorded, 1);
    assert_eq!(rig.recorded().await, (0..4).collect::<Vec<_>>());
    assert_eq!(rig.store().stats().total, 4);
}

#[tokio::test]
async fn the_journal_is_searched_if_the_checkpoint_is_missing_damaged_or_of_another_journal() {
    let other = Rig::new().await;
    other.write(lines(0..50));
    other.caught_up().await;
    let of_another = fs::read(checkpoint(&other)).unwrap();
    let future = |text: &str| {
        let mut value: serde_json::Value = serde_json::from_str(text).unwrap();
        let cursor = value["cursor"].as_str().unwrap();
        let (start, _) = cursor.rsplit_once('.').unwrap();
        value["cursor"] = format!("{start}.999999").into();
        value["position"] = serde_json::Value::Null;
        value.to_string().into_bytes()
    };
    let damage: [(&str, Damage); 5] = [
        ("missing", Box::new(|path| fs::remove_file(path).unwrap())),
        ("empty", Box::new(|path| fs::write(path, "").unwrap())),
        ("damaged", Box::new(|path| fs::write(path, b"{\"format\":1,\"posi\xff").unwrap())),
        ("of another journal", Box::new(move |path| fs::write(path, &of_another).unwrap())),
        (
            "of the future",
            Box::new(move |path| {
                let text = fs::read_to_string(path).unwrap();
                fs::write(path, future(&text)).unwrap();
            }),
        ),
    ];
    for (what, damage) in damage {
        let mut rig = Rig::new().await;
        rig.write(lines(0..3));
        rig.caught_up().await;
        rig.stop().await;
        damage(&checkpoint(&rig));
        rig.write(lines([3]));
        rig.start().await;
        let report = rig.caught_up().await;
        assert_eq!((report.recorded, rig.recorded().await), (1, vec![0, 1, 2, 3]), "{what}");
    }
}

#[tokio::test]
async fn a_position_is_found_before_many_other_records() {
    for saves in [true, false] {
        let mut rig = Rig::stopped();
        rig.saves = saves;
        rig.start().await;
        rig.write(lines(0..3));
        rig.caught_up().await;
        let other = watchkeeper_journal::Entry::from_text("{\"endpoint\":\"/other\"}").unwrap();
        for _ in 0..10 {
            rig.store().journal().append_batch(vec![other.clone(); 10_000]).await.unwrap();
        }
        // A checkpoint is due, though nothing was read.
        rig.poll().await;
        rig.restart().await;
        rig.write(lines([3]));
        let report = rig.caught_up().await;
        assert_eq!(report.recorded, 1, "with a checkpoint: {saves}");
        if saves {
            let text = fs::read_to_string(checkpoint(&rig)).unwrap();
            assert!(text.contains(".100003"), "{text}");
        }
    }
}

#[tokio::test]
async fn a_position_that_retention_has_removed_is_in_the_checkpoint() {
    let mut rig = Rig::stopped();
    (rig.config.segment_bytes, rig.config.segments) = (4_096, 2);
    rig.start().await;
    rig.write(lines(0..3));
    rig.caught_up().await;
    let other = watchkeeper_journal::Entry::from_text("{\"endpoint\":\"/other\"}").unwrap();
    for _ in 0..30 {
        rig.store().journal().append_batch(vec![other.clone(); 20]).await.unwrap();
        rig.poll().await;
    }
    assert!(rig.recorded().await.is_empty(), "they are still there");
    rig.restart().await;
    rig.write(lines([3]));
    rig.caught_up().await;
    assert_eq!(rig.recorded().await, [3]);
}

#[tokio::test]
async fn a_file_that_was_rotated_while_nobody_watched_is_read_to_its_end() {
    for name in ["corrections.jsonl.1", "corrections-20261130.jsonl"] {
        let mut rig = Rig::new().await;
        rig.write(lines(0..3));
        rig.caught_up().await;
        rig.stop().await;
        rig.write(lines(3..5));
        fs::rename(&rig.path, rig.path.with_file_name(name)).unwrap();
        rig.write(lines(5..7));
        rig.start().await;
        let report = rig.until(|report| report.rotations == 1 && report.caught_up).await;
        assert_eq!((report.recorded, rig.recorded().await), (4, (0..7).collect()), "{name}");
    }
}

#[tokio::test]
async fn a_file_that_was_replaced_or_truncated_while_nobody_watched_is_read_from_its_begin() {
    for is_replaced in [true, false] {
        let mut rig = Rig::new().await;
        rig.write(lines(100..103));
        rig.caught_up().await;
        rig.stop().await;
        if is_replaced {
            fs::remove_file(&rig.path).unwrap();
            rig.write(lines(200..300));
        } else {
            fs::write(&rig.path, lines(200..300)).unwrap();
        }
        rig.start().await;
        rig.caught_up().await;
        let expected: Vec<_> = (100..103).chain(200..300).collect();
        assert_eq!(rig.recorded().await, expected, "replaced: {is_replaced}");
    }
}

#[tokio::test]
async fn in_memory_a_restart_reads_the_file_from_its_begin() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("corrections.jsonl");
    write_to(&path, lines(0..3));
    let config = CorrectionsConfig { path, every: Duration::from_hours(1) };
    for _ in 0..2 {
        let store = Store::of(Journal::in_memory(JournalConfig::default()).unwrap(), 100).await.unwrap();
        // The second tail of one store goes on.
        for _ in 0..2 {
            let tail = tail::start(&store, &config, None, tail::observation(&config).unwrap()).unwrap();
            tail.poll_now_and_wait().await.unwrap();
            let _ = tail.stop().await;
        }
        assert_eq!(store.stats().total, 3);
        store.close().await.unwrap();
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_checkpoint_that_cannot_be_written_is_shown_and_nothing_is_lost() {
    let mut rig = Rig::stopped();
    fs::create_dir_all(rig.data()).unwrap();
    let journal = Journal::open_on(Arc::clone(&rig.medium), rig.config.clone()).await.unwrap();
    journal.close().await.unwrap();
    fs::create_dir(rig.data().join("tail.json.new")).unwrap();
    rig.start().await;
    rig.write(lines([1]));
    let report = rig.caught_up().await;
    assert!(!report.checkpoint_problem.is_empty());
    rig.restart().await;
    rig.write(lines([2]));
    rig.caught_up().await;
    assert_eq!(rig.recorded().await, [1, 2]);
}

/// A power cut has taken records that the checkpoint knows, and others have got their numbers before it is read.
#[tokio::test]
async fn a_checkpoint_ahead_of_the_journal_says_nothing_though_the_journal_has_grown() {
    let mut rig = Rig::new().await;
    rig.write(lines(0..3));
    rig.caught_up().await;
    rig.stop().await;
    let files: Vec<(PathBuf, Vec<u8>)> = fs::read_dir(rig.data())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    rig.write(lines(3..5));
    rig.start().await;
    rig.caught_up().await;
    rig.stop().await;
    fs::remove_file(checkpoint(&rig)).unwrap();
    rig.start().await;
    rig.caught_up().await;
    rig.stop().await;
    for (path, bytes) in files.iter().filter(|(path, _)| *path != checkpoint(&rig)) {
        fs::write(path, bytes).unwrap();
    }
    let journal = Journal::open_on(Arc::clone(&rig.medium), rig.config.clone()).await.unwrap();
    assert_eq!(journal.cursor().seq(), 3);
    let store = Store::of(journal, 100).await.unwrap();
    let tail = rig.tail(&store);
    // This thread waits, so that the tail does not run yet.
    let journal = store.journal().clone();
    let other = watchkeeper_journal::Entry::from_text("{\"endpoint\":\"/other\"}").unwrap();
    let appending = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(journal.append_batch(vec![other; 5])).unwrap();
    });
    appending.join().unwrap();
    rig.service = Some(Service { store, tail });
    rig.caught_up().await;
    assert_eq!(rig.recorded().await, (0..5).collect::<Vec<_>>());
}

#[tokio::test]
async fn with_buffered_the_newest_segment_is_synced_before_a_checkpoint() {
    let mut rig = Rig::stopped();
    rig.config.durability = watchkeeper_journal::Durability::Buffered;
    rig.start().await;
    // No segment, and a file that is none.
    fs::create_dir(rig.data().join("x.jsonl")).unwrap();
    rig.write(lines(0..3));
    let report = rig.caught_up().await;
    assert_eq!(report.checkpoint_problem, "");
    assert!(checkpoint(&rig).exists());
    rig.restart().await;
    rig.caught_up().await;
    assert_eq!(rig.recorded().await, [0, 1, 2]);
}
