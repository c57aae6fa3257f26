//! The order of training items in an epoch, and their batches and splits.

use std::cell::RefCell;

use crate::rng::Stream;

/// Items that are shuffled anew for each epoch, from the stream `data.shuffle` of a seed.
pub struct EpochOrder {
    items: Vec<u32>,
    seed: u64,
    /// The order of the most recent epoch.
    recent: RefCell<Option<(usize, Vec<u32>)>>,
}

impl EpochOrder {
    /// Items in their order before they are shuffled.
    pub fn new(items: Vec<u32>, seed: u64) -> EpochOrder {
        EpochOrder { items, seed, recent: RefCell::new(None) }
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The items as they are, in no epoch's order.
    pub fn items(&self) -> &[u32] {
        &self.items
    }

    /// Gives the items in the order of an epoch to `read`.
    pub fn of<R>(&self, epoch: usize, read: impl FnOnce(&[u32]) -> R) -> R {
        let mut recent = self.recent.borrow_mut();
        let (_, items) = match &mut *recent {
            Some(order) if order.0 == epoch => order,
            order => {
                let mut items = self.items.clone();
                Stream::new(self.seed, "data.shuffle", epoch, 0).shuffle(&mut items);
                order.insert((epoch, items))
            }
        };
        read(items)
    }
}

/// Batch number `index` of these items; the last one may be smaller.
pub fn nth_batch(items: &[u32], index: usize, batch_size: usize) -> &[u32] {
    items.chunks(batch_size.max(1)).nth(index).unwrap_or_default()
}

/// A share of `total` items, rounded down to whole ones.
pub fn share_of(total: usize, share: f64) -> usize {
    // The small constant compensates for rounding: 0.29 of 100 is 29.
    ((total as f64 * share + 1e-9) as usize).min(total)
}
