//! How many threads work is divided among, and into which parts.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::team;

/// Multiplications that each thread has at least, some 10 µs: a thread that is awake begins within one.
const SHARE: usize = 1 << 19;

/// Rows that a thread takes at least: a product of few rows is slow for its size.
const ROWS: usize = 8;

/// How many multiplications of a product take as long as a number in a pointwise pass.
pub const PASS: usize = 8;

/// How many threads may be used. They divide rows, never a sum, so results do not depend on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threads(pub usize);

impl Threads {
    /// As many as the current pool of rayon has.
    pub fn of_pool() -> Threads {
        Threads(rayon::current_num_threads())
    }

    /// The threads that are worth using for `multiplications` multiplications; at least one.
    pub fn worth(self, multiplications: usize) -> Threads {
        Threads(self.0.min(multiplications / SHARE).max(1))
    }

    /// Parts of `rows` rows, one per thread that is worth using for `multiplications` multiplications; at least one part.
    pub fn parts(self, rows: usize, multiplications: usize) -> Vec<Range<usize>> {
        let count = self.worth(multiplications).0.min(rows / ROWS).max(1);
        (0..count).map(|part| part * rows / count..(part + 1) * rows / count).collect()
    }

    /// Calls `work` for each item, side by side, for which so many threads are woken; within other divided work, one after the other.
    ///
    /// # Panics
    /// If `work` does.
    pub fn each<T: Send>(self, items: impl IntoIterator<Item = T>, work: impl Fn(T) + Sync) {
        if self.0 < 2 {
            return items.into_iter().for_each(work);
        }
        let items: Vec<Mutex<Option<T>>> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
        team::compute(self.0, items.len(), &|index| {
            let item = items[index].lock().unwrap_or_else(PoisonError::into_inner).take();
            item.into_iter().for_each(&work);
        });
    }
}

/// Cuts each of `blocks` blocks of rows, `[rows, width]`, at the borders of `parts`, and collects the pieces per part.
pub fn divide<'a>(
    mut numbers: &'a mut [f32],
    blocks: usize,
    width: usize,
    parts: &[Range<usize>],
) -> Vec<Vec<&'a mut [f32]>> {
    let mut pieces: Vec<Vec<_>> = parts.iter().map(|_| Vec::with_capacity(blocks)).collect();
    for _ in 0..blocks {
        for (part, pieces) in parts.iter().zip(&mut pieces) {
            let (piece, rest) = numbers.split_at_mut(part.len() * width);
            pieces.push(piece);
            numbers = rest;
        }
    }
    pieces
}

/// Cuts rows of `width` numbers at the borders of `parts`.
pub fn cut<'a>(numbers: &'a mut [f32], width: usize, parts: &[Range<usize>]) -> impl Iterator<Item = &'a mut [f32]> {
    divide(numbers, 1, width, parts).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_are_all_rows_in_order(rows in 0..300usize, threads in 1..9usize, work in 0..20usize) {
            let parts = Threads(threads).parts(rows, work * SHARE);
            prop_assert!(!parts.is_empty() && parts.len() <= threads.min(work.max(1)));
            prop_assert!(parts.len() == 1 || parts.iter().all(|part| part.len() >= ROWS));
            let rows_in_parts: Vec<usize> = parts.into_iter().flatten().collect();
            prop_assert_eq!(rows_in_parts, (0..rows).collect::<Vec<_>>());
        }

        #[test]
        fn every_item_is_worked_on(count in 0..20usize, threads in 1..5usize, width in 1..4usize) {
            let mut numbers = vec![0.0; count * width];
            let parts: Vec<Range<usize>> = (0..count).map(|at| at..at + 1).collect();
            Threads(threads).each(cut(&mut numbers, width, &parts).enumerate(), |(at, row)| row.fill(at as f32));
            let expected: Vec<f32> = (0..count).flat_map(|at| std::iter::repeat_n(at as f32, width)).collect();
            prop_assert_eq!(numbers, expected);
        }
    }
}
