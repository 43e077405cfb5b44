//! Marks and positions.

use std::fs::File;
use std::io::Write;

use proptest::prelude::*;

use super::mark::{Mark, Position};

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

#[test]
fn the_text_of_a_position_is_read_again_and_nothing_else_is() {
    let file = file(&[b'x'; 5_000]);
    let mark = Mark::load(&file, 4_000).unwrap().unwrap();
    for inode in [0, 77, u64::MAX] {
        let position = mark.position(inode);
        let text = position.to_string();
        assert_eq!(text.parse(), Ok(position));
        assert!(text.len() < 100, "{text}");
        for wrong in [
            String::new(),
            text[1..].to_owned(),
            format!("{text}0"),
            format!("{text}.1"),
            format!(" {text}"),
            text.replacen("1.", "2.", 1),
            text.replace(".4000.", ".+4000."),
            text.replace(".4000.", ".."),
        ] {
            assert_eq!(wrong.parse::<Position>(), Err(()), "{wrong}");
        }
    }
}

#[test]
fn a_position_is_found_in_its_file_alone() {
    let mut bytes = vec![b'x'; 5_000];
    let mark = Mark::load(&file(&bytes), 4_000).unwrap().unwrap();
    let position = mark.position(7);
    assert_eq!(position.find(&file(&bytes), 7).unwrap(), Some(mark.clone()));
    assert_eq!(position.find(&file(&bytes), 8).unwrap(), None);
    assert_eq!(position.find(&file(&bytes[..3_999]), 7).unwrap(), None);
    // What is compared, and what is not.
    for (byte, is_compared) in
        [(0, true), (1_023, true), (1_024, false), (3_744, true), (3_999, true), (4_000, false)]
    {
        bytes[byte] = b'y';
        let changed = file(&bytes);
        assert_eq!(position.find(&changed, 7).unwrap().is_none(), is_compared, "byte {byte}");
        assert_eq!(mark.is_in(&changed).unwrap(), !is_compared, "byte {byte}");
        bytes[byte] = b'x';
    }
}

proptest! {
    #[test]
    fn a_mark_that_moves_on_is_the_one_that_is_loaded(lengths in prop::collection::vec(0_usize..700, 1..12)) {
        let bytes: Vec<u8> = (0..lengths.iter().sum()).map(|place: usize| u8::try_from(place * 7 % 251).unwrap()).collect();
        let file = file(&bytes);
        let (mut mark, mut at) = (Mark::default(), 0);
        for length in lengths {
            mark.advance(&bytes[at..at + length]);
            at += length;
            let loaded = Mark::load(&file, at as u64).unwrap().unwrap();
            prop_assert_eq!(mark.position(1), loaded.position(1));
            prop_assert!(mark.is_in(&file).unwrap());
        }
    }
}
