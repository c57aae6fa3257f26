//! What the fuzz targets share. A target is one file in `targets/`: a function of arbitrary bytes that must neither panic, nor
//! exhaust memory or time. `fuzz/run.sh` (`just fuzz`) runs them.

use std::path::PathBuf;
use std::sync::LazyLock;

use ccdni::tasks::Registry;

/// The plug-ins of the program.
pub fn registry() -> &'static Registry {
    static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::built_in);
    &REGISTRY
}

/// The directory of this process for files that targets read; `TMPDIR` chooses where.
pub fn directory() -> &'static PathBuf {
    static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
        let path = std::env::temp_dir().join(format!("ccdni-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory for temporary files");
        path
    });
    &DIRECTORY
}

/// A file with these bytes, in [`directory`].
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = directory().join(name);
    std::fs::write(&path, bytes).expect("a temporary file");
    path
}

/// The last byte, as a choice of the target, and what is before it. Files as they are can so be the first inputs.
pub fn choice(data: &[u8]) -> (usize, &[u8]) {
    data.split_last().map_or((0, data), |(last, rest)| (usize::from(*last), rest))
}
