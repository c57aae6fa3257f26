//! Files from the Hugging Face hub, kept in a cache of files below `datasets/`.
//!
//! A file that is in the cache is never asked for again, so a filled cache needs no network. Every file's size and SHA-256
//! are held against what the hub says of it when it is fetched, each time a run begins.

use std::path::PathBuf;

use crate::error::{Error, Result};

#[cfg(feature = "hub")]
mod cache;

/// Where files of the hub are kept, relative to the working directory; laid out as the hub's own tools do.
pub const CACHE: &str = "datasets/hub";

/// What a repository on the hub is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A data set.
    Dataset,
    /// A model's weights.
    Model,
}

/// A file on the hub, as it is on the main branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubFile {
    /// What its repository is of.
    pub kind: Kind,
    /// Owner and name of the repository: `timm/resnet18.tv_in1k`.
    pub repository: String,
    /// Its path in the repository.
    pub name: String,
}

impl HubFile {
    /// Makes sure that the cache has the file, whole, and gives its path there. `what` asks for it, in a message, and
    /// `otherwise` says what can be done without the hub.
    ///
    /// # Errors
    /// [`Error::Download`] if it cannot be got; [`Error::Usage`] if the network may not be used, or the program was built
    /// without the hub; [`Error::Data`] naming a damaged file that may not be downloaded again.
    #[cfg(feature = "hub")]
    pub fn fetch(&self, _what: &str, otherwise: &str) -> Result<PathBuf> {
        cache::fetch(self, otherwise)
    }

    /// Says that the program was built without the hub.
    ///
    /// # Errors
    /// [`Error::Usage`], always.
    #[cfg(not(feature = "hub"))]
    pub fn fetch(&self, what: &str, otherwise: &str) -> Result<PathBuf> {
        Err(not_built(what, otherwise))
    }

    /// Its path in the cache.
    ///
    /// # Errors
    /// [`Error::Data`] if it is not there (any more); [`Error::Usage`] if the program was built without the hub.
    #[cfg(feature = "hub")]
    pub fn cached(&self, _what: &str, _otherwise: &str) -> Result<PathBuf> {
        cache::cached(self).ok_or_else(|| {
            let what = format!("has no {} of {} any more; run again", self.name, self.repository);
            Error::data(std::path::Path::new(CACHE), what)
        })
    }

    /// Says that the program was built without the hub.
    ///
    /// # Errors
    /// [`Error::Usage`], always.
    #[cfg(not(feature = "hub"))]
    pub fn cached(&self, what: &str, otherwise: &str) -> Result<PathBuf> {
        Err(not_built(what, otherwise))
    }

    /// The files in the cache that say what this one is: which version of its repository, and the file itself if it is there.
    pub fn files(&self) -> Vec<PathBuf> {
        #[cfg(feature = "hub")]
        return std::iter::once(cache::version(self)).chain(cache::cached(self)).collect();
        #[cfg(not(feature = "hub"))]
        Vec::new()
    }
}

#[cfg(not(feature = "hub"))]
fn not_built(what: &str, otherwise: &str) -> Error {
    Error::Usage(format!(
        "{what}: this program was built without the Hugging Face hub: build it with its default features \
         (`cargo build --release --locked`); {otherwise}"
    ))
}
