//! Buffers that are reused between calls.

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use super::threads::Threads;

/// Buffers that are not in use.
pub struct Pool<T>(Rc<RefCell<Vec<T>>>);

/// A buffer in use, returned to its pool when dropped.
pub struct Lent<T: Default> {
    value: T,
    pool: Rc<RefCell<Vec<T>>>,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Pool(Rc::default())
    }
}

impl<T: Default> Pool<T> {
    /// A buffer with the contents of its last use.
    pub fn lend(&self) -> Lent<T> {
        Lent { value: self.0.borrow_mut().pop().unwrap_or_default(), pool: self.0.clone() }
    }
}

impl<T: Default> Deref for Lent<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Default> DerefMut for Lent<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: Default> Drop for Lent<T> {
    fn drop(&mut self) {
        self.pool.borrow_mut().push(std::mem::take(&mut self.value));
    }
}

/// The first `count` values of a buffer, grown if needed; their contents are unspecified.
pub fn room(buffer: &mut Vec<f32>, count: usize) -> &mut [f32] {
    if buffer.len() < count {
        buffer.resize(count, 0.0);
    }
    &mut buffer[..count]
}

/// `count` numbers, which `write` writes side by side, in chunks of `size` and a last one, by their number. It gets zeros: those of its
/// chunk alone, which stay in the cache until it replaces them.
pub fn written(count: usize, size: usize, threads: Threads, write: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let mut numbers: Vec<f32> = Vec::with_capacity(count);
    let chunks = numbers.spare_capacity_mut()[..count].chunks_mut(size.max(1));
    threads.each(chunks.enumerate(), |(index, chunk)| {
        chunk.fill(MaybeUninit::new(0.0));
        // SAFETY: every number of the chunk has just been set.
        write(index, unsafe { chunk.assume_init_mut() });
    });
    // SAFETY: the capacity is at least `count`, and the chunks are the first `count` numbers; `each` has worked on all of them.
    unsafe { numbers.set_len(count) };
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_zeros_and_written_in_their_places() {
        for (count, size, threads) in [(0, 3, 2), (10, 3, 1), (10, 3, 4), (6, 0, 2), (5, 9, 2)] {
            let numbers = written(count, size, Threads(threads), |index, chunk| {
                assert!(chunk.iter().all(|number| *number == 0.0));
                chunk.fill(index as f32);
            });
            let expected: Vec<f32> = (0..count).map(|at| (at / size.max(1)) as f32).collect();
            assert_eq!(numbers, expected);
        }
    }
}
