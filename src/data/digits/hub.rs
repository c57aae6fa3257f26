//! MNIST and Fashion-MNIST from the Hugging Face hub.

use std::path::PathBuf;

use super::{Digits, HubDataset, Part, Use};
use crate::data::hub::{HubFile, Kind};
use crate::error::Result;

#[cfg(feature = "hub")]
mod parquet;

/// What asks for the hub, in messages.
const WHAT: &str = "`task.source.kind` is `hub`";
/// What else there is where the hub is out of reach.
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
    Ok(Digits::of_parts(parts.collect::<Result<_>>()?))
}

/// Makes sure that the cache has the files of a data set, whole.
pub(super) fn fetch(dataset: HubDataset, r#use: Use) -> Result<()> {
    r#use.parts().iter().try_for_each(|&part| dataset.file(part).fetch(WHAT, ALTERNATIVES).map(drop))
}

/// The files in the cache, and the one that says which version of the data set they are.
pub(super) fn files(dataset: HubDataset, r#use: Use) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = r#use.parts().iter().flat_map(|&part| dataset.file(part).files()).collect();
    files.sort();
    files.dedup();
    files
}

#[cfg(feature = "hub")]
use parquet::read as contents;

/// Without the feature there is no file that this could be called with.
#[cfg(not(feature = "hub"))]
fn contents(_: &std::path::Path) -> Result<(Vec<u8>, Vec<u8>)> {
    Ok(Default::default())
}
