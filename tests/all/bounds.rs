//! Inputs that claim or are too much: each is refused with a message, and with little memory. The shell's limits hold the program to
//! it: 200 MB of data, and 10 s of computing for what takes less than 2.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};

use crate::lab::{Lab, Ran};

/// The program within these bounds.
fn bounded(lab: &Lab, arguments: &[&str]) -> Ran {
    let program = lab.command(arguments);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -d 200000 && ulimit -t 10 && exec \"$0\" \"$@\""]);
    command.arg(program.get_program()).args(arguments).current_dir(lab.dir.path()).stdin(Stdio::null());
    Ran::of(command.output().unwrap())
}

/// Checks that it is refused with this message.
#[track_caller]
fn refused(lab: &Lab, arguments: &[&str], message: &str) {
    let said = bounded(lab, arguments).exits(2);
    assert!(said.contains(message), "{message} is not in\n{}", said.get(..2000).unwrap_or(&said));
}

/// A file that is as large as this, and takes no place.
fn sparse(path: &Path, begin: &[u8], size: u64) {
    let mut file = fs::File::create(path).unwrap();
    file.write_all(begin).unwrap();
    file.set_len(size).unwrap();
}

const BASE: &str = "
task: {kind: linedraw}
model: {layers: [{cell: lstm, hidden: 5}]}
train: {epochs: 1, batch_size: 5}
";

#[test]
fn the_program_itself_fits_the_bounds() {
    let lab = Lab::new();
    bounded(&lab, &["check", "spec.yaml"]).exits(0);
}

#[test]
fn large_specs() {
    let lab = Lab::new();
    lab.write("long.yaml", &format!("{BASE}x-text: {}\n", "a".repeat(10_000_000)));
    refused(&lab, &["check", "long.yaml"], "more than 1 MiB");
    sparse(&lab.path("endless.yaml"), b"", 1 << 40);
    refused(&lab, &["check", "endless.yaml"], "more than 1 MiB");

    let layers = |count: usize| {
        let one = "x-one: &a {cell: lstm, hidden: 1}\ntask: {kind: linedraw}\ntrain: {epochs: 1, batch_size: 5}\n";
        format!("{one}model: {{layers: [{}]}}\n", "*a,".repeat(count))
    };
    lab.write("deep.yaml", &layers(100_000));
    refused(&lab, &["check", "deep.yaml"], "more than 100000 values");
    lab.write("many.yaml", &layers(2_000));
    refused(&lab, &["check", "many.yaml"], "`model.layers`");
    lab.write("laughs.yaml", &laughs());
    refused(&lab, &["check", "laughs.yaml"], "error: ");
    lab.write("nested.yaml", &format!("task: {}{}\n", "[".repeat(100_000), "]".repeat(100_000)));
    refused(&lab, &["check", "nested.yaml"], "more than 1000 levels deep");
}

#[test]
fn specs_with_nothing_but_mistakes() {
    let lab = Lab::new();
    let keys: String = (0..49_000).map(|n| format!("key{n}: 1\n")).collect();
    lab.write("keys.yaml", &format!("{BASE}{keys}"));
    refused(&lab, &["check", "keys.yaml"], "there are more than 100 problems");
    lab.write("words.yaml", &format!("{BASE}record: {{every: 1, what: [{}]}}\n", "hidden,".repeat(90_000)));
    refused(&lab, &["check", "words.yaml"], "there are more than 100 problems");
    refused(&lab, &["check", "spec.yaml", "--set", &format!("{}=1", "k".repeat(100_000))], "there is no such key");
}

/// Ten names, each of which stands for ten of the one before.
fn laughs() -> String {
    let mut text = String::from("a0: &a0 [1, 1]\n");
    for n in 1..10 {
        text += &format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", "));
    }
    text
}

#[test]
fn paths_without_end() {
    let lab = Lab::new();
    let path = vec!["a"; 50_000].join(".");
    refused(&lab, &["check", "spec.yaml", "--set", &format!("{path}=1")], "a key of more than 32 levels");
    // A key of YAML has 1024 characters at most.
    let path = vec!["a"; 400].join(".");
    lab.write("sweep.yaml", &format!("{BASE}sweep: {{grid: {{{path}: [1, 2]}}}}\n"));
    refused(&lab, &["sweep", "sweep.yaml", "--dry-run"], "a key of more than 32 levels");
    refused(&lab, &["check", "spec.yaml", "--set", "model.layers.4000000000.hidden=1"], "`model.layers");
}

#[test]
fn files_that_extend_each_other_over_and_over() {
    let lab = Lab::new();
    for n in 0..40 {
        lab.write(&format!("{n}.yaml"), &format!("extends: [{0}.yaml, {0}.yaml]\n", n + 1));
    }
    lab.write("40.yaml", BASE);
    refused(&lab, &["check", "0.yaml"], "more than 256 files");
}

#[test]
fn a_sweep_of_a_billion_runs() {
    let lab = Lab::new();
    let ten = |key: &str| format!("{key}: [{}]", (1..=10).map(|n| n.to_string()).collect::<Vec<_>>().join(", "));
    let keys = [
        "train.epochs",
        "train.batch_size",
        "train.bptt",
        "task.train_size",
        "task.test_size",
        "model.layers.0.hidden",
        "train.feedback_every",
        "train.optimizer.eps",
        "train.lr",
    ];
    let grid = keys.map(ten).join(", ");
    lab.write("sweep.yaml", &format!("{BASE}sweep: {{grid: {{{grid}}}}}\n"));
    refused(&lab, &["sweep", "sweep.yaml", "--dry-run"], "more than 100000 runs");
}

/// The beginning of a PNG of this width and height.
fn png(side: u32) -> Vec<u8> {
    let chunk = |kind: &[u8], content: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(&[kind, content].concat());
        [&(content.len() as u32).to_be_bytes(), kind, content, &crc.sum().to_be_bytes()].concat()
    };
    let header = [&side.to_be_bytes()[..], &side.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &header), chunk(b"IDAT", &[0x78, 0x9c, 1])].concat()
}

#[test]
fn pictures_that_claim_billions_of_pixels() {
    let lab = Lab::new();
    fs::create_dir(lab.path("images")).unwrap();
    fs::write(lab.path("images/a.png"), png(65_500)).unwrap();
    refused(&lab, &["data", "resize", "images", "--out", "small", "--strict"], "claims 65500 x 65500 pixels");
    sparse(&lab.path("images/a.png"), &png(10), 2 << 30);
    refused(&lab, &["data", "resize", "images", "--out", "other", "--strict"], "too many for an image");
}

/// A zip file with one compressed entry of so many zeros.
fn bomb(name: &str, size: usize) -> Vec<u8> {
    let mut deflate = DeflateEncoder::new(Vec::new(), Compression::best());
    deflate.write_all(&vec![0; size]).unwrap();
    let packed = deflate.finish().unwrap();
    let mut crc = flate2::Crc::new();
    crc.update(&vec![0; size]);
    let about = |begin: &[u8]| {
        let sizes = [crc.sum(), packed.len() as u32, size as u32].map(u32::to_le_bytes).concat();
        let lengths = [(name.len() as u16).to_le_bytes(), [0, 0]].concat();
        [begin, &[20, 0, 0, 0, 8, 0, 0, 0, 0, 0], &sizes, &lengths].concat()
    };
    let local = [about(b"PK\x03\x04"), name.as_bytes().to_vec(), packed.clone()].concat();
    let central = [about(b"PK\x01\x02\x14\0"), vec![0; 14], name.as_bytes().to_vec()].concat();
    let sizes = [central.len() as u32, local.len() as u32].map(u32::to_le_bytes).concat();
    [local, central, b"PK\x05\x06\0\0\0\0\x01\0\x01\0".to_vec(), sizes, vec![0, 0]].concat()
}

#[test]
fn files_of_weights_that_unpack_to_too_much() {
    let lab = Lab::new();
    fs::write(lab.path("bomb.pth"), bomb("weights/data.pkl", 1 << 28)).unwrap();
    refused(&lab, &["import", "bomb.pth"], "bomb.pth: is not a file of PyTorch weights");
    let header = format!("{{\"a\": {{\"dtype\": \"F32\", \"shape\": [{}], \"data_offsets\": [0, 4]}}}}", 1u64 << 60);
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat();
    fs::write(lab.path("claims.safetensors"), file).unwrap();
    lab.write("as.yaml", BASE);
    let import = ["import", "claims.safetensors", "--as", "as.yaml", "-o", "imported"];
    refused(&lab, &import, "claims.safetensors");
    sparse(&lab.path("header.safetensors"), &[(1u64 << 31).to_le_bytes().as_slice(), b"{"].concat(), 1 << 32);
    refused(&lab, &["import", "header.safetensors"], "header claims 2147483648 bytes");
    // The same object again and again.
    let pickle = [b"\x80\x02]q\0".as_slice(), &b"h\0a".repeat(2_000_000), b"."].concat();
    fs::write(lab.path("again.pth"), pickle).unwrap();
    refused(&lab, &["import", "again.pth"], "again.pth");
}

#[test]
fn digits_that_unpack_to_too_much() {
    let lab = Lab::new();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    let header = [0x0803u32, 4_000_000, 28, 28].map(u32::to_be_bytes).concat();
    gzip.write_all(&header).unwrap();
    (0..64).for_each(|_| gzip.write_all(&[0; 1 << 20]).unwrap());
    fs::create_dir(lab.path("digits")).unwrap();
    fs::write(lab.path("digits/train-images-idx3-ubyte.gz"), gzip.finish().unwrap()).unwrap();
    fs::write(lab.path("digits/train-labels-idx1-ubyte"), [0, 0, 8, 1, 0, 0, 0, 1, 0]).unwrap();
    let spec = "
task: {kind: seqmnist, source: {kind: idx, dir: digits, use: train}}
model: {layers: [{cell: lstm, hidden: 5}]}
train: {epochs: 1, batch_size: 5}
";
    lab.write("digits.yaml", spec);
    refused(&lab, &["run", "digits.yaml"], "for which it is too small");
}

#[test]
fn tables_of_two_gigabytes() {
    let lab = Lab::new();
    sparse(&lab.path("captions.csv"), b"image,caption\na.jpg,", 2 << 30);
    refused(&lab, &["data", "vocab", "captions.csv", "--out", "words.json"], "captions.csv: has more than 1024 MiB");
    lab.write("few.csv", "image,caption\na.jpg,a dog\n");
    refused(&lab, &["score", "captions.csv", "few.csv"], "captions.csv: has more than 1024 MiB");

    lab.ccdni(&["run", "spec.yaml", "--set", "train.epochs=1"]).exits(0);
    let run = lab.run();
    let hash = run.0.file_name().unwrap().to_str().unwrap();
    let table = run.0.join("seeds/1/metrics.csv");
    let text = fs::read(&table).unwrap();
    sparse(&table, &text, 2 << 30);
    refused(&lab, &["report", hash, "--out", "page.html"], "has more than 256 MiB");
    sparse(&run.0.join("seeds/1/unit.json"), b"{", 2 << 30);
    refused(&lab, &["show", hash], "has more than 64 MiB");
}
