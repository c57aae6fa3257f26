//! A run's directory, `outputs/<hash>/`: created atomically, found by its hash, shared by processes.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{claim, clock, manifest};
use crate::error::{Error, Result};
use crate::files::{self, TEMPORARY, sync_directory, write_atomically};
use crate::records::{Manifest, SeedRun, train_command};
use crate::spec::{self, InitFrom, Request, Resolved};
use crate::tasks::Registry;

/// Number of hex digits in a hash.
const HASH_LENGTH: usize = 12;

/// Age after which an incomplete directory is considered abandoned.
const ABANDONED: Duration = Duration::from_secs(60);

/// File in a run's directory with the vocabulary of a token task.
pub const TOKENIZER: &str = "tokenizer.json";

/// The directory of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// `outputs/<hash>`.
    pub path: PathBuf,
}

impl Directory {
    /// The directory of a spec, whether or not it exists.
    pub fn of(outputs: &Path, hash: &str) -> Self {
        Directory { path: outputs.join(hash) }
    }

    /// The directory's name, which is the spec's hash.
    pub fn hash(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Whether it exists.
    pub fn exists(&self) -> bool {
        self.spec_path().exists()
    }

    /// Creates the directory with spec and manifest atomically. If another process was faster, its directory is used.
    ///
    /// # Errors
    /// [`Error::Usage`] if it cannot be written.
    pub fn create(&self, resolved: &Resolved, manifest: &Manifest) -> Result<()> {
        let outputs = self.path.parent().unwrap_or(Path::new("."));
        let refused = |error: std::io::Error| {
            Error::Usage(format!(
                "cannot write results to {}: {error}; name a directory that can be written with `--outputs DIR`",
                outputs.display()
            ))
        };
        files::create_directory(outputs).map_err(refused)?;
        remove_abandoned(outputs);
        let mut builder = tempfile::Builder::new();
        builder.prefix(TEMPORARY);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
        let made = builder.tempdir_in(outputs).map_err(refused)?;
        write_atomically(&made.path().join("spec.yaml"), resolved.to_yaml().as_bytes())?;
        files::write_json(&made.path().join("manifest.json"), manifest)?;
        match std::fs::rename(made.path(), &self.path) {
            Err(_) if self.path.is_dir() => self.repair(resolved, &manifest.data),
            Err(error) => Err(Error::io("create the directory", &self.path)(error)),
            Ok(()) => {
                // The directory was renamed: there is nothing left to clean up.
                let _ = made.keep();
                sync_directory(outputs).map_err(Error::io("write", outputs))
            }
        }
    }

    /// `spec.yaml`.
    pub fn spec_path(&self) -> PathBuf {
        self.path.join("spec.yaml")
    }

    /// `manifest.json`.
    pub fn manifest_path(&self) -> PathBuf {
        self.path.join("manifest.json")
    }

    /// Reads the spec in the directory. `init_from`, if given, replaces the recorded path, since that run may have been
    /// moved.
    ///
    /// # Errors
    /// [`Error::Data`] if the spec was changed: its hash then differs from the directory's name.
    pub fn spec(&self, init_from: Option<&InitFrom>, registry: &Registry) -> Result<Resolved> {
        let json = init_from.map(serde_json::to_string).transpose();
        let json = json.map_err(|error| Error::Usage(format!("train.init_from: {error}")))?;
        let set = json.iter().map(|json| format!("train.init_from={json}")).collect();
        let request = Request { file: self.spec_path(), set, ..Request::default() };
        let resolved = spec::resolve(&request, registry)?;
        let named = self.path.canonicalize().map_err(Error::io("read", &self.path))?;
        if named.file_name().is_none_or(|name| name.to_string_lossy() != resolved.hash) {
            return Err(Error::data(
                &self.spec_path(),
                format!(
                    "hashes to {}, and not to the name of its directory: it was changed after the run was begun; \
                     restore it, or move the directory out of the way",
                    resolved.hash
                ),
            ));
        }
        Ok(resolved)
    }

    /// Reads the manifest.
    ///
    /// # Errors
    /// [`Error::Data`] if it is missing or damaged.
    pub fn manifest(&self) -> Result<Manifest> {
        let advice = format!("`{}` makes it again", train_command(&self.path));
        files::read_json(&self.manifest_path(), &advice)?
            .ok_or_else(|| Error::data(&self.manifest_path(), format!("is missing; {advice}")))
    }

    /// Rewrites a missing or damaged spec or manifest from the spec and the existing units.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn repair(&self, resolved: &Resolved, data: &BTreeMap<String, String>) -> Result<()> {
        if self.exists() && self.manifest().is_ok() {
            return Ok(());
        }
        let _lock = self.lock()?;
        if self.manifest().is_err() {
            self.log("the manifest was missing or damaged, and is written again");
            let mut manifest = manifest::begin(resolved, data.clone());
            manifest.seeds_asked = self.seeds(&manifest)?;
            files::write_json(&self.manifest_path(), &manifest)?;
        }
        if self.exists() { Ok(()) } else { write_atomically(&self.spec_path(), resolved.to_yaml().as_bytes()) }
    }

    /// A unit of this run.
    pub fn unit(&self, seed: u64) -> SeedRun {
        SeedRun::of(&self.path, seed)
    }

    /// All units that have a directory, by ascending seed.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn units(&self) -> Result<Vec<SeedRun>> {
        SeedRun::all(&self.path)
    }

    /// All seeds that were requested or have a directory, ascending.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn seeds(&self, manifest: &Manifest) -> Result<Vec<u64>> {
        let mut seeds: Vec<u64> =
            self.units()?.iter().map(|unit| unit.seed).chain(manifest.seeds_asked.clone()).collect();
        seeds.sort_unstable();
        seeds.dedup();
        Ok(seeds)
    }

    /// Locks the directory for rewriting aggregates; dropping the file releases the lock.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn lock(&self) -> Result<File> {
        let path = self.path.join(".lock");
        let file = File::options().write(true).create(true).truncate(false).open(&path);
        file.and_then(|file| file.lock().map(|()| file)).map_err(Error::io("lock", &path))
    }

    /// Appends a line with time, host and process to `log.txt`. Errors are ignored.
    pub fn log(&self, line: &str) {
        let line = format!("{} {}:{} {line}", clock::now(), claim::host(), std::process::id());
        let _ = files::append_line(&self.path.join("log.txt"), &line);
    }
}

/// Removes temporary directories of killed processes: creating a directory takes far less than [`ABANDONED`]. A younger one is
/// left to the next process that creates a run here. If there is none, it stays: a hidden directory with two small files, which
/// no command reads.
fn remove_abandoned(outputs: &Path) {
    for entry in std::fs::read_dir(outputs).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|data| data.modified()).ok().and_then(|time| time.elapsed().ok());
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) && age.is_some_and(|age| age > ABANDONED) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Rejects an impossible output directory before anything is created.
///
/// # Errors
/// [`Error::Usage`].
pub fn check_outputs(outputs: &Path) -> Result<()> {
    let nearest = outputs.ancestors().find(|path| path.as_os_str().is_empty() || path.exists());
    match nearest {
        Some(path) if !path.as_os_str().is_empty() && !path.is_dir() => Err(Error::Usage(format!(
            "cannot write results to {}: {} is a file; name a directory with `--outputs DIR`",
            outputs.display(),
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// All runs under `outputs`, by name.
///
/// # Errors
/// [`Error::Usage`] if the directory does not exist.
pub fn all(outputs: &Path) -> Result<Vec<Directory>> {
    let entries = std::fs::read_dir(outputs).map_err(|error| {
        Error::Usage(format!(
            "cannot read runs from {}: {error}; name their directory with `--outputs DIR`",
            outputs.display()
        ))
    })?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.len() == HASH_LENGTH && name.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .collect();
    names.sort_unstable();
    Ok(names.iter().map(|name| Directory::of(outputs, name)).filter(Directory::exists).collect())
}

/// The run whose hash begins with `prefix`.
///
/// # Errors
/// [`Error::Usage`] if there is none, or more than one.
pub fn find(outputs: &Path, prefix: &str) -> Result<Directory> {
    let prefix = prefix.to_ascii_lowercase();
    let mut found: Vec<Directory> =
        all(outputs)?.into_iter().filter(|run| !prefix.is_empty() && run.hash().starts_with(&prefix)).collect();
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(Error::Usage(format!(
            "no run in {} begins with `{prefix}`; `ccdni list` shows those there are",
            outputs.display()
        ))),
        _ => Err(Error::Usage(format!(
            "`{prefix}` may be any of {}; give more digits",
            found.iter().map(Directory::hash).collect::<Vec<_>>().join(", ")
        ))),
    }
}

/// The run called `name`: its directory, or a prefix of its hash under `outputs`.
///
/// # Errors
/// [`Error::Usage`] if there is no such run, or more than one.
pub fn locate(outputs: &Path, name: &str) -> Result<Directory> {
    let path = Path::new(name);
    if !name.is_empty() && path.join("spec.yaml").is_file() {
        // Resolve names such as `.`, since the last component is the hash.
        let path = match path.file_name() {
            Some(_) => path.to_path_buf(),
            None => path.canonicalize().map_err(Error::io("read", path))?,
        };
        return Ok(Directory { path });
    }
    if path.components().count() > 1 {
        let what = if path.is_dir() { "holds no `spec.yaml`, so it is not a run" } else { "is no directory" };
        return Err(Error::Usage(format!("{name} {what}; `ccdni list` shows the runs there are")));
    }
    find(outputs, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs_with(names: &[&str]) -> tempfile::TempDir {
        let outputs = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::create_dir(outputs.path().join(name)).unwrap();
            std::fs::write(outputs.path().join(name).join("spec.yaml"), "").unwrap();
        }
        outputs
    }

    #[test]
    fn a_run_is_found_by_a_prefix_of_its_hash() {
        let outputs = outputs_with(&["3f9a1c04d2be", "3f9b1c04d2be", "notes", "a00000000000x"]);
        assert_eq!(all(outputs.path()).unwrap().len(), 2);
        assert_eq!(find(outputs.path(), "3F9a").unwrap().hash(), "3f9a1c04d2be");
        for (prefix, expected) in [("3f9", "3f9a1c04d2be, 3f9b1c04d2be"), ("4", "ccdni list"), ("", "no run")] {
            let error = find(outputs.path(), prefix).unwrap_err();
            assert!(error.to_string().contains(expected) && error.exit_code() == 2, "{error}");
        }
    }

    #[test]
    fn a_run_is_located_by_its_directory_too() {
        let outputs = outputs_with(&["3f9a1c04d2be", "elsewhere"]);
        let at = |name: &str| outputs.path().join(name).display().to_string();
        let located = |name: &str| locate(outputs.path(), name).map(|run| run.hash());
        assert_eq!(located("3f9").unwrap(), "3f9a1c04d2be");
        assert_eq!(located(&at("3f9a1c04d2be")).unwrap(), "3f9a1c04d2be");
        assert_eq!(located(&format!("{}/", at("elsewhere"))).unwrap(), "elsewhere");
        assert!(located(&at("nothing")).unwrap_err().to_string().contains("is no directory"));
        assert!(located(&at("")).unwrap_err().to_string().contains("holds no `spec.yaml`"));
        assert!(located("4").unwrap_err().to_string().contains("ccdni list"));
    }

    #[test]
    fn a_file_is_rejected_as_output_directory() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        for bad in [file.clone(), file.join("below")] {
            let error = check_outputs(&bad).unwrap_err().to_string();
            assert!(error.contains("is a file") && error.contains("--outputs"), "{error}");
        }
        for good in [directory.path().join("new/er"), "outputs".into(), directory.path().to_path_buf()] {
            check_outputs(&good).unwrap();
        }
    }

    #[test]
    fn leftovers_of_killed_processes_are_removed_and_recent_ones_are_not() {
        let outputs = outputs_with(&[".tmp-old", ".tmp-new", "3f9a1c04d2be"]);
        for name in [".tmp-old", "3f9a1c04d2be"] {
            let before = std::time::SystemTime::now() - 2 * ABANDONED;
            File::open(outputs.path().join(name)).unwrap().set_modified(before).unwrap();
        }
        remove_abandoned(outputs.path());
        let left = |name: &str| outputs.path().join(name).exists();
        assert_eq!([".tmp-old", ".tmp-new", "3f9a1c04d2be"].map(left), [false, true, true]);
    }

    #[test]
    fn units_are_listed_by_number_without_old_ones() {
        let outputs = outputs_with(&["3f9a1c04d2be"]);
        let run = find(outputs.path(), "3").unwrap();
        for name in ["10", "2", "2.old-1", "x", "007", "+3"] {
            std::fs::create_dir_all(run.path.join("seeds").join(name)).unwrap();
        }
        assert_eq!(run.units().unwrap().iter().map(|unit| unit.seed).collect::<Vec<_>>(), [2, 10]);
    }

    #[test]
    fn log_lines_of_many_threads_never_mix() {
        let outputs = outputs_with(&["3f9a1c04d2be"]);
        let run = find(outputs.path(), "3").unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let run = &run;
                scope.spawn(move || (0..50).for_each(|i| run.log(&format!("thread {thread}\nline {i}"))));
            }
        });
        let text = std::fs::read_to_string(run.path.join("log.txt")).unwrap();
        assert_eq!(text.lines().filter(|line| line.contains(" thread ") && line.contains(" line ")).count(), 200);
    }
}
