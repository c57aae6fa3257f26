//! What tasks read and hand out: batches and datasets of the engine, and where digits, captions and scenes come from.

pub mod captions;
pub mod coco;
pub mod digits;
pub mod movement;
pub mod scenes;

pub use captions::vocabulary::Vocabulary;
pub use ccdni_engine::data::*;
