//! Downloads files from the hub into the cache and verifies their checksums.

use std::fs::{self, File};
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

use super::{CACHE, HubFile, Kind};
use crate::error::{Error, Result};

/// Default address of the hub.
const ENDPOINT: &str = "https://huggingface.co";
/// Attempts per download; each resumes where the last one ended.
const TRIES: u32 = 4;
/// Delay before the second attempt, doubled before each further one.
const WAIT: Duration = Duration::from_millis(250);

/// The path of a file in the cache, if present.
pub(super) fn cached(file: &HubFile) -> Option<PathBuf> {
    cache().repo(repo(file)).get(&file.name)
}

/// The file in the cache with the revision of the repository.
pub(super) fn version(file: &HubFile) -> PathBuf {
    Path::new(CACHE).join(repo(file).folder_name()).join("refs/main")
}

fn repo(file: &HubFile) -> Repo {
    let kind = match file.kind {
        Kind::Dataset => RepoType::Dataset,
        Kind::Model => RepoType::Model,
    };
    Repo::new(file.repository.clone(), kind)
}

fn cache() -> Cache {
    Cache::new(CACHE.into())
}

/// Downloads a file unless the cache has it, and verifies it.
pub(super) fn fetch(file: &HubFile, otherwise: &str) -> Result<PathBuf> {
    let HubFile { repository: id, name, .. } = file;
    if let Some(path) = cached(file) {
        let Err(what) = check(&path) else { return Ok(path) };
        if offline() {
            let help = "HF_HUB_OFFLINE is set, so it cannot be downloaded again";
            return Err(Error::data(&path, format!("{what}; {help}; {otherwise}")));
        }
        print(&format!("{}: {what}; downloading it again", path.display()));
        discard(&path);
    }
    if offline() {
        return Err(Error::Usage(format!(
            "HF_HUB_OFFLINE is set, and {CACHE} has no {name} of {id}: run once without HF_HUB_OFFLINE, or copy \
             {CACHE} from a machine where that was done; {otherwise}"
        )));
    }
    fs::create_dir_all(CACHE).map_err(Error::io("create the directory", Path::new(CACHE)))?;
    let endpoint = endpoint()?;
    let failed = |what: String| {
        let again = "run again to go on with the download";
        Error::Download(format!(
            "cannot get {name} of {id} from {endpoint}: {what}; {again}, or set HF_ENDPOINT to a mirror; {otherwise}"
        ))
    };
    let builder = ApiBuilder::from_cache(cache()).with_endpoint(endpoint.clone());
    let api = builder.build().map_err(|error| failed(error.to_string()))?;
    let mut wait = WAIT;
    let mut attempt = 1;
    loop {
        match download(file, &api) {
            Ok(path) => {
                return match check(&path) {
                    Ok(()) => Ok(path),
                    Err(what) => {
                        discard(&path);
                        Err(failed(format!("{what}, so it was not kept")))
                    }
                };
            }
            Err(Failure::Permanent(what)) => return Err(failed(what)),
            Err(Failure::Transient(what)) if attempt >= TRIES => {
                return Err(failed(format!("{what} (tried {TRIES} times)")));
            }
            Err(Failure::Transient(what)) => {
                print(&format!("{name}: {what}; trying again"));
                std::thread::sleep(wait);
                (wait, attempt) = (wait * 2, attempt + 1);
            }
        }
    }
}

/// One attempt.
fn download(file: &HubFile, api: &Api) -> Result<PathBuf, Failure> {
    let (name, remote) = (&file.name, api.repo(repo(file)));
    let metadata = api.metadata(&remote.url(name))?;
    // The tag becomes the name of a file and the expected checksum.
    if !is_sha256(metadata.etag()) {
        let tag: String = metadata.etag().chars().take(80).collect();
        return Err(Failure::Permanent(format!("the server gives no SHA-256 to check it against, but `{tag}`")));
    }
    // Discard a partial file that cannot be resumed.
    let part = cache().repo(repo(file)).blob_path(metadata.etag()).with_extension("part");
    if fs::metadata(&part).is_ok_and(|part| part.len() >= metadata.size() as u64) {
        let _ = fs::remove_file(&part);
    }
    let path = remote.download_with_progress(name, DownloadProgress::default())?;
    let size = fs::metadata(&path)?.len();
    if size != metadata.size() as u64 {
        discard(&path);
        return Err(Failure::Transient(format!("{size} bytes came, not {}", metadata.size())));
    }
    Ok(path)
}

/// Why an attempt failed, and whether to retry.
enum Failure {
    Transient(String),
    Permanent(String),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::RequestError(error) => match *error {
                ureq::Error::StatusCode(404) => Failure::Permanent("there is no such file (404)".into()),
                ureq::Error::StatusCode(status @ (400..=407 | 409..=428 | 430..=499)) => {
                    Failure::Permanent(format!("the server refuses ({status})"))
                }
                ureq::Error::StatusCode(status) => Failure::Transient(format!("the server fails ({status})")),
                error => Failure::Transient(error.to_string()),
            },
            ApiError::MissingHeader(name) | ApiError::InvalidHeader(name) => {
                Failure::Permanent(format!("the server does not answer as the hub does (header `{name}`)"))
            }
            error => Failure::Transient(error.to_string()),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::Transient(error.to_string())
    }
}

/// Whether HF_HUB_OFFLINE is set to a value that the hub's own tools accept.
fn offline() -> bool {
    let value = std::env::var("HF_HUB_OFFLINE").unwrap_or_default();
    ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str())
}

/// The hub, or the mirror that HF_ENDPOINT names.
fn endpoint() -> Result<String> {
    let value = std::env::var("HF_ENDPOINT").unwrap_or_default();
    let endpoint = value.trim().trim_end_matches('/');
    if endpoint.is_empty() {
        return Ok(ENDPOINT.into());
    }
    let host = endpoint.strip_prefix("https://").or(endpoint.strip_prefix("http://"));
    match host.filter(|host| !host.is_empty()) {
        Some(_) => Ok(endpoint.into()),
        None => {
            let expected = "expected an address such as https://huggingface.co";
            Err(Error::Usage(format!("the environment variable HF_ENDPOINT is `{value}`: {expected}")))
        }
    }
}

/// Verifies the SHA-256 of a cached file, which is the name of the target of its link.
fn check(path: &Path) -> Result<(), String> {
    let found = || -> std::io::Result<(String, String)> {
        let blob = fs::canonicalize(path)?;
        let (mut file, mut hasher, mut chunk) = (File::open(&blob)?, Sha256::new(), vec![0; 1 << 16]);
        loop {
            match file.read(&mut chunk)? {
                0 => break,
                count => hasher.update(&chunk[..count]),
            }
        }
        let digest = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok((digest, blob.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()))
    };
    match found() {
        Ok((digest, name)) if digest == name => Ok(()),
        Ok((digest, name)) => Err(format!("its SHA-256 is {digest}, not {name} as the hub says")),
        Err(error) => Err(format!("it cannot be read ({error})")),
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Removes a file from the cache: the target of the link, and the link.
fn discard(path: &Path) {
    if let Ok(blob) = fs::canonicalize(path) {
        let _ = fs::remove_file(blob);
    }
    let _ = fs::remove_file(path);
}

/// Prints a line to standard error; a closed pipe is ignored.
fn print(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Download progress: a bar on a terminal, one line otherwise.
#[derive(Default)]
struct DownloadProgress {
    bar: Option<ProgressBar>,
    printed: bool,
}

impl Progress for DownloadProgress {
    fn init(&mut self, size: usize, name: &str) {
        if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(size as u64).with_message(name.to_owned());
            let style = ProgressStyle::with_template("{msg} {bar:24} {bytes}/{total_bytes} {eta}");
            self.bar.get_or_insert(style.map_or(bar.clone(), |style| bar.with_style(style)));
        } else if !std::mem::replace(&mut self.printed, true) {
            print(&format!("downloading {name} ({:.1} MB)", size as f64 / 1e6));
        }
    }

    fn update(&mut self, size: usize) {
        if let Some(bar) = &self.bar {
            bar.inc(size as u64);
        }
    }

    fn finish(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
