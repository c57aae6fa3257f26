//! The files of a run, to be downloaded.

use std::fs::File;
use std::path::Path;

use serde_json::{Value, json};

use super::http::{Body, Response};

/// Greatest depth of the directories that are listed, and greatest number of files.
const DEEPEST: usize = 4;
const MOST: usize = 2000;

/// A file of the run in this directory, by the parts of its path; `None` if there is none, or if links lead out of the directory.
pub fn open(run: &Path, parts: &[&str]) -> Option<Response> {
    // Half-written files and locks are no results.
    if parts.is_empty() || parts.iter().any(|part| part.starts_with('.')) {
        return None;
    }
    let run = run.canonicalize().ok()?;
    let path = parts.iter().fold(run.clone(), |path, part| path.join(part)).canonicalize().ok()?;
    if !path.starts_with(&run) {
        return None;
    }
    let file = File::open(&path).ok()?;
    let data = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let name = parts.last()?.replace(|c: char| !c.is_ascii_graphic() || "\"\\".contains(c), "_");
    let kind = match path.extension().and_then(|extension| extension.to_str()) {
        Some("png") => "image/png",
        Some("jpg") => "image/jpeg",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    };
    let response = Response { body: Body::File(file, data.len()), ..Response::new(kind, "") };
    // Never shown as a page, whatever it contains.
    Some(response.header("Content-Disposition", format!("attachment; filename=\"{name}\"")))
}

/// Paths and sizes of the run's files, by path.
pub fn list(run: &Path) -> Vec<Value> {
    let mut files = Vec::new();
    collect(run, "", DEEPEST, &mut files);
    files.sort();
    files.into_iter().map(|(path, size)| json!({ "path": path, "size": size })).collect()
}

fn collect(directory: &Path, prefix: &str, depth: usize, files: &mut Vec<(String, u64)>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        // Links are not followed.
        let Ok(data) = entry.metadata() else { continue };
        if name.starts_with('.') || files.len() >= MOST {
            continue;
        }
        let path = format!("{prefix}{name}");
        if data.is_dir() && depth > 0 {
            collect(&entry.path(), &format!("{path}/"), depth - 1, files);
        } else if data.is_file() {
            files.push((path, data.len()));
        }
    }
}
