//! Files from the Hugging Face hub, cached below `datasets/`.
//!
//! A cached file is never requested again, so a filled cache needs no network. The SHA-256 of every file is verified when it
//! is fetched, at the start of each run.

use std::path::PathBuf;

use crate::error::{Error, Result};

#[cfg(feature = "hub")]
mod cache;

/// The cache, relative to the working directory, with the layout of the hub's own tools.
pub const CACHE: &str = "datasets/hub";

/// The kind of a repository on the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A data set.
    Dataset,
    /// A model's weights.
    Model,
}

/// A file on the main branch of a repository on the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubFile {
    /// The kind of the repository.
    pub kind: Kind,
    /// Owner and name of the repository: `timm/resnet18.tv_in1k`.
    pub repository: String,
    /// Its path in the repository.
    pub name: String,
}

impl HubFile {
    /// Downloads the file unless it is cached, verifies it, and returns its path. For messages, `what` names the setting
    /// that requires it and `otherwise` an alternative without the hub.
    ///
    /// # Errors
    /// [`Error::Download`] if the download fails; [`Error::Usage`] if the network may not be used, or the program was built
    /// without the hub; [`Error::Data`] for a damaged file that may not be downloaded again.
    #[cfg(feature = "hub")]
    pub fn fetch(&self, _what: &str, otherwise: &str) -> Result<PathBuf> {
        cache::fetch(self, otherwise)
    }

    /// Fails: the program was built without the hub.
    ///
    /// # Errors
    /// [`Error::Usage`], always.
    #[cfg(not(feature = "hub"))]
    pub fn fetch(&self, what: &str, otherwise: &str) -> Result<PathBuf> {
        Err(not_built(what, otherwise))
    }

    /// The path in the cache.
    ///
    /// # Errors
    /// [`Error::Data`] if it is missing; [`Error::Usage`] if the program was built without the hub.
    #[cfg(feature = "hub")]
    pub fn cached(&self, _what: &str, _otherwise: &str) -> Result<PathBuf> {
        cache::cached(self).ok_or_else(|| {
            let what = format!("has no {} of {} any more; run again", self.name, self.repository);
            Error::data(std::path::Path::new(CACHE), what)
        })
    }

    /// Fails: the program was built without the hub.
    ///
    /// # Errors
    /// [`Error::Usage`], always.
    #[cfg(not(feature = "hub"))]
    pub fn cached(&self, what: &str, otherwise: &str) -> Result<PathBuf> {
        Err(not_built(what, otherwise))
    }

    /// The files in the cache that determine the content: the revision of the repository, and the file itself if present.
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
