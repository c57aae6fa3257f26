//! A server that answers as the hub does: a redirect that names commit, SHA-256 and size, then ranges of the file.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

/// What goes wrong.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// So many transfers end in the middle.
    pub cuts: usize,
    /// Other bytes come than were promised.
    pub other_bytes: bool,
    /// The answer names no SHA-256.
    pub no_digest: bool,
    /// So many answers are a failure of the server.
    pub failures: usize,
}

/// The server; it lives as long as the test's process.
pub struct Hub {
    pub endpoint: String,
    state: Arc<Mutex<State>>,
}

struct State {
    files: BTreeMap<String, Vec<u8>>,
    faults: Faults,
    requests: Vec<String>,
}

impl Hub {
    /// Serves files by their repository and their path in it, such as `ylecun/mnist/mnist/train-00000-of-00001.parquet`; the
    /// repository may be one of data or of a model.
    pub fn new(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Hub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let files = files.into_iter().collect();
        let state = Arc::new(Mutex::new(State { files, faults: Faults::default(), requests: Vec::new() }));
        let (shared, own) = (state.clone(), endpoint.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away is no business of the server's.
                let _ = answer(stream, &own, &shared);
            }
        });
        Hub { endpoint, state }
    }

    pub fn faults(&self, faults: Faults) {
        self.state.lock().unwrap().faults = faults;
    }

    /// What was asked since this was last asked: path and range.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }
}

fn answer(mut stream: TcpStream, endpoint: &str, state: &Mutex<State>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut range = String::new();
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("range: bytes=") {
            range = value.to_owned();
        }
    }
    let mut state = state.lock().unwrap();
    state.requests.push(format!("{path} {range}"));
    if state.faults.failures > 0 {
        state.faults.failures -= 1;
        return write!(stream, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let missing = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    if path.contains("/resolve/main/") {
        let name = path.trim_start_matches("/datasets").trim_start_matches('/').replace("/resolve/main/", "/");
        let Some(content) = state.files.get(&name) else { return stream.write_all(missing.as_bytes()) };
        let digest: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
        let tag = if state.faults.no_digest { "../../escaped" } else { &digest };
        return write!(
            stream,
            "HTTP/1.1 302 Found\r\nLocation: {endpoint}/cdn/{name}\r\nX-Repo-Commit: 0123456789abcdef\r\n\
             X-Linked-Etag: \"{tag}\"\r\nX-Linked-Size: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            content.len()
        );
    }
    let Some(mut content) = path.strip_prefix("/cdn/").and_then(|name| state.files.get(name)).cloned() else {
        return stream.write_all(missing.as_bytes());
    };
    if state.faults.other_bytes {
        content.reverse();
    }
    let total = content.len();
    let (from, to) = range.split_once('-').unwrap_or(("0", ""));
    let from: usize = from.parse().unwrap_or(0);
    let to = to.parse().map_or(total - 1, |to: usize| to.min(total - 1));
    let part = &content[from..=to];
    write!(
        stream,
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{to}/{total}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        part.len()
    )?;
    if part.len() > 1 && state.faults.cuts > 0 {
        state.faults.cuts -= 1;
        return stream.write_all(&part[..part.len() / 2]);
    }
    stream.write_all(part)
}
