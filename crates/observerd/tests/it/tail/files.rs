//! What becomes of the file.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use observerd::loops::tail::FileState;

use super::*;

fn truncate(path: &Path) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(0).unwrap();
}

#[tokio::test]
async fn a_file_that_is_not_there_at_the_start_is_read_when_it_comes() {
    let rig = Rig::new().await;
    let report = rig.poll().await;
    assert_eq!((report.file, report.caught_up), (FileState::Missing, false));
    rig.write(lines([1]));
    let report = rig.caught_up().await;
    assert_eq!((report.file, report.recorded), (FileState::Reading, 1));
    let events = rig.events();
    assert_eq!(events[..2], [TailEvent::Missing, TailEvent::Appeared { offset: 0 }]);
}

#[tokio::test]
async fn the_rest_of_a_rotated_file_is_read_before_the_new_one() {
    let rig = Rig::new().await;
    rig.write(lines(0..3));
    rig.caught_up().await;
    rig.write(lines(3..5));
    let rotated = rig.rotate();
    rig.write(lines(6..8));
    rig.poll().await;
    assert_eq!(rig.recorded().await, (0..5).collect::<Vec<_>>());
    // Its writer has not noticed yet.
    write_to(&rotated, lines([5]));
    let report = rig.caught_up().await;
    assert_eq!((report.rotations, report.truncations, report.offset), (1, 0, 16));
    assert_eq!(rig.recorded().await, (0..8).collect::<Vec<_>>());
    assert!(rig.events().contains(&TailEvent::Rotated { offset: 48 }));
}

#[tokio::test]
async fn a_rotated_file_with_the_same_lines_is_another_file() {
    let rig = Rig::new().await;
    rig.write(lines([1, 2]));
    rig.caught_up().await;
    rig.rotate();
    rig.write(lines([1, 2]));
    rig.until(|report| report.rotations == 1 && report.caught_up).await;
    assert_eq!(rig.recorded().await, [1, 2, 1, 2]);
}

#[tokio::test]
async fn a_file_that_still_grows_after_its_rotation_is_left_in_the_end() {
    let rig = Rig::new().await;
    rig.write(lines([0]));
    rig.caught_up().await;
    let rotated = rig.rotate();
    rig.write(lines([1_000]));
    for n in 1..60 {
        write_to(&rotated, lines([n]));
        if rig.poll().await.rotations == 1 {
            assert!(n > 10, "it was left after {n}");
            rig.caught_up().await;
            let mut expected: Vec<_> = (0..=n).collect();
            expected.push(1_000);
            assert_eq!(rig.recorded().await, expected);
            return;
        }
    }
    panic!("it is never left");
}

#[tokio::test]
async fn the_last_line_of_a_rotated_file_needs_no_line_feed() {
    for (last, recorded, skipped) in [("{\"n\":2}", vec![1, 2, 3], 0), ("{\"n\":2", vec![1, 3], 1)] {
        let rig = Rig::new().await;
        rig.write(lines([1]) + last);
        rig.caught_up().await;
        rig.rotate();
        rig.write(lines([3]));
        let report = rig.until(|report| report.rotations == 1 && report.caught_up).await;
        assert_eq!((report.skipped, rig.recorded().await), (skipped, recorded), "{last}");
    }
}

#[tokio::test]
async fn a_line_that_is_too_long_may_end_a_rotated_file() {
    let rig = Rig::new().await;
    rig.write(lines([1]) + &"x".repeat(2_000_000));
    rig.caught_up().await;
    rig.rotate();
    rig.write(lines([2]));
    let report = rig.until(|report| report.rotations == 1 && report.caught_up).await;
    assert_eq!((report.skipped, rig.recorded().await), (1, vec![1, 2]));
}

#[tokio::test]
async fn a_truncated_file_is_read_from_its_begin() {
    let rig = Rig::new().await;
    rig.write(lines(0..3));
    rig.caught_up().await;
    truncate(&rig.path);
    rig.write(lines([3]));
    let report = rig.caught_up().await;
    assert_eq!((report.truncations, report.rotations, report.offset), (1, 0, 8));
    assert_eq!(rig.recorded().await, (0..4).collect::<Vec<_>>());
    assert!(rig.events().contains(&TailEvent::Truncated { offset: 24 }));
}

#[tokio::test]
async fn a_file_that_was_truncated_and_has_grown_beyond_its_position_is_read_from_its_begin() {
    let rig = Rig::new().await;
    rig.write(lines(100..103));
    rig.caught_up().await;
    truncate(&rig.path);
    rig.write(lines(200..300));
    let report = rig.caught_up().await;
    assert_eq!(report.truncations, 1);
    assert_eq!(rig.recorded().await, (100..103).chain(200..300).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_truncated_file_whose_first_bytes_are_the_same_is_found_by_the_last_ones() {
    let rig = Rig::new().await;
    rig.write(lines(std::iter::repeat_n(7, 300)) + &lines([100, 101]));
    rig.caught_up().await;
    truncate(&rig.path);
    rig.write(lines(std::iter::repeat_n(7, 300)) + &lines([200, 201, 202]));
    let report = rig.caught_up().await;
    assert_eq!((report.truncations, report.recorded), (1, 302 + 303));
}

#[tokio::test]
async fn a_long_line_is_forgotten_when_its_file_is_truncated() {
    let rig = Rig::new().await;
    rig.write(lines([1]) + &"x".repeat(2_000_000));
    rig.caught_up().await;
    OpenOptions::new().write(true).open(&rig.path).unwrap().set_len(8).unwrap();
    rig.write(lines([2]));
    rig.caught_up().await;
    assert_eq!(rig.recorded().await, [1, 2]);
}

#[tokio::test]
async fn a_deleted_file_is_read_to_its_end_and_the_next_one_from_its_begin() {
    let rig = Rig::new().await;
    rig.write(lines([1]));
    rig.caught_up().await;
    rig.write(lines([2]));
    fs::remove_file(&rig.path).unwrap();
    let report = rig.until(|report| report.file == FileState::Missing).await;
    assert_eq!(report.recorded, 2);
    // It stays so, and the loop lives.
    assert_eq!(rig.poll().await, report);
    rig.write(lines([1]));
    rig.write(lines([2]));
    let report = rig.caught_up().await;
    assert_eq!((report.file, report.recorded), (FileState::Reading, 4));
    assert_eq!(rig.recorded().await, [1, 2, 1, 2]);
}

#[tokio::test]
async fn a_file_that_was_moved_away_and_comes_back_goes_on() {
    let rig = Rig::new().await;
    rig.write(lines([1]));
    rig.caught_up().await;
    let rotated = rig.rotate();
    rig.until(|report| report.file == FileState::Missing).await;
    write_to(&rotated, lines([2]));
    fs::rename(&rotated, &rig.path).unwrap();
    rig.caught_up().await;
    assert_eq!(rig.recorded().await, [1, 2]);
}

#[tokio::test]
async fn another_file_with_the_same_inode_is_another_file() {
    let rig = Rig::new().await;
    rig.write(lines([1]));
    rig.caught_up().await;
    let inode = fs::metadata(&rig.path).unwrap().ino();
    fs::remove_file(&rig.path).unwrap();
    rig.until(|report| report.file == FileState::Missing).await;
    // Nobody has it open: the number is free. Not each file system gives it out again.
    for n in 0..50 {
        let other = rig.path.with_extension(n.to_string());
        write_to(&other, lines([2, 3]));
        if fs::metadata(&other).unwrap().ino() == inode {
            fs::rename(&other, &rig.path).unwrap();
            break;
        }
    }
    if !rig.path.exists() {
        rig.write(lines([2, 3]));
    }
    rig.caught_up().await;
    assert_eq!(rig.recorded().await, [1, 2, 3]);
}

#[tokio::test]
async fn a_symbolic_link_may_be_swapped() {
    let rig = Rig::new().await;
    let targets = ["a", "b"].map(|name| rig.directory.path().join(name));
    write_to(&targets[0], lines([1]));
    write_to(&targets[1], lines([3, 4]));
    symlink(&targets[0], &rig.path).unwrap();
    rig.caught_up().await;
    write_to(&targets[0], lines([2]));
    let new = rig.path.with_extension("new");
    symlink(&targets[1], &new).unwrap();
    fs::rename(&new, &rig.path).unwrap();
    rig.until(|report| report.rotations == 1 && report.caught_up).await;
    assert_eq!(rig.recorded().await, [1, 2, 3, 4]);
}

#[tokio::test]
async fn what_is_no_file_is_shown_once_and_then_fails_without_blocking() {
    type Make = fn(&Path);
    let kinds: [(&str, Make); 3] = [
        ("a directory", |path| fs::create_dir(path).unwrap()),
        ("a FIFO", |path| {
            rustix::fs::mknodat(
                rustix::fs::CWD,
                path,
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
                0,
            )
            .unwrap();
        }),
        ("a socket", |path| drop(std::os::unix::net::UnixListener::bind(path).unwrap())),
    ];
    for (what, make) in kinds {
        let rig = Rig::new().await;
        make(&rig.path);
        let handle = rig.runtime().handle();
        let shown =
            handle.eventually("it is no file", |report: &TailReport| report.file == FileState::NotAFile);
        let polling = rig.runtime().control();
        let _ = polling.poll_now().await;
        let shown = shown.or_now().within(Duration::from_secs(30)).await.unwrap();
        assert!(shown.value.problem.contains(what), "{}", shown.value.problem);
        let failure = rig.poll_fails().await;
        assert!(failure.contains(what) && failure.contains("corrections.path"), "{failure}");
        // The way out.
        if what == "a directory" {
            fs::remove_dir(&rig.path).unwrap();
        } else {
            fs::remove_file(&rig.path).unwrap();
        }
        rig.write(lines([1]));
        rig.caught_up().await;
        assert_eq!(rig.recorded().await, [1]);
    }
}

#[tokio::test]
async fn a_file_that_becomes_a_directory_is_read_to_its_end() {
    let rig = Rig::new().await;
    rig.write(lines([1]));
    rig.caught_up().await;
    rig.write(lines([2]));
    rig.rotate();
    fs::create_dir(&rig.path).unwrap();
    rig.until(|report| report.file == FileState::NotAFile).await;
    assert_eq!(rig.recorded().await, [1, 2]);
    assert!(rig.poll_fails().await.contains("a directory"));
}

#[tokio::test]
async fn a_file_that_may_not_be_read_fails_until_it_may() {
    let rig = Rig::new().await;
    rig.write(lines([1]));
    fs::set_permissions(&rig.path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&rig.path).is_ok() {
        // Nothing is forbidden to this user.
        return;
    }
    rig.until(|report| report.file == FileState::Unreadable).await;
    assert!(rig.poll_fails().await.contains("readable"));
    fs::set_permissions(&rig.path, fs::Permissions::from_mode(0o600)).unwrap();
    rig.caught_up().await;
    assert_eq!(rig.recorded().await, [1]);
}

#[tokio::test]
async fn a_half_line_of_a_file_that_was_moved_away_and_comes_back_is_whole() {
    for begin in [String::new(), lines([1])] {
        let rig = Rig::new().await;
        rig.write(begin.clone() + "{\"n\"");
        rig.caught_up().await;
        let rotated = rig.rotate();
        rig.until(|report| report.file == FileState::Missing).await;
        fs::rename(&rotated, &rig.path).unwrap();
        rig.write(String::from(":2}\n") + &lines([3]));
        let report = rig.caught_up().await;
        let first = if begin.is_empty() { 2 } else { 1 };
        assert_eq!((report.skipped, rig.recorded().await), (0, (first..=3).collect()), "{begin}");
    }
}

#[tokio::test]
async fn a_half_line_counts_when_nobody_can_go_on_with_it() {
    for begin in [String::new(), lines([1])] {
        let rig = Rig::new().await;
        rig.write(begin.clone() + "{\"n\"");
        rig.caught_up().await;
        let rotated = rig.rotate();
        let report = rig.until(|report| report.file == FileState::Missing).await;
        assert_eq!(report.skipped, 0);
        rig.write(lines([2]));
        let report = rig.caught_up().await;
        let offset = begin.len() as u64;
        assert_eq!((report.skipped, report.last_skipped.unwrap().offset), (1, offset));
        // A removed one does not come back.
        fs::remove_file(rotated).unwrap();
        rig.write("{");
        rig.caught_up().await;
        fs::remove_file(&rig.path).unwrap();
        let report = rig.until(|report| report.file == FileState::Missing).await;
        assert_eq!(report.skipped, 2);
    }
}

/// A path that leads in a circle is no answer, as a directory is that may not be searched.
#[tokio::test]
async fn a_path_that_cannot_be_examined_does_not_end_the_reading() {
    let rig = Rig::new().await;
    rig.write(lines([1]) + "{\"n\"");
    rig.caught_up().await;
    let elsewhere = rig.rotate();
    symlink(&rig.path, &rig.path).unwrap();
    for _ in 0..5 {
        let report = rig.poll().await;
        assert_eq!((report.file, report.rotations), (FileState::Reading, 0));
        assert!(!report.caught_up && report.problem.contains("corrections.jsonl"), "{report:?}");
    }
    let unusable = |event: &&TailEvent| matches!(event, TailEvent::Unusable { .. });
    assert_eq!(rig.events().iter().filter(unusable).count(), 1);
    write_to(&elsewhere, String::from(":2}\n"));
    rig.poll().await;
    assert_eq!(rig.recorded().await, [1, 2]);
    fs::remove_file(&rig.path).unwrap();
    fs::rename(&elsewhere, &rig.path).unwrap();
    rig.write(lines([3]));
    let report = rig.caught_up().await;
    assert_eq!((report.problem.as_str(), report.skipped, rig.recorded().await), ("", 0, vec![1, 2, 3]));
}

/// Looks at a backlog follow each other at once: they give its writer no time.
#[tokio::test]
async fn a_renamed_file_with_a_long_backlog_is_left_a_poll_after_its_end() {
    let mut rig = Rig::stopped();
    rig.write(lines([0]));
    // One line with a hole, of over 20 looks.
    let size = 8 + 22 * 4 * 1024 * 1024;
    OpenOptions::new().write(true).open(&rig.path).unwrap().set_len(size).unwrap();
    rig.write(String::from("\n") + &lines([1]));
    rig.start().await;
    rig.poll().await;
    let rotated = rig.rotate();
    let handle = rig.runtime().handle();
    let _ = rig.runtime().control().poll_now().await;
    let read = handle.eventually("it is read", move |report: &TailReport| report.offset == size + 9);
    read.or_now().within(Duration::from_mins(1)).await.unwrap();
    write_to(&rotated, lines([2]));
    rig.until(|report| report.file == FileState::Missing).await;
    assert_eq!(rig.recorded().await, [0, 1, 2]);
}

#[test]
fn no_path_is_no_tail() {
    assert!(tail::observation(&CorrectionsConfig::default()).is_none());
}
