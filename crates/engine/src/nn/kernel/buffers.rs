//! Buffers that are reused between calls.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

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
