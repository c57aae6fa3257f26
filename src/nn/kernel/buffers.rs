//! Buffers that are reused from call to call.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

/// Buffers that are not in use.
pub struct Pool<T>(Rc<RefCell<Vec<T>>>);

/// A buffer in use; it goes back when this is dropped.
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
    /// A buffer, as it was left by whoever used it last.
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

/// Room for `count` numbers; what is in it does not matter.
pub fn room(buffer: &mut Vec<f32>, count: usize) -> &mut [f32] {
    if buffer.len() < count {
        buffer.resize(count, 0.0);
    }
    &mut buffer[..count]
}
