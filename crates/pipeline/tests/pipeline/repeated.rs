//! A store that gets a commit again.

use watchkeeper::subscription::Cursor;
use watchkeeper_pipeline::StagePosition;
use watchkeeper_pipeline::store::{NewOutputs, Stored};

#[test]
fn a_repeated_batch_replaces_one_that_was_consumed_at_once() {
    let cursor: Cursor = "0f8e1a2b3c4d5e6f708192a3b4c5d6e7.1.2".parse().unwrap();
    let mut stored = Stored::<u64, u64>::default();
    for batch in [&[1][..], &[1, 2]] {
        stored.apply(&StagePosition::default(), NewOutputs { cursor, batch, consumed: 3 }, &[]);
        assert_eq!(stored.cursor, Some(cursor.at(3)));
        assert!(stored.outputs.is_empty(), "{:?}", stored.outputs);
    }
}
