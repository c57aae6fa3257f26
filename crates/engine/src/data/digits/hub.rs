//! MNIST and Fashion-MNIST from the Hugging Face hub.

use std::path::PathBuf;

use super::{Digits, HubDataset, Part, SIDE, Use};
use crate::data::hub::{HubFile, Kind};
use crate::error::Result;

#[cfg(feature = "hub")]
mod parquet;

/// The setting that requires the hub, for messages.
const WHAT: &str = "`task.source.kind` is `hub`";
/// Alternatives to the hub, for messages.
const ALTERNATIVES: &str = "without the hub, use `task.source: {kind: glyphs}` (digits drawn by the program), or \
                            `task.source: {kind: idx, dir: DIR}` with MNIST's IDX files in a local directory";

impl HubDataset {
    /// The file of a part on the hub.
    fn file(self, part: Part) -> HubFile {
        let (repository, folder) = match self {
            HubDataset::Mnist => ("ylecun/mnist", "mnist"),
            HubDataset::FashionMnist => ("zalando-datasets/fashion_mnist", "fashion_mnist"),
        };
        let name = match part {
            Part::Train => "train",
            Part::Test => "test",
        };
        let name = format!("{folder}/{name}-00000-of-00001.parquet");
        HubFile { kind: Kind::Dataset, repository: repository.into(), name }
    }
}

/// Reads the images of a data set from the cache.
pub(super) fn read(dataset: HubDataset, r#use: Use) -> Result<Digits> {
    let parts = r#use.parts().iter().map(|&part| contents(&dataset.file(part).cached(WHAT, ALTERNATIVES)?));
    Ok(Digits::of_parts(parts.collect::<Result<_>>()?, SIDE))
}

/// Downloads the files of a data set unless they are cached, and verifies them.
pub(super) fn fetch(dataset: HubDataset, r#use: Use) -> Result<()> {
    r#use.parts().iter().try_for_each(|&part| dataset.file(part).fetch(WHAT, ALTERNATIVES).map(drop))
}

/// The cached files of a data set, and the file with its revision.
pub(super) fn files(dataset: HubDataset, r#use: Use) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = r#use.parts().iter().flat_map(|&part| dataset.file(part).files()).collect();
    files.sort();
    files.dedup();
    files
}

#[cfg(feature = "hub")]
use parquet::read as contents;

/// Unreachable: without the feature no file is ever cached.
#[cfg(not(feature = "hub"))]
fn contents(_: &std::path::Path) -> Result<(Vec<u8>, Vec<u8>)> {
    Ok(Default::default())
}
