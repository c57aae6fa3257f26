//! Claims: exclusive ownership of a unit during training.
//!
//! A claim is an operating-system lock on the unit's `lock` file, so it ends with its process. The content identifies the
//! owner. Where two hosts share a directory but not its locks, the content decides: the owner rewrites the file every
//! [`HEARTBEAT`], and another host may take over a claim unchanged for [`SILENCE`]. Each [`Claim::write`] verifies that the
//! content is still the owner's.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{clock, thread};
use crate::error::{Error, Result};
use crate::files::{create_directory, sync_directory, temporary_in, write_atomically_if};

/// Interval at which an owner rewrites its claim.
pub const HEARTBEAT: Duration = Duration::from_secs(30);

/// Age after which another host's claim may be taken over.
pub const SILENCE: Duration = Duration::from_secs(300);

/// Attempts to lock: a reader may hold the lock for an instant.
const TRIES: usize = 5;

/// The owner of a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The host's name.
    pub host: String,
    /// Process id on that host.
    pub pid: u32,
    /// When it was claimed.
    pub started: String,
    /// The cluster job, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// A random token that identifies this claim.
    token: String,
}

impl Holder {
    fn here() -> Self {
        // Without a system source of random numbers, the standard library's hasher seeds still distinguish claims.
        let fallback = |_| std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), 0);
        let random = || getrandom::u64().unwrap_or_else(fallback);
        Holder {
            host: host(),
            pid: std::process::id(),
            started: clock::now(),
            job: cluster_job(),
            token: format!("{:016x}{:016x}", random(), random()),
        }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} on {} since {}", self.pid, self.host, self.started)?;
        self.job.as_ref().map_or(Ok(()), |job| write!(f, " (cluster job {job})"))
    }
}

/// What a program prints, without white space around it; `None` if it cannot be started or read, or fails. The standard library's
/// `output` panics if it cannot be read.
pub fn answer(command: &mut Command) -> Option<String> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let mut bytes = Vec::new();
    let read = child.stdout.take()?.read_to_end(&mut bytes);
    let succeeded = child.wait().is_ok_and(|status| status.success());
    (read.is_ok() && succeeded).then(|| String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// This host's name.
pub fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| answer(&mut Command::new("hostname")))
        .map(|name| name.trim().to_string())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "unknown".into())
}

/// Id of the current cluster job, if there is one.
fn cluster_job() -> Option<String> {
    slurm_task().or_else(|| ["PBS_JOBID", "LSB_JOBID", "JOB_ID"].iter().find_map(|name| std::env::var(name).ok()))
}

/// Id of the current SLURM task, `<array>_<index>` in an array: `scontrol` would take the plain job id of one of the tasks for
/// the whole array.
pub fn slurm_task() -> Option<String> {
    let variable = |name: &str| std::env::var(name).ok();
    match (variable("SLURM_ARRAY_JOB_ID"), variable("SLURM_ARRAY_TASK_ID")) {
        (Some(array), Some(task)) => Some(format!("{array}_{task}")),
        _ => variable("SLURM_JOB_ID"),
    }
}

/// Result of an attempt to claim a unit.
#[derive(Debug)]
pub enum Attempt {
    /// This process owns the unit.
    Claimed(Claim),
    /// Another process owns it; the holder if it could be read.
    Held(Option<Holder>),
}

/// A claim held by this process until it is dropped or taken over by another host.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    file: File,
    holder: Holder,
    heart: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl Claim {
    /// Tries to claim the unit in `directory`, which is created if missing.
    ///
    /// # Errors
    /// [`Error::Io`] if the lock file cannot be created, read or locked.
    pub fn attempt(directory: &Path) -> Result<Attempt> {
        Claim::attempt_as(directory, Holder::here())
    }

    fn attempt_as(directory: &Path, us: Holder) -> Result<Attempt> {
        let path = directory.join("lock");
        let mut seen = None;
        for attempt in 0..TRIES {
            if attempt > 0 {
                std::thread::sleep(Duration::from_millis(20));
            }
            create_directory(directory).map_err(Error::io("create the directory", directory))?;
            let file = match File::options().read(true).write(true).create(true).truncate(false).open(&path) {
                // The directory was renamed between the two calls.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                opened => opened.map_err(Error::io("open", &path))?,
            };
            match file.try_lock() {
                Ok(()) if !is_at(&file, &path) => continue,
                Ok(()) => {
                    // A free lock means that an owner on this host has died; it proves nothing about other hosts.
                    seen = read_holder(&path);
                    if seen.as_ref().is_none_or(|owner| owner.host == us.host || is_silent(&file, directory)) {
                        return Ok(Attempt::Claimed(Claim::of(path, file, us)?));
                    }
                    break;
                }
                Err(TryLockError::WouldBlock) => {
                    seen = read_holder(&path);
                    if seen.as_ref().is_some_and(|owner| owner.host != us.host && is_silent(&file, directory)) {
                        return replace(directory, path, us, seen);
                    }
                }
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
            }
        }
        Ok(Attempt::Held(seen))
    }

    /// Writes the holder into a locked file, and makes the unit's directory durable: who made it may have been killed before.
    fn of(path: PathBuf, file: File, holder: Holder) -> Result<Claim> {
        // `seeds/<seed>`, `seeds`, the run's directory, and that of all runs.
        for directory in path.ancestors().skip(1).take(4).filter(|path| !path.as_os_str().is_empty()) {
            sync_directory(directory).map_err(Error::io("write", directory))?;
        }
        file.set_len(0).and_then(|()| rewrite(&file, &holder)).map_err(Error::io("write", &path))?;
        let heart = beat(path.clone(), file.try_clone().map_err(Error::io("open", &path))?, holder.clone())?;
        Ok(Claim { path, file, holder, heart: Some(heart) })
    }

    /// Writes a file of the unit atomically, and only if the claim still holds when the file is moved into place.
    ///
    /// # Errors
    /// [`Error::ClaimLost`] if it was taken over, [`Error::Io`]; an older file is then kept.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        // Verified first as well: the directory may have been renamed or taken over.
        self.verify()?;
        write_atomically_if(path, bytes, || self.verify())
    }

    /// Checks that the claim still holds.
    ///
    /// # Errors
    /// [`Error::ClaimLost`] if it was taken over: nothing may then be written.
    pub fn verify(&self) -> Result<()> {
        match read_holder(&self.path) {
            Some(owner) if owner.token == self.holder.token => Ok(()),
            _ => Err(Error::ClaimLost(self.path.parent().unwrap_or(&self.path).to_path_buf())),
        }
    }
}

impl Drop for Claim {
    /// Clears the content; the lock is released with the file.
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.heart.take() {
            drop(stop);
            let _ = thread.join();
        }
        if is_at(&self.file, &self.path) && self.verify().is_ok() {
            let _ = self.file.set_len(0);
        }
    }
}

/// The process that is training the unit in `directory`, if any.
pub fn holder(directory: &Path) -> Option<Holder> {
    let path = directory.join("lock");
    let owner = read_holder(&path)?;
    let file = File::open(&path).ok()?;
    let lives = match file.try_lock_shared() {
        Ok(()) => owner.host != host() && !is_silent(&file, directory),
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(_)) => false,
    };
    lives.then_some(owner)
}

fn content(holder: &Holder) -> String {
    // Serialising strings and numbers cannot fail.
    serde_json::to_string(holder).unwrap_or_default()
}

fn read_holder(path: &Path) -> Option<Holder> {
    let mut text = String::new();
    File::open(path).ok()?.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// Replaces the lock file of an owner on another host that is silent but still holds the lock.
fn replace(directory: &Path, path: PathBuf, us: Holder, silent: Option<Holder>) -> Result<Attempt> {
    let failed = |error| Error::io("take over", &path)(error);
    let ours = temporary_in(directory).map_err(failed)?;
    ours.as_file().lock().map_err(failed)?;
    rewrite(ours.as_file(), &us).map_err(failed)?;
    let owner = read_holder(&path);
    if owner != silent {
        return Ok(Attempt::Held(owner));
    }
    let file = ours.persist(&path).map_err(|error| failed(error.error))?;
    sync_directory(directory).map_err(failed)?;
    if !is_at(&file, &path) {
        return Ok(Attempt::Held(read_holder(&path)));
    }
    Ok(Attempt::Claimed(Claim::of(path, file, us)?))
}

/// Overwrites the file from its start.
fn rewrite(mut file: &File, holder: &Holder) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    file.write_all(content(holder).as_bytes())?;
    file.sync_all()
}

/// Whether `path` still refers to `file` and was not replaced or renamed since.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Whether `path` still refers to `file`: other systems do not replace an open file.
#[cfg(not(unix))]
fn is_at(_file: &File, path: &Path) -> bool {
    path.exists()
}

/// Whether a lock file is older than [`SILENCE`] by the file system's clock: hosts' clocks may differ.
fn is_silent(lock: &File, directory: &Path) -> bool {
    let touched = lock.metadata().and_then(|data| data.modified());
    let now = temporary_in(directory).and_then(|file| file.as_file().metadata()).and_then(|data| data.modified());
    let now = now.unwrap_or_else(|_| SystemTime::now());
    touched.is_ok_and(|touched| now.duration_since(touched).is_ok_and(|silence| silence >= SILENCE))
}

/// Rewrites the file until the sender is dropped; rewriting the same bytes updates its time on the server.
fn beat(path: PathBuf, file: File, holder: Holder) -> Result<(mpsc::Sender<()>, JoinHandle<()>)> {
    let (stop, stopped) = mpsc::channel();
    let thread = thread::start(move || {
        while stopped.recv_timeout(HEARTBEAT) == Err(mpsc::RecvTimeoutError::Timeout) {
            if read_holder(&path).is_none_or(|owner| owner.token != holder.token) {
                break;
            }
            let _ = rewrite(&file, &holder);
        }
    })?;
    Ok((stop, thread))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimed(directory: &Path) -> Claim {
        match Claim::attempt(directory).unwrap() {
            Attempt::Claimed(claim) => claim,
            Attempt::Held(by) => panic!("held by {by:?}"),
        }
    }

    fn foreign(directory: &Path, silent_for: Duration) -> Holder {
        let owner = Holder { host: "elsewhere".into(), job: Some("77".into()), ..Holder::here() };
        let path = directory.join("lock");
        std::fs::write(&path, content(&owner)).unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(SystemTime::now() - silent_for).unwrap();
        owner
    }

    #[test]
    fn a_second_claim_names_the_holder_of_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let unit = directory.path().join("1");
        let first = claimed(&unit);
        match Claim::attempt(&unit).unwrap() {
            Attempt::Held(Some(owner)) => {
                assert!(owner.to_string().contains(&format!("process {} on", std::process::id())));
            }
            other => panic!("{other:?}"),
        }
        assert!(holder(&unit).is_some());
        drop(first);
        assert!(holder(&unit).is_none());
        assert_eq!(std::fs::read(unit.join("lock")).unwrap(), b"");
        drop(claimed(&unit));
    }

    #[test]
    fn a_claim_of_a_dead_process_of_this_host_is_taken_at_once() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("lock"), content(&Holder::here())).unwrap();
        assert!(holder(directory.path()).is_none());
        claimed(directory.path()).verify().unwrap();
    }

    #[test]
    fn another_hosts_claim_holds_while_it_beats_and_ends_when_it_is_silent() {
        let directory = tempfile::tempdir().unwrap();
        let owner = foreign(directory.path(), SILENCE - Duration::from_secs(60));
        assert_eq!(holder(directory.path()), Some(owner.clone()));
        assert!(matches!(Claim::attempt(directory.path()).unwrap(), Attempt::Held(Some(by)) if by == owner));
        foreign(directory.path(), SILENCE + Duration::from_secs(60));
        assert!(holder(directory.path()).is_none());
        claimed(directory.path());
    }

    #[test]
    fn a_silent_claim_that_is_still_locked_is_replaced_and_lost_to_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let elsewhere = Holder { host: "elsewhere".into(), ..Holder::here() };
        let Attempt::Claimed(old) = Claim::attempt_as(directory.path(), elsewhere).unwrap() else { panic!() };
        assert!(matches!(Claim::attempt(directory.path()).unwrap(), Attempt::Held(Some(_))));
        old.file.set_modified(SystemTime::now() - SILENCE - Duration::from_secs(1)).unwrap();
        let new = claimed(directory.path());
        assert!(matches!(old.verify(), Err(Error::ClaimLost(_))));
        drop(old);
        new.verify().unwrap();
        assert_eq!(read_holder(&path).unwrap(), new.holder);
        assert!(matches!(Claim::attempt(directory.path()).unwrap(), Attempt::Held(Some(_))));
    }

    #[test]
    fn a_claim_whose_directory_was_renamed_away_is_lost() {
        let directory = tempfile::tempdir().unwrap();
        let unit = directory.path().join("1");
        let claim = claimed(&unit);
        std::fs::rename(&unit, directory.path().join("1.old-1")).unwrap();
        assert!(claim.verify().is_err());
        drop(claimed(&unit));
    }

    #[test]
    fn one_of_many_concurrent_attempts_succeeds() {
        let directory = tempfile::tempdir().unwrap();
        for _ in 0..20 {
            let claims: Vec<Attempt> = std::thread::scope(|scope| {
                let threads: Vec<_> =
                    (0..8).map(|_| scope.spawn(|| Claim::attempt(directory.path()).unwrap())).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(claims.iter().filter(|attempt| matches!(attempt, Attempt::Claimed(_))).count(), 1);
        }
    }
}
