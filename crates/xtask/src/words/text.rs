//! The words of a text.

/// A word in small letters, and what is between it and the word before.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Word {
    text: String,
    line: usize,
    /// Whether it goes on from the word before: nothing but blanks, `_`, `-`, and the signs of a comment are between.
    goes_on: bool,
}

/// The runs of letters, in which `snake_case` and `CamelCase` are two words each.
pub(super) fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut line, mut goes_on, mut was_small) = (1, false, false);
    for letter in text.chars().chain(['\n']) {
        let is_letter = letter.is_alphabetic();
        if (!is_letter || letter.is_uppercase() && was_small) && !word.is_empty() {
            words.push(Word { text: std::mem::take(&mut word), line, goes_on });
            goes_on = true;
        }
        if is_letter {
            word.extend(letter.to_lowercase());
        } else {
            goes_on &= letter.is_whitespace() || "_-/!*>#\\".contains(letter);
            line += usize::from(letter == '\n');
        }
        was_small = is_letter && !letter.is_uppercase();
    }
    words
}

/// The lines on which `phrase` begins; one for each time.
pub(super) fn lines_with(phrase: &str, words: &[Word]) -> Vec<usize> {
    let parts: Vec<&str> = phrase.split(' ').collect();
    let is_it = |window: &&[Word]| {
        let same = window.iter().zip(&parts).all(|(word, part)| word.text == *part);
        same && window[1..].iter().all(|word| word.goes_on)
    };
    words.windows(parts.len()).filter(is_it).map(|window| window[0].line).collect()
}
