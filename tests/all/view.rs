//! The server of `ccdni view`: it shows what is in the files, changes nothing, and neither strangers nor slow clients get more from it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::{Lab, SPEC};

/// The program at work, until it is dropped.
struct View {
    child: Child,
    url: String,
}

impl Drop for View {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What came back.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{}{:?}", self.head, String::from_utf8_lossy(&self.body)))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl View {
    /// Starts it on a free port and waits for its address.
    fn start(lab: &Lab, arguments: &[&str]) -> View {
        let mut command = lab.command(&[&["view", "--port", "0"], arguments].concat());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        View { child, url: url.trim().to_owned() }
    }

    fn port(&self) -> u16 {
        let rest = self.url.rsplit_once(':').unwrap().1;
        rest.split('/').next().unwrap().parse().unwrap()
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Sends these bytes and reads to the end.
    fn raw(&self, request: &str) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        // The end may come as a reset, where not everything that was sent was read.
        let _ = stream.read_to_end(&mut bytes);
        let end =
            bytes.windows(4).position(|part| part == b"\r\n\r\n").unwrap_or_else(|| panic!("no answer to {request:?}"));
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        Answer { status: head.split(' ').nth(1).unwrap().parse().unwrap(), head, body: bytes[end + 4..].to_vec() }
    }

    fn get(&self, path: &str) -> Answer {
        self.raw(&format!("GET {path} HTTP/1.1\r\nHost: localhost:{}\r\n\r\n", self.port()))
    }

    fn ok(&self, path: &str) -> Answer {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer
    }
}

/// Paths, sizes and times of everything in a directory.
fn everything(directory: &Path) -> Vec<(PathBuf, u64, std::time::SystemTime)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let data = fs::symlink_metadata(entry.path()).unwrap();
        all.push((entry.path(), data.len(), data.modified().unwrap()));
        if data.is_dir() {
            all.extend(everything(&entry.path()));
        }
    }
    all.sort();
    all
}

/// A lab with a finished run of two seeds.
fn trained() -> (Lab, String) {
    let lab = Lab::new();
    lab.ccdni(&["run", "spec.yaml", "--seeds", "1,2"]).exits(0);
    let run = lab.run().0.file_name().unwrap().to_string_lossy().into_owned();
    (lab, run)
}

#[test]
fn what_is_shown_is_in_the_files_and_nothing_is_written() {
    let (lab, run) = trained();
    let outputs = lab.path("outputs");
    let before = everything(&outputs);
    let view = View::start(&lab, &["spec.yaml"]);

    let all = view.ok("/api/runs").json();
    let summary = &all["runs"][0];
    assert_eq!((summary["run"].as_str(), summary["name"].as_str()), (Some(run.as_str()), Some("tiny")));
    assert_eq!(summary["keys"]["model.layers.0.dni.hidden"], "[8]");
    assert!(summary["seeds"].as_array().unwrap().iter().all(|seed| seed["state"] == "done" && seed["epochs"] == 12));
    let kept = |seed: u64| lab.run().json(&format!("seeds/{seed}/unit.json"))["validation"][0].as_f64().unwrap();
    assert_eq!(summary["metrics"]["val_mse"]["mean"].as_f64().unwrap(), (kept(1) + kept(2)) / 2.0);

    let curves = view.ok(&format!("/api/runs/{run}/curves")).json();
    for seed in ["1", "2"] {
        let table = fs::read_to_string(outputs.join(&run).join(format!("seeds/{seed}/metrics.csv"))).unwrap();
        let header: Vec<&str> = table.lines().next().unwrap().split(',').collect();
        for (row, line) in table.lines().skip(1).enumerate() {
            for (name, cell) in header.iter().zip(line.split(',')).filter(|(name, _)| **name != "seed") {
                let expected: f64 = cell.parse().unwrap();
                assert_eq!(
                    curves["seeds"][seed][name][row].as_f64().unwrap_or(f64::NAN).to_bits(),
                    expected.to_bits(),
                    "{name}"
                );
            }
        }
    }
    assert_eq!(view.ok(&format!("/api/runs/{run}/curves?seeds=2")).json()["seeds"].as_object().unwrap().len(), 1);

    let details = view.ok(&format!("/api/runs/{run}")).json();
    assert!(details["spec"].as_str().unwrap().contains("name: tiny"));
    assert!(details["set"].as_array().unwrap().iter().any(|key| key == "model.layers.0.dni.hidden"));
    for file in details["files"].as_array().unwrap() {
        let path = file["path"].as_str().unwrap();
        let sent = view.ok(&format!("/files/{run}/{path}"));
        assert_eq!(sent.body, fs::read(outputs.join(&run).join(path)).unwrap(), "{path}");
        assert!(sent.head.contains("Content-Disposition: attachment"), "{}", sent.head);
    }
    assert!(details["files"].as_array().unwrap().iter().any(|file| file["path"] == "seeds/1/metrics.csv"));
    let drawn = view.ok(&format!("/api/runs/{run}/showcase/1")).json();
    assert_eq!(drawn["predictions"].as_array().unwrap().len(), drawn["targets"].as_array().unwrap().len());
    let measured = view.ok(&format!("/api/runs/{run}/recordings")).json();
    assert!(!measured["measures"].as_array().unwrap().is_empty());
    assert_eq!(details["manifest"]["origins"]["train.bptt"], "spec.yaml:9:3");
    assert_eq!(view.ok(&format!("/api/compare?runs={run}")).json()["statistics"]["rows"].as_array().unwrap().len(), 1);
    let sweep = view.ok("/api/sweeps/0").json();
    assert_eq!(sweep["runs"][0]["run"], run.as_str());
    for script in ["main.js", "chart.js", "view.css", "page.css"] {
        assert!(view.ok(&format!("/assets/{script}")).body.len() > 500);
    }
    let head = view.raw("HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(head.status == 200 && head.body.is_empty() && head.head.contains("Content-Length"));
    assert_eq!(everything(&outputs), before);
}

#[test]
fn recordings_are_read_once_and_outputs_of_recorded_epochs_are_shown() {
    let lab = Lab::new();
    lab.ccdni(&["run", "spec.yaml", "--set", "record.outputs=5"]).exits(0);
    let directory = lab.run().0;
    let run = directory.file_name().unwrap().to_string_lossy().into_owned();
    let view = View::start(&lab, &[]);
    let details = view.ok(&format!("/api/runs/{run}")).json();
    assert_eq!(details["units"][0]["showcase"], serde_json::json!({ "epochs": [5, 10], "kept": true }));
    assert_eq!(details["units"][0]["captions"], serde_json::json!({ "epochs": [], "kept": false }));
    let drawn = |query: &str| view.ok(&format!("/api/runs/{run}/showcase/1{query}")).json();
    let [fifth, tenth, kept] = ["?epoch=5", "?epoch=10", ""].map(drawn);
    assert!(fifth["targets"] == tenth["targets"] && fifth["labels"] == kept["labels"]);
    assert!(fifth["predictions"] != tenth["predictions"] && tenth["predictions"] != kept["predictions"]);
    for wrong in ["?epoch=6", "?epoch=", "?epoch=..%2f..%2f1", "?epoch=-1"] {
        assert_eq!(view.get(&format!("/api/runs/{run}/showcase/1{wrong}")).status, 400, "{wrong}");
    }

    let measure = || view.get(&format!("/api/runs/{run}/recordings"));
    let first = measure();
    assert_eq!(first.status, 200, "{}", first.text());
    fs::rename(directory.join("seeds/1/recordings"), lab.path("recordings")).unwrap();
    assert_eq!(measure().body, first.body, "what was measured is kept");
    // Another result is measured anew.
    let record = directory.join("seeds/1/unit.json");
    let text = fs::read(&record).unwrap();
    fs::write(&record, text).unwrap();
    assert_eq!(measure().status, 400);
}

#[test]
fn no_path_leads_out_of_a_run() {
    let (lab, run) = trained();
    lab.write("secret", "the secret");
    lab.write("outputs/secret", "the secret");
    let directory = lab.path("outputs").join(&run);
    std::os::unix::fs::symlink(lab.path("secret"), directory.join("link")).unwrap();
    std::os::unix::fs::symlink(lab.dir.path(), directory.join("links")).unwrap();
    let view = View::start(&lab, &[]);
    for path in [
        "/../../etc/passwd",
        "/../secret",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/%252e%252e/secret",
        "/..%2f..%2fsecret",
        "/..%5csecret",
        "/files/../secret",
        "/files/secret",
        "/files/RUN/../../secret",
        "/files/RUN/../secret",
        "/files/RUN/%2e%2e/secret",
        "/files/RUN/..%2fsecret",
        "/files/RUN/%2e%2e%2f%2e%2e%2fsecret",
        "/files/RUN//etc/passwd",
        "/files/RUN/%2fetc%2fpasswd",
        "/files/RUN/link",
        "/files/RUN/links/secret",
        "/files/RUN/.lock",
        "/files/RUN",
        "/files/RUN/seeds",
        "/files/%2e/secret",
        "/assets/../secret",
        "/assets/%2e%2e%2fsecret",
        "/api/runs/../secret",
        "/api/runs/RUN/showcase/../../secret",
        "/api/runs/RUN/captions/..%2f..%2fsecret",
        "/api/compare?runs=../secret",
        "/files/RUN/spec.yaml%00.png",
        "//etc/passwd",
        "/files/RUN/\u{ff0e}\u{ff0e}/secret",
    ] {
        let answer = view.get(&path.replace("RUN", &run));
        assert!(matches!(answer.status, 400 | 404), "{path}: {} {}", answer.status, answer.text());
        assert!(!answer.text().contains("the secret") && !answer.text().contains("root:"), "{path}");
    }
    assert!(!view.ok(&format!("/api/runs/{run}")).text().contains("links/"), "links are not listed");
}

#[test]
fn strangers_and_other_methods_are_refused() {
    let lab = Lab::new();
    let view = View::start(&lab, &[]);
    assert!(view.url.starts_with("http://127.0.0.1:"), "{}", view.url);
    for host in
        ["evil.example", "evil.example:8420", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", ""]
    {
        let answer = view.raw(&format!("GET /api/runs HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(answer.status, 403, "{host}");
    }
    assert_eq!(view.raw("GET /api/runs HTTP/1.0\r\n\r\n").status, 403);
    for host in ["localhost", "127.0.0.1:1", "[::1]:99"] {
        assert_eq!(view.raw(&format!("GET /api/runs HTTP/1.1\r\nHost: {host}\r\n\r\n")).status, 200, "{host}");
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"] {
        let answer =
            view.raw(&format!("{method} /api/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"));
        assert!(answer.status == 405 && answer.head.contains("Allow: GET, HEAD"), "{method}: {}", answer.head);
    }
    for (request, status) in [
        ("\0\0\0\0\r\n\r\n".to_owned(), 400),
        ("GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), 400),
        (format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(40_000)), 431),
        (format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(500)), 431),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n".to_owned(), 400),
    ] {
        assert_eq!(view.raw(&request).status, status);
    }
    for path in ["/", "/api/runs", "/nothing", "/assets/main.js"] {
        let head = view.get(path).head;
        for header in [
            "Content-Security-Policy: default-src 'none'",
            "X-Content-Type-Options: nosniff",
            "X-Frame-Options: DENY",
            "Cross-Origin-Resource-Policy: same-origin",
        ] {
            assert!(head.contains(header), "{path}: {head}");
        }
        assert!(!head.contains("Access-Control"), "{path}: {head}");
    }
}

#[test]
fn other_machines_need_the_token() {
    let lab = Lab::new();
    let view = View::start(&lab, &["--host", "0.0.0.0"]);
    let token = view.url.split_once("/?token=").unwrap().1;
    assert_eq!(token.len(), 32);
    for path in ["/", "/api/runs", "/assets/main.js", "/?token=", "/?token=0123456789abcdef0123456789abcdef"] {
        assert_eq!(view.get(path).status, 403, "{path}");
    }
    let first = view.get(&format!("/?token={token}"));
    assert!(first.status == 303 && first.head.contains("Location: /\r\n"), "{}", first.head);
    let cookie = first.head.lines().find_map(|line| line.strip_prefix("Set-Cookie: ")).unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    assert_eq!(view.raw(&format!("GET /api/runs HTTP/1.1\r\nHost: node7\r\nCookie: {cookie}\r\n\r\n")).status, 200);
}

#[test]
fn names_never_become_markup() {
    let lab = Lab::new();
    let name = "<script>alert(1)</script>";
    lab.write("spec.yaml", &SPEC.replace("name: tiny", &format!("name: '{name}'")));
    lab.ccdni(&["run", "spec.yaml", "--set", "train.epochs=1"]).exits(0);
    let page = lab.run().0.join("<b>.html");
    fs::write(&page, "<script>alert(2)</script>").unwrap();
    fs::create_dir(lab.path("outputs/<script>")).unwrap();
    fs::write(lab.path("outputs/<script>/spec.yaml"), "").unwrap();
    let view = View::start(&lab, &[]);
    let runs = view.ok("/api/runs");
    assert_eq!(runs.json()["runs"].as_array().unwrap().len(), 1, "only names of hashes are runs");
    assert_eq!(runs.json()["runs"][0]["name"], name);
    assert!(runs.head.contains("Content-Type: application/json"));
    let run = runs.json()["runs"][0]["run"].as_str().unwrap().to_owned();
    let sent = view.ok(&format!("/files/{run}/%3Cb%3E.html"));
    assert!(
        sent.head.contains("application/octet-stream") && sent.head.contains("attachment; filename=\"<b>.html\""),
        "{}",
        sent.head
    );
    assert!(!view.get("/%3Cscript%3E").text().contains("<script>"));
}

#[test]
fn ten_thousand_connections_and_slow_clients_lock_no_one_out() {
    let (lab, run) = trained();
    let view = View::start(&lab, &[]);
    let mut held = std::collections::VecDeque::new();
    for number in 0..10_000 {
        let mut stream = view.connect();
        match number % 3 {
            // Nothing, half a request, and a request whose answer is never read.
            0 => {}
            1 => drop(stream.write_all(b"GET / HTTP/1.1\r\nHost: local")),
            _ => drop(stream.write_all(format!("GET /api/runs/{run} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())),
        }
        held.push_back(stream);
        if held.len() > 400 {
            held.pop_front();
        }
    }
    let begun = Instant::now();
    view.ok("/api/runs");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    // Threads of connections that had to make room end as soon as they are scheduled.
    let threads = || -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", view.child.id())).unwrap();
        status.lines().find_map(|line| line.strip_prefix("Threads:")).unwrap().trim().parse().unwrap()
    };
    while threads() >= 160 {
        assert!(begun.elapsed() < Duration::from_secs(30), "{} threads", threads());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn slow_readers_hold_no_one_up_and_get_their_file() {
    let (lab, run) = trained();
    let large = vec![7; 8 << 20];
    fs::write(lab.path("outputs").join(&run).join("large.bin"), &large).unwrap();
    let view = View::start(&lab, &[]);
    let ask = || {
        let mut stream = view.connect();
        let request = format!("GET /files/{run}/large.bin HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    let mut readers: Vec<TcpStream> = (0..40).map(|_| ask()).collect();
    let mut byte = [0];
    readers.iter_mut().for_each(|reader| reader.read_exact(&mut byte).unwrap());
    let begun = Instant::now();
    view.ok("/api/runs");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let mut rest = Vec::new();
    readers[17].read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(&large));
}

#[test]
fn a_page_follows_a_run_in_training_and_survives_what_is_damaged_or_goes() {
    let lab = Lab::new();
    fs::create_dir(lab.path("outputs")).unwrap();
    let view = View::start(&lab, &[]);
    let version = view.ok("/api/runs").json()["version"].as_u64().unwrap();
    let mut events = BufReader::new(view.connect());
    let request = format!("GET /api/events?after={version} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    events.get_mut().write_all(request.as_bytes()).unwrap();
    let mut next = || -> Value {
        loop {
            let mut line = String::new();
            assert!(events.read_line(&mut line).unwrap() > 0, "the stream has ended");
            if let Some(event) = line.strip_prefix("data: ") {
                return serde_json::from_str(event).unwrap();
            }
        }
    };
    let slow = ["run", "spec.yaml", "--set", "train.epochs=3000", "--set", "task.train_size=400"];
    let training = lab.start(&slow);
    let (mut seen, mut within, mut run) = (Vec::new(), false, String::new());
    while seen.len() < 3 || !within {
        let event = next();
        for summary in event["runs"].as_array().unwrap() {
            run = summary["run"].as_str().unwrap().to_owned();
            let seed = &summary["seeds"][0];
            within |= seed["within"].as_f64().is_some_and(|share| share.fract() > 0.0);
            if seed["state"] == "running" && seed["epochs"].as_u64() > seen.last().copied() {
                seen.extend(seed["epochs"].as_u64().filter(|epochs| *epochs > 0));
            }
        }
    }
    let curves = view.ok(&format!("/api/runs/{run}/curves")).json();
    assert!(curves["seeds"]["1"]["train_loss"].as_array().unwrap().len() as u64 >= seen[2]);
    training.signal_group("KILL");
    training.end();
    while next()["runs"].as_array().unwrap().iter().all(|summary| summary["seeds"][0]["state"] != "waiting") {}

    let directory = lab.path("outputs").join(&run);
    fs::write(directory.join("seeds/1/unit.json"), "{\"seed\": 1, \"st").unwrap();
    fs::write(directory.join("seeds/1/metrics.csv"), "seed,epo").unwrap();
    fs::write(directory.join("manifest.json"), "").unwrap();
    fs::write(directory.join("log.txt"), "\u{0}\u{1}").unwrap();
    let damaged = view.ok(&format!("/api/runs/{run}")).json();
    assert!(damaged["manifest"].is_null(), "{damaged}");
    assert_eq!(view.ok(&format!("/api/runs/{run}/curves")).json()["seeds"], serde_json::json!({}));
    assert!(next()["runs"][0]["problem"].as_str().unwrap().contains("manifest.json"));
    fs::rename(&directory, lab.path("elsewhere")).unwrap();
    while next()["gone"][0] != run.as_str() {}
    assert_eq!(view.get(&format!("/api/runs/{run}")).status, 404);
}

#[test]
fn an_address_that_cannot_be_used_is_an_error() {
    let lab = Lab::new();
    let view = View::start(&lab, &[]);
    let port = view.port().to_string();
    let said = lab.ccdni(&["view", "--port", &port]).exits(2);
    assert!(said.contains(&port) && said.contains("--port 0"), "{said}");
    let said = lab.ccdni(&["view", "--outputs", "spec.yaml"]).exits(2);
    assert!(said.contains("is a file"), "{said}");
    fs::create_dir_all(lab.path("outputs/3f9a1c04d2be")).unwrap();
    fs::write(lab.path("outputs/3f9a1c04d2be/spec.yaml"), "").unwrap();
    let said = lab.ccdni(&["watch", "3f9a"]).exits(2);
    assert!(said.contains("draws in a terminal") && said.contains("ccdni show 3f9a1c04d2be"), "{said}");
    let said = lab.ccdni(&["view", "nothing.yaml"]).exits(2);
    assert!(said.contains("nothing.yaml"), "{said}");
}
