//! Data from the hub, end to end: the program, a server that behaves like the hub, and everything that can go wrong.

mod server;
mod weights;

use std::io::Cursor;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use self::server::{Faults, Hub};
use crate::lab::Lab;

const SPEC: &str = "
task: {kind: seqmnist, source: {kind: hub}, row: 196}
model: {layers: [{cell: tanh, hidden: 3}]}
train: {epochs: 1, batch_size: 10}
run: {device: cpu}
";

/// A PNG of one shade.
fn png(side: u32, shade: u8) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let image = image::GrayImage::from_pixel(side, side, image::Luma([shade]));
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// A file as the hub has it: images of `side` pixels along an edge, one per label.
fn file(side: u32, labels: &[i64]) -> Vec<u8> {
    let schema = "message schema {
        optional group image { optional binary bytes; optional binary path (UTF8); }
        optional int64 label;
    }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder().set_compression(parquet::basic::Compression::SNAPPY).build();
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties)).unwrap();
    // Two groups of rows, as larger files have them.
    for labels in labels.chunks(labels.len().div_ceil(2)) {
        let mut group = writer.next_row_group().unwrap();
        let images: Vec<ByteArray> =
            labels.iter().enumerate().map(|(index, label)| png(side, (index as i64 + label) as u8).into()).collect();
        let present = vec![2i16; labels.len()];
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&images, Some(&present), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&[], Some(&vec![1i16; labels.len()]), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(labels, Some(&vec![1i16; labels.len()]), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
    bytes
}

fn labels(count: i64) -> Vec<i64> {
    (0..count).map(|index| index % 10).collect()
}

/// Both parts of both data sets.
fn hub() -> Hub {
    let sets = [("ylecun/mnist", "mnist"), ("zalando-datasets/fashion_mnist", "fashion_mnist")];
    Hub::new(sets.into_iter().flat_map(|(repository, folder)| {
        [("train", 60), ("test", 20)].map(|(part, count)| {
            (format!("{repository}/{folder}/{part}-00000-of-00001.parquet"), file(28, &labels(count)))
        })
    }))
}

/// A hub with a training file of this content.
fn hub_with(train: Vec<u8>) -> Hub {
    let test = ("ylecun/mnist/mnist/test-00000-of-00001.parquet".to_owned(), file(28, &labels(20)));
    Hub::new([("ylecun/mnist/mnist/train-00000-of-00001.parquet".to_owned(), train), test])
}

fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("spec.yaml", SPEC);
    lab
}

/// Runs the spec with these environment variables and further arguments; gives exit code and what was said.
fn run(lab: &Lab, endpoint: &str, offline: bool, more: &[&str]) -> (i32, String) {
    let arguments = [&["run", "spec.yaml"], more].concat();
    let mut command = lab.command(&arguments);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HF_") || name.ends_with("_proxy")) {
        command.env_remove(name);
    }
    command.env("HF_ENDPOINT", endpoint).stdin(Stdio::null());
    if offline {
        command.env("HF_HUB_OFFLINE", "1");
    }
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(!said.contains("panicked"), "{said}");
    (output.status.code().unwrap_or(-1), said)
}

/// What is in the cache under names of digests: whole files, and what is left of others.
fn blobs(lab: &Lab) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(lab.path("datasets/hub/datasets--ylecun--mnist/blobs")) else {
        return Vec::new();
    };
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_none_or(|e| e != "lock")).collect()
}

#[track_caller]
fn fails(ran: (i32, String), code: i32, says: &[&str]) {
    assert_eq!(ran.0, code, "{}", ran.1);
    for text in says {
        assert!(ran.1.contains(text), "should say {text:?}:\n{}", ran.1);
    }
}

/// What every failure has to name: what can be done without the hub.
const ALTERNATIVES: [&str; 2] = ["kind: glyphs", "kind: idx"];

#[test]
fn data_are_downloaded_once_and_then_used_without_a_network() {
    let (lab, hub) = (lab(), hub());
    let (code, said) = run(&lab, &format!("{}/", hub.endpoint), false, &[]);
    assert_eq!(code, 0, "{said}");
    for part in ["train", "test"] {
        assert!(said.contains(&format!("downloading mnist/{part}-00000-of-00001.parquet")), "{said}");
    }
    assert!(!hub.requests().is_empty());
    let manifest = lab.run().json("manifest.json");
    let files: Vec<&String> = manifest["data"].as_object().unwrap().keys().collect();
    assert_eq!(files.len(), 3, "{files:?}: two files and the version");

    for (endpoint, offline) in [(&hub.endpoint, false), (&hub.endpoint, true)] {
        let (code, said) = run(&lab, endpoint, offline, &["--force"]);
        assert_eq!((code, said.contains("downloading")), (0, false), "{said}");
        assert_eq!(hub.requests(), Vec::<String>::new());
    }
    let (code, said) = run(&lab, &hub.endpoint, false, &["--set", "task.source.dataset=fashion_mnist"]);
    assert_eq!(code, 0, "{said}");
    assert!(hub.requests().iter().any(|path| path.contains("zalando-datasets/fashion_mnist")));
}

#[test]
fn one_part_alone_is_all_that_is_downloaded() {
    let (lab, hub) = (lab(), hub());
    let (code, said) = run(&lab, &hub.endpoint, false, &["--set", "task.source.use=test"]);
    assert_eq!(code, 0, "{said}");
    assert!(hub.requests().iter().all(|path| path.contains("test-00000")));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let (lab, hub) = (lab(), Hub::new([]));
    let ran = run(&lab, &hub.endpoint, false, &[]);
    fails(ran, 1, &["mnist/train-00000-of-00001.parquet of ylecun/mnist", "404", &hub.endpoint]);
    fails(run(&lab, &hub.endpoint, false, &[]), 1, &ALTERNATIVES);
    assert!(!lab.path("outputs").exists(), "nothing is begun without data");
}

#[test]
fn a_transfer_that_is_cut_off_goes_on_where_it_was() {
    let (lab, hub) = (lab(), hub());
    hub.faults(Faults { cuts: 2, ..Faults::default() });
    let (code, said) = run(&lab, &hub.endpoint, false, &[]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("trying again"), "{said}");
    let requests = hub.requests();
    let resumed = |request: &&String| request.ends_with('-') && !request.ends_with(" 0-");
    assert_eq!(requests.iter().filter(resumed).count() / 2, 2, "{requests:?}: each asks hub and store");
}

#[test]
fn a_transfer_that_is_always_cut_off_fails_and_is_continued_by_the_next_run() {
    let (lab, hub) = (lab(), hub());
    hub.faults(Faults { cuts: 1000, ..Faults::default() });
    let ran = run(&lab, &hub.endpoint, false, &[]);
    fails(ran, 1, &["tried 4 times", "run again", "HF_ENDPOINT", ALTERNATIVES[0], ALTERNATIVES[1]]);
    assert!(!lab.path("outputs").exists());
    hub.faults(Faults { failures: 1, ..Faults::default() });
    hub.requests();
    let (code, said) = run(&lab, &hub.endpoint, false, &[]);
    assert_eq!(code, 0, "{said}");
    assert!(hub.requests().iter().any(|request| request.ends_with('-') && !request.ends_with(" 0-")));
}

#[test]
fn other_bytes_than_promised_are_not_kept() {
    let (lab, hub) = (lab(), hub());
    hub.faults(Faults { other_bytes: true, ..Faults::default() });
    fails(run(&lab, &hub.endpoint, false, &[]), 1, &["SHA-256", "not kept", ALTERNATIVES[0]]);
    assert_eq!(blobs(&lab), Vec::<PathBuf>::new());
    hub.faults(Faults::default());
    let (code, said) = run(&lab, &hub.endpoint, false, &[]);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn a_server_that_gives_no_digest_is_refused_and_writes_nothing_elsewhere() {
    let (lab, hub) = (lab(), hub());
    hub.faults(Faults { no_digest: true, ..Faults::default() });
    fails(run(&lab, &hub.endpoint, false, &[]), 1, &["gives no SHA-256", "escaped"]);
    assert!(blobs(&lab).is_empty() && !lab.path("datasets/escaped").exists());
}

#[test]
fn without_a_network_the_message_says_what_to_do() {
    let lab = lab();
    // Nobody listens at a port that was just given back.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ran = run(&lab, &format!("http://{free}"), false, &[]);
    fails(ran, 1, &["cannot get", &free.to_string(), "HF_ENDPOINT", ALTERNATIVES[0], ALTERNATIVES[1]]);
    fails(run(&lab, "huggingface.co", false, &[]), 2, &["HF_ENDPOINT", "huggingface.co", "https://"]);
    fails(run(&lab, &format!("http://{free}"), true, &[]), 2, &["HF_HUB_OFFLINE", "datasets/hub", ALTERNATIVES[0]]);
    assert!(!lab.path("outputs").exists());
}

#[test]
fn a_damaged_cache_is_mended_or_named() {
    let (lab, hub) = (lab(), hub());
    assert_eq!(run(&lab, &hub.endpoint, false, &[]).0, 0);
    let damage = || {
        let path = blobs(&lab).remove(0);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[100] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    };
    damage();
    fails(run(&lab, &hub.endpoint, true, &["--force"]), 2, &["parquet: its SHA-256 is", "HF_HUB_OFFLINE"]);
    let (code, said) = run(&lab, &hub.endpoint, false, &["--force"]);
    assert_eq!((code, said.contains("downloading it again")), (0, true), "{said}");
}

#[test]
fn files_that_are_no_such_data_set_are_named() {
    let mut strange = labels(20);
    strange[13] = 10;
    for (content, says) in [
        (b"no parquet at all".to_vec(), "cannot be read as Parquet"),
        (file(28, &strange), "label 3 is 10"),
        (file(27, &labels(20)), "27 x 27 pixels"),
    ] {
        let (lab, hub) = (lab(), hub_with(content));
        fails(run(&lab, &hub.endpoint, false, &[]), 2, &["train-00000-of-00001.parquet", says]);
        assert!(!lab.path("outputs").exists());
    }
}
