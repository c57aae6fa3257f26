//! COCO from a server of our own: downloads whole, cut off and begun anew, and archives that mean no good.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Cursor, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ccdni::data::coco::{Archive, Event, Job};
use ccdni::{Error, Result};
use sha2::{Digest, Sha256};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::lab::Lab;

/// What a server does.
#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    /// It sends whole files, whatever is asked for.
    no_ranges: bool,
    /// So many answers end in the middle.
    cuts: usize,
    /// It waits after the first half of an answer.
    slow: bool,
    /// Paths and ranges that were asked for.
    requests: Vec<String>,
}

struct Server {
    base: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    fn new(files: &[(&str, Vec<u8>)]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let files = files.iter().map(|(path, bytes)| (format!("/{path}"), bytes.clone())).collect();
        let state = Arc::new(Mutex::new(State { files, ..State::default() }));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                // A client that goes away is no business of the server's.
                std::thread::spawn(move || answer(stream, &shared));
            }
        });
        Server { base, state }
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }
}

fn answer(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut range = String::new();
    for line in lines {
        let line = line?.to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("range: bytes=") {
            range = value.to_owned();
        }
    }
    let (content, slow, cut) = {
        let mut state = state.lock().unwrap();
        state.requests.push(format!("{path} {range}").trim_end().to_owned());
        if state.no_ranges {
            range.clear();
        }
        let content = state.files.get(&path).cloned();
        let cut = state.cuts > 0;
        state.cuts = state.cuts.saturating_sub(1);
        (content, state.slow, cut)
    };
    let Some(content) = content else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let (total, from) = (content.len(), range.trim_end_matches('-').parse().unwrap_or(0));
    if from >= total {
        let empty = "Content-Length: 0\r\nConnection: close\r\n\r\n";
        return write!(stream, "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{total}\r\n{empty}");
    }
    let part = &content[from..];
    let status = match range.is_empty() {
        true => "200 OK".to_owned(),
        false => format!("206 Partial Content\r\nContent-Range: bytes {from}-{}/{total}", total - 1),
    };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", part.len())?;
    let half = part.len() / 2;
    stream.write_all(&part[..half])?;
    if cut {
        return Ok(());
    }
    if slow {
        stream.flush()?;
        std::thread::sleep(Duration::from_secs(60));
    }
    stream.write_all(&part[half..])
}

/// An archive of these files; those that end in `.jpg` are stored, as COCO's are.
fn zip(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        let method = if name.ends_with(".jpg") { CompressionMethod::Stored } else { CompressionMethod::Deflated };
        writer.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// Bytes that cannot be packed.
fn noise(count: usize, seed: u64) -> Vec<u8> {
    let mut stream = ccdni::rng::Stream::new(seed, "noise", 0, 0);
    (0..count).map(|_| stream.below(256) as u8).collect()
}

fn pictures() -> Vec<u8> {
    zip(&[
        ("pictures/a.jpg", noise(30_000, 1)),
        ("pictures/b.jpg", noise(20_000, 2)),
        ("pictures/more/c.txt", vec![7; 900]),
    ])
}

/// The archive as if it had been published.
fn published(bytes: &[u8]) -> Archive {
    Archive {
        name: "pictures.zip".into(),
        path: "zips/pictures.zip".into(),
        folder: "pictures".into(),
        size: Some(bytes.len() as u64),
        sha256: Some(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()),
        unpacked: 51_000,
    }
}

struct Place {
    dir: tempfile::TempDir,
    free: u64,
    delete: bool,
    /// Stops when this was shown.
    stop_at: Option<&'static str>,
}

impl Place {
    fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap(), free: 1 << 40, delete: false, stop_at: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("coco").join(name)
    }

    /// Gets an archive; gives what was said, each kind of progress once.
    fn get(&self, base: &str, archive: &Archive) -> (Result<()>, String) {
        let (said, stop) = (RefCell::new(String::new()), Cell::new(false));
        let job = Job {
            folder: self.path(""),
            base: base.into(),
            archives: vec![archive.clone()],
            delete: self.delete,
            free: &|path| {
                assert!(path.is_dir());
                Ok(self.free)
            },
            stop: &|| stop.get(),
            show: &|event| {
                let text = match event {
                    Event::Line(text) => text,
                    Event::Bytes { what, done, of } => {
                        assert!(done <= of);
                        what.to_owned()
                    }
                };
                stop.set(stop.get() || self.stop_at.is_some_and(|at| text.contains(at)));
                if !said.borrow().ends_with(&format!("{text}\n")) {
                    *said.borrow_mut() += &format!("{text}\n");
                }
            },
        };
        (job.run(), said.into_inner())
    }

    #[track_caller]
    fn gets(&self, base: &str, archive: &Archive) -> String {
        let (result, said) = self.get(base, archive);
        result.unwrap_or_else(|error| panic!("{error}\n{said}"));
        assert_eq!(fs::read(self.path("pictures/a.jpg")).unwrap(), noise(30_000, 1));
        assert_eq!(fs::read(self.path("pictures/b.jpg")).unwrap(), noise(20_000, 2));
        assert_eq!(fs::read(self.path("pictures/more/c.txt")).unwrap(), vec![7; 900]);
        assert!(!self.path("pictures.zip.part").exists());
        said
    }

    #[track_caller]
    fn fails(&self, base: &str, archive: &Archive, code: u8, says: &[&str]) {
        let error = self.get(base, archive).0.expect_err("an error");
        let text = error.to_string();
        assert_eq!(error.exit_code(), code, "{text}");
        says.iter().for_each(|part| assert!(text.contains(part), "should say {part:?}: {text}"));
    }

    /// Everything below the directory, files of the program's own left out.
    fn files(&self) -> Vec<String> {
        fn walk(directory: &Path, base: &Path, into: &mut Vec<String>) {
            for entry in fs::read_dir(directory).into_iter().flatten() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => walk(&path, base, into),
                    false => into.push(path.strip_prefix(base).unwrap().to_string_lossy().into_owned()),
                }
            }
        }
        let mut files = Vec::new();
        walk(self.dir.path(), self.dir.path(), &mut files);
        files.retain(|name| name != "coco/.coco.lock");
        files.sort();
        files
    }
}

#[test]
fn it_is_downloaded_checked_and_unpacked_once() {
    let (place, bytes) = (Place::new(), pictures());
    let server = Server::new(&[("zips/pictures.zip", bytes.clone())]);
    let said = place.gets(&server.base, &published(&bytes));
    for step in ["downloading pictures.zip", "checking pictures.zip", "unpacking pictures.zip", "3 files"] {
        assert!(said.contains(step), "{said}");
    }
    assert_eq!(server.requests(), ["/zips/pictures.zip"]);
    assert!(place.gets(&server.base, &published(&bytes)).contains("there already"));
    assert_eq!(server.requests(), Vec::<String>::new());

    // What was deleted is unpacked again from the archive, and only that.
    fs::remove_file(place.path("pictures/b.jpg")).unwrap();
    let before = fs::metadata(place.path("pictures/a.jpg")).unwrap().modified().unwrap();
    assert!(place.gets(&server.base, &published(&bytes)).contains("unpacking"));
    assert_eq!(fs::metadata(place.path("pictures/a.jpg")).unwrap().modified().unwrap(), before);
    assert_eq!(server.requests(), Vec::<String>::new());
}

#[test]
fn an_archive_that_was_deleted_is_not_asked_for_again() {
    let (mut place, bytes) = (Place::new(), pictures());
    place.delete = true;
    let server = Server::new(&[("zips/pictures.zip", bytes.clone())]);
    place.gets(&server.base, &published(&bytes));
    assert!(!place.path("pictures.zip").exists());
    place.gets(&server.base, &published(&bytes));
    assert_eq!(server.requests().len(), 1);
    fs::remove_file(place.path("pictures/b.jpg")).unwrap();
    place.gets(&server.base, &published(&bytes));
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_transfer_that_is_cut_off_goes_on_where_it_was() {
    for no_ranges in [false, true] {
        let (place, bytes) = (Place::new(), pictures());
        let server = Server::new(&[("zips/pictures.zip", bytes.clone())]);
        server.set(|state| (state.cuts, state.no_ranges) = (2, no_ranges));
        let said = place.gets(&server.base, &published(&bytes));
        assert_eq!(said.matches("trying again").count(), 2, "{said}");
        assert_eq!(said.contains("from the beginning"), no_ranges, "{said}");
        let requests = server.requests();
        assert_eq!(requests[0], "/zips/pictures.zip");
        assert_eq!(requests[1], format!("/zips/pictures.zip {}-", bytes.len() / 2));
        assert_eq!(requests.len(), 3);
    }
}

#[test]
fn what_was_stopped_goes_on_in_the_next_run() {
    let (mut place, bytes) = (Place::new(), pictures());
    let server = Server::new(&[("zips/pictures.zip", bytes.clone())]);
    server.set(|state| state.slow = true);
    place.stop_at = Some("downloading");
    assert!(matches!(place.get(&server.base, &published(&bytes)).0, Err(Error::Interrupted)));
    let part = fs::metadata(place.path("pictures.zip.part")).unwrap().len();
    assert!(part > 0 && part < bytes.len() as u64);
    server.set(|state| state.slow = false);
    server.requests();
    for stop_at in ["checking", "unpacking"] {
        place.stop_at = Some(stop_at);
        assert!(matches!(place.get(&server.base, &published(&bytes)).0, Err(Error::Interrupted)), "{stop_at}");
    }
    assert_eq!(server.requests(), [format!("/zips/pictures.zip {part}-")]);
    assert!(place.path("pictures/a.jpg").exists() && !place.path("pictures/more/c.txt").exists());
    fs::write(place.path("pictures/.tmp-killed"), "half").unwrap();
    place.stop_at = None;
    place.gets(&server.base, &published(&bytes));
    assert_eq!(server.requests(), Vec::<String>::new());
    assert!(!place.path("pictures/.tmp-killed").exists());
}

#[test]
fn other_bytes_than_were_published_are_not_kept() {
    let (place, bytes) = (Place::new(), pictures());
    let mut other = bytes.clone();
    other[100] ^= 1;
    let server = Server::new(&[("zips/pictures.zip", other.clone())]);
    place.fails(&server.base, &published(&bytes), 1, &["SHA-256", "not kept", "--base"]);
    assert_eq!(place.files(), Vec::<String>::new());

    other.push(0);
    server.set(|state| _ = state.files.insert("/zips/pictures.zip".into(), other.clone()));
    place.fails(&server.base, &published(&bytes), 1, &["were published", "--unchecked"]);
    assert_eq!(place.files(), Vec::<String>::new());

    // What somebody else has put there is named, and left alone.
    fs::write(place.path("pictures.zip"), &other).unwrap();
    place.fails(&server.base, &published(&bytes), 2, &["pictures.zip", "was published with", "delete it"]);
    assert_eq!(place.files(), ["coco/pictures.zip"]);
    fs::write(place.path("pictures.zip"), &bytes).unwrap();
    server.requests();
    place.gets(&server.base, &published(&bytes));
    assert_eq!(server.requests(), Vec::<String>::new(), "an archive that is right is enough");
}

#[test]
fn a_part_of_something_else_is_begun_anew() {
    let bytes = pictures();
    for part in [vec![1; bytes.len() + 5], vec![1; bytes.len()]] {
        let place = Place::new();
        let server = Server::new(&[("zips/pictures.zip", bytes.clone())]);
        fs::create_dir(place.path("")).unwrap();
        fs::write(place.path("pictures.zip.part"), &part).unwrap();
        let unknown = Archive { size: None, sha256: None, ..published(&bytes) };
        place.gets(&server.base, &unknown);
    }
}

#[test]
fn what_has_no_room_is_not_begun() {
    let (mut place, bytes) = (Place::new(), pictures());
    let server = Server::new(&[("zips/pictures.zip", bytes.clone())]);
    let archive = Archive { unpacked: 2_000_000_000, ..published(&bytes) };
    place.free = 2_000_000_000;
    place.fails(&server.base, &archive, 2, &["no room", "2.0 GB are needed", "2.0 GB are free", "--delete-archives"]);
    assert_eq!((server.requests(), place.files()), (vec![], vec![]));

    // What was downloaded already needs no room again.
    fs::write(place.path("pictures.zip.part"), &bytes[..40_000]).unwrap();
    place.free = 2_000_000_000 + bytes.len() as u64 - 40_000;
    place.gets(&server.base, &archive);

    // Where nothing was published, the server's answer and the archive say how much it is.
    let unknown = Archive { size: None, sha256: None, ..published(&bytes) };
    place = Place::new();
    place.free = bytes.len() as u64 - 1;
    place.fails(&server.base, &unknown, 2, &["no room", "pictures.zip is 0.1 MB more"]);
    assert_eq!(place.files(), Vec::<String>::new());
    place.free = bytes.len() as u64;
    place.fails(&server.base, &unknown, 2, &["no room", "to unpack pictures.zip needs"]);
    assert_eq!(place.files(), ["coco/pictures.zip"]);
}

#[test]
fn a_server_without_the_file_is_named() {
    let place = Place::new();
    let server = Server::new(&[]);
    place.fails(&server.base, &published(&pictures()), 1, &["zips/pictures.zip", "404"]);
    // Nobody listens at a port that was just given back.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    place.fails(&format!("http://{free}"), &published(&pictures()), 1, &["tried 4 times", "run again"]);
    place.fails("http://", &published(&pictures()), 1, &["cannot get http:///zips"]);
}

/// Changes the sizes that the headers claim of the first entry, in both places.
fn claim(mut archive: Vec<u8>, size: u32) -> Vec<u8> {
    let central = archive.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap();
    archive[central + 24..central + 28].copy_from_slice(&size.to_le_bytes());
    archive[22..26].copy_from_slice(&size.to_le_bytes());
    archive
}

#[test]
fn archives_that_mean_no_good_write_nothing() {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer.start_file("pictures/good.txt", SimpleFileOptions::default()).unwrap();
    writer.write_all(b"good").unwrap();
    writer.add_symlink("pictures/link", "/etc", SimpleFileOptions::default()).unwrap();
    let link = writer.finish().unwrap().into_inner();
    let zeros = zip(&[("pictures/zeros.txt", vec![0; 20_000_000])]);
    let packed = zip(&[("pictures/a.txt", vec![5; 1000])]);
    // A name that was changed in both headers.
    let renamed = |name: &str| {
        let mut bytes = zip(&[("pictures/good.txt", b"good".to_vec()), ("pictures/xx", b"bad".to_vec())]);
        let at: Vec<usize> = (0..bytes.len() - 11).filter(|&at| &bytes[at..at + 11] == b"pictures/xx").collect();
        at.into_iter().for_each(|at| bytes[at..at + 11].copy_from_slice(name.as_bytes()));
        bytes
    };
    for (what, bytes, says) in [
        ("a path to above", renamed("../escape.d"), "leads elsewhere"),
        ("a path within to above", renamed("pictures/.."), "leads elsewhere"),
        ("an absolute path", renamed("/escape.txt"), "leads elsewhere"),
        ("a path of Windows", renamed("..\\escape.d"), "leads elsewhere"),
        ("another folder", renamed("escape/file"), "does not belong"),
        ("a file beside the folder", renamed("escape_file"), "does not belong"),
        ("a link", link, "is a link"),
        ("zeros", zeros, "claims 20 MB in"),
        ("more than can be", claim(packed.clone(), 4_000_000_000), "claims 4000000000 bytes from"),
        ("no archive", vec![0; 5000], "no zip archive"),
        ("nothing", zip(&[]), "has no files"),
        ("half an archive", pictures()[..20_000].to_vec(), "no zip archive"),
    ] {
        let place = Place::new();
        fs::create_dir(place.path("")).unwrap();
        fs::write(place.path("pictures.zip"), &bytes).unwrap();
        let archive = Archive { size: None, sha256: None, ..published(&bytes) };
        let error = place.get("http://nowhere", &archive).0.expect_err(what);
        assert_eq!(error.exit_code(), 2, "{what}: {error}");
        assert!(error.to_string().contains(says), "{what}: {error}");
        assert_eq!(place.files(), ["coco/pictures.zip"], "{what}");
    }
    // Headers that lie within what is possible are found out when the bytes come; nothing half-written stays.
    let mut damaged = zip(&[("pictures/a.jpg", noise(1000, 1))]);
    damaged[500] ^= 1;
    for (what, bytes) in
        [("longer", claim(packed.clone(), 999)), ("shorter", claim(packed, 1001)), ("damaged", damaged)]
    {
        let place = Place::new();
        fs::create_dir(place.path("")).unwrap();
        fs::write(place.path("pictures.zip"), &bytes).unwrap();
        let archive = Archive { size: None, sha256: None, ..published(&bytes) };
        place.fails("http://nowhere", &archive, 2, &["damaged", "delete the archive"]);
        assert_eq!(place.files(), ["coco/pictures.zip"], "{what}");
    }
}

#[test]
fn the_command_gets_what_it_is_asked_for() {
    let lab = Lab::new();
    let annotations = zip(&[("annotations/captions_val2014.json", b"{}".to_vec())]);
    let server = Server::new(&[
        ("annotations/annotations_trainval2014.zip", annotations),
        ("zips/val2014.zip", zip(&[("val2014/COCO_val2014_000000000042.jpg", noise(5000, 3))])),
    ]);
    let base = format!("{}/", server.base);
    let coco = ["data", "coco", "--base", &base, "--parts", "validation,annotations"];
    let said = lab.ccdni(&coco).exits(1);
    assert!(said.contains("252872794 were published"), "{said}");
    let unchecked = [&coco[..], &["--unchecked"]].concat();
    let said = lab.ccdni(&unchecked).exits(0);
    assert!(said.contains("downloading val2014.zip: 1/1 MB") && said.starts_with("datasets/coco\n"), "{said}");
    assert!(lab.path("datasets/coco/annotations/captions_val2014.json").exists());
    assert!(lab.path("datasets/coco/val2014/COCO_val2014_000000000042.jpg").exists());
    assert!(!server.requests().iter().any(|path| path.contains("train2014")));
    assert!(lab.ccdni(&unchecked).exits(0).contains("there already"));
    // What nobody vouched for is looked at again where it should be right.
    let said = lab.ccdni(&coco).exits(2);
    assert!(said.contains("was published with"), "{said}");
    let said = lab.ccdni(&["data", "coco", "--base", "images"]).exits(2);
    assert!(said.contains("`--base` is `images`"), "{said}");
}

#[test]
fn two_at_once_do_not_write_into_one_file() {
    let lab = Lab::new();
    let server = Server::new(&[("zips/val2014.zip", zip(&[("val2014/a.jpg", noise(5000, 3))]))]);
    server.set(|state| state.slow = true);
    let coco = ["data", "coco", "--base", &server.base, "--parts", "validation", "--unchecked"];
    let first = lab.start(&coco);
    while server.state.lock().unwrap().requests.is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let said = lab.ccdni(&coco).exits(2);
    assert!(said.contains("another process"), "{said}");
    first.signal("INT");
    let ran = first.end();
    assert_eq!(ran.code, Some(130), "{ran:?}");
    assert!(ran.stderr.contains("goes on from here"), "{ran:?}");
    server.set(|state| state.slow = false);
    lab.ccdni(&coco).exits(0);
}
