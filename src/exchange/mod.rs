//! Weights for other programs, and from them: the files of PyTorch, safetensors and NumPy.

pub mod export;
mod files;
pub mod import;
mod names;
mod script;

pub use export::{Export, Exported};
pub use files::Format;
