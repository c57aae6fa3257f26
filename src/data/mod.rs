//! What tasks read and hand out: batches and datasets of the engine, and where digits, captions, scenes and text come from.

pub mod captions;
pub mod coco;
pub mod digits;
mod order;
pub mod scenes;
pub mod text;

pub use captions::vocabulary::Vocabulary;
pub use ccdni_engine::data::*;
pub use order::{EpochOrder, nth_batch, share_of};
