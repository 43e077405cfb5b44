//! How far characters go on. Every scan of more than a few characters is one of these, and tests count what they read.

/// How many characters from `at` are of a kind, at most `most`.
pub(super) fn run(text: &[char], at: usize, most: usize, is_of_it: impl Fn(char) -> bool) -> usize {
    let count = text.iter().skip(at).take(most).take_while(|char| is_of_it(**char)).count();
    read(count + 1);
    count
}

/// The same backwards, from the end.
pub(super) fn run_back(text: &[char], most: usize, is_of_it: impl Fn(char) -> bool) -> usize {
    let count = text.iter().rev().take(most).take_while(|char| is_of_it(**char)).count();
    read(count + 1);
    count
}

/// So many characters are read.
#[cfg(not(test))]
pub(super) fn read(_: usize) {}

#[cfg(test)]
pub(super) use counter::read;

/// How many characters this thread has read.
#[cfg(test)]
pub(crate) mod counter {
    use std::cell::Cell;

    thread_local!(static STEPS: Cell<usize> = const { Cell::new(0) });

    pub(crate) fn read(count: usize) {
        STEPS.set(STEPS.get() + count);
    }

    pub(crate) fn steps() -> usize {
        STEPS.get()
    }
}
