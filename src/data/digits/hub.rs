//! MNIST and Fashion-MNIST from the Hugging Face hub, kept in a cache of files below `datasets/`.
//!
//! A file that is in the cache is never asked for again, so a filled cache needs no network. Every file's size and SHA-256
//! are held against what the hub says of it before it is used, each time a run begins.

#[cfg(feature = "hub")]
use super::Part;
use super::{Digits, HubDataset, Use};

#[cfg(feature = "hub")]
mod cache;
#[cfg(feature = "hub")]
mod parquet;

#[cfg(feature = "hub")]
pub(super) use cache::{fetch, files, read};
#[cfg(not(feature = "hub"))]
pub(super) use without::{fetch, files, read};

/// Where files of the hub are kept, relative to the working directory; laid out as the hub's own tools do.
pub const CACHE: &str = "datasets/hub";

#[cfg(feature = "hub")]
impl HubDataset {
    /// The repository on the hub, and the folder of the files in it.
    fn repository(self) -> (&'static str, &'static str) {
        match self {
            HubDataset::Mnist => ("ylecun/mnist", "mnist"),
            HubDataset::FashionMnist => ("zalando-datasets/fashion_mnist", "fashion_mnist"),
        }
    }

    /// The file of a part within the repository.
    fn file(self, part: Part) -> String {
        let name = match part {
            Part::Train => "train",
            Part::Test => "test",
        };
        format!("{}/{name}-00000-of-00001.parquet", self.repository().1)
    }
}

/// What else there is where the hub is out of reach.
const ALTERNATIVES: &str = "without the hub, use `task.source: {kind: glyphs}` (digits drawn by the program), or \
                            `task.source: {kind: idx, dir: DIR}` with MNIST's IDX files in a local directory";

/// The program that was built without the feature: it says so.
#[cfg(not(feature = "hub"))]
mod without {
    use std::path::PathBuf;

    use super::{ALTERNATIVES, Digits, HubDataset, Use};
    use crate::error::{Error, Result};

    fn refuse() -> Error {
        Error::Usage(format!(
            "`task.source.kind` is `hub`, and this program was built without data from the hub: build it with \
             `cargo build --release --locked --features hub`; {ALTERNATIVES}"
        ))
    }

    pub(in crate::data::digits) fn read(_: HubDataset, _: Use) -> Result<Digits> {
        Err(refuse())
    }

    pub(in crate::data::digits) fn fetch(_: HubDataset, _: Use) -> Result<()> {
        Err(refuse())
    }

    pub(in crate::data::digits) fn files(_: HubDataset, _: Use) -> Vec<PathBuf> {
        Vec::new()
    }
}
