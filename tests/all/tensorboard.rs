//! Event files for TensorBoard, read back with a reader of their own: records, checksums, and what they hold.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::lab::{EPOCHS, Lab, Run};

/// A field of a message: its number, and its value.
#[derive(Debug, Clone)]
enum Field {
    Number(u64, u64),
    Float(u64, f32),
    Bytes(u64, Vec<u8>),
}

/// The fields of a message of protocol buffers, in order.
fn fields(mut bytes: &[u8]) -> Vec<Field> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
        let (taken, rest) = bytes.split_at(count);
        *bytes = rest;
        taken
    }
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let number = key >> 3;
        fields.push(match key & 7 {
            0 => Field::Number(number, varint(&mut bytes)),
            1 => Field::Number(number, u64::from_le_bytes(take(&mut bytes, 8).try_into().unwrap())),
            2 => {
                let count = varint(&mut bytes) as usize;
                Field::Bytes(number, take(&mut bytes, count).to_vec())
            }
            5 => Field::Float(number, f32::from_le_bytes(take(&mut bytes, 4).try_into().unwrap())),
            other => panic!("wire type {other}"),
        });
    }
    fields
}

/// The bytes of every field of this number.
fn bytes_of(fields: &[Field], wanted: u64) -> Vec<Vec<u8>> {
    let bytes = |field: &Field| match field {
        Field::Bytes(number, bytes) if *number == wanted => Some(bytes.clone()),
        _ => None,
    };
    fields.iter().filter_map(bytes).collect()
}

fn text_of(fields: &[Field], wanted: u64) -> String {
    String::from_utf8(bytes_of(fields, wanted).concat()).unwrap()
}

/// The checksum of a record, bit by bit.
fn masked_crc32c(data: &[u8]) -> u32 {
    let bit = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    let crc = !data.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| bit(crc)));
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// What an event file holds.
#[derive(Debug, Default)]
struct Events {
    version: String,
    sessions: usize,
    /// Steps and values by tag.
    scalars: BTreeMap<String, Vec<(usize, f32)>>,
    /// PNG files by tag.
    images: BTreeMap<String, Vec<u8>>,
    /// Names of plugins, with their tensor and their data, by tag.
    plugins: BTreeMap<String, (String, Vec<u8>, Vec<u8>)>,
    /// Bytes at the end that are no whole record.
    rest: usize,
}

/// The event files of a seed.
fn paths(run: &Run, seed: u64) -> Vec<PathBuf> {
    let names = fs::read_dir(run.0.join(format!("seeds/{seed}"))).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.to_string_lossy().contains("tfevents")).collect()
}

/// The one event file of a seed that is not empty.
fn path(run: &Run, seed: u64) -> PathBuf {
    let mut files = paths(run, seed);
    files.retain(|path| path.metadata().unwrap().len() > 0);
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

/// Reads the event file of a seed, and checks every record.
fn read(run: &Run, seed: u64) -> Events {
    let bytes = fs::read(path(run, seed)).unwrap();
    let mut bytes = bytes.as_slice();
    let mut events = Events::default();
    let mut last = 0.0;
    while bytes.len() >= 12 {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        if bytes.len() < length + 16 {
            break;
        }
        let data = &bytes[12..12 + length];
        for (of, at) in [(&bytes[..8], 8), (data, 12 + length)] {
            assert_eq!(masked_crc32c(of).to_le_bytes(), bytes[at..at + 4]);
        }
        bytes = &bytes[length + 16..];
        let fields = fields(data);
        let number = |wanted| fields.iter().find(|f| matches!(f, Field::Number(n, _) if *n == wanted));
        let Some(Field::Number(_, time)) = number(1) else { panic!("no time in {fields:?}") };
        let time = f64::from_bits(*time);
        assert!(time >= last && time > 1.7e9, "{time} after {last}");
        last = time;
        let step = match number(2) {
            Some(Field::Number(_, step)) => *step as usize,
            _ => 0,
        };
        events.version += &text_of(&fields, 3);
        events.sessions += bytes_of(&fields, 7).len();
        for summary in bytes_of(&fields, 5) {
            bytes_of(&self::fields(&summary), 1).iter().for_each(|value| events.add(step, value));
        }
    }
    events.rest = bytes.len();
    events
}

impl Events {
    fn add(&mut self, step: usize, value: &[u8]) {
        let value = fields(value);
        let tag = text_of(&value, 1);
        for field in &value {
            match field {
                Field::Float(2, number) => self.scalars.entry(tag.clone()).or_default().push((step, *number)),
                Field::Bytes(4, image) => drop(self.images.insert(tag.clone(), bytes_of(&fields(image), 4).concat())),
                Field::Bytes(9, metadata) => {
                    let data = fields(&bytes_of(&fields(metadata), 1).concat());
                    let tensor = bytes_of(&value, 8).concat();
                    self.plugins.insert(tag.clone(), (text_of(&data, 1), tensor, bytes_of(&data, 2).concat()));
                }
                _ => {}
            }
        }
    }

    /// Checks that every number of a seed's `metrics.csv` is there, once.
    #[track_caller]
    fn assert_is(&self, run: &Run, seed: u64) {
        assert_eq!((self.version.as_str(), self.sessions, self.rest), ("brain.Event:2", 1, 0));
        let mut reader = csv::Reader::from_path(run.0.join(format!("seeds/{seed}/metrics.csv"))).unwrap();
        let header: Vec<String> = reader.headers().unwrap().iter().map(Into::into).collect();
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        for (column, name) in header.iter().enumerate().skip(2) {
            // `seconds` is rounded in the table.
            let close = |a: f32, b: f32| a.to_bits() == b.to_bits() || name == "seconds" && (a - b).abs() < 1e-6;
            let values = &self.scalars[name];
            assert_eq!(values.len(), rows.len(), "{name}: {values:?}");
            for ((step, value), row) in values.iter().zip(&rows) {
                assert_eq!(step.to_string(), row[1]);
                assert!(close(*value, row[column].parse::<f64>().unwrap() as f32), "{name} {step}: {value}");
            }
        }
        let rest: Vec<_> = self.scalars.iter().filter(|(name, _)| !header.contains(name)).collect();
        assert!(rest.iter().all(|(name, values)| name.starts_with("final/") && values.len() == 1), "{rest:?}");
    }
}

const RUN: [&str; 3] = ["run", "spec.yaml", "--verbose"];

#[test]
fn an_event_file_has_numbers_spec_settings_and_figures_and_changes_no_result() {
    let lab = Lab::new();
    lab.ccdni(&[&RUN[..], &["--seeds", "1,2", "--tensorboard"]].concat()).exits(0);
    let run = lab.run();
    for seed in [1, 2] {
        let events = read(&run, seed);
        events.assert_is(&run, seed);
        let (plugin, tensor, _) = &events.plugins["spec"];
        let yaml = fs::read_to_string(run.0.join("spec.yaml")).unwrap();
        assert_eq!((plugin.as_str(), text_of(&fields(tensor), 8)), ("text", format!("```yaml\n{yaml}```\n")));
        let (plugin, _, start) = &events.plugins["_hparams_/session_start_info"];
        let start = fields(&bytes_of(&fields(start), 3).concat());
        let settings: Vec<String> = bytes_of(&start, 1).iter().map(|entry| text_of(&fields(entry), 1)).collect();
        assert_eq!(
            (plugin.as_str(), text_of(&start, 4)),
            ("hparams", run.json("manifest.json")["hash"].as_str().unwrap().into())
        );
        for key in ["model.layers.0.dni.hidden", "train.bptt", "train.optimizer.lr", "task.kind"] {
            assert!(settings.iter().any(|name| name == key), "{key}: {settings:?}");
        }
        assert!(events.plugins.contains_key("_hparams_/session_end_info"));
        assert_eq!(events.images.keys().collect::<Vec<_>>(), ["drawings", "learning"]);
        assert!(events.images.values().all(|image| image.starts_with(b"\x89PNG")));
        let record = run.json(&format!("seeds/{seed}/unit.json"));
        assert_eq!(events.scalars["final/val_mse"][0].1, record["validation"][0].as_f64().unwrap() as f32);
    }
    let plain = Lab::new();
    plain.ccdni(&["run", "spec.yaml", "--seeds", "1,2"]).exits(0);
    run.assert_equals(&plain.run());
    assert_eq!(run.0.file_name(), plain.run().0.file_name());
}

#[test]
fn a_run_that_is_killed_and_resumed_has_every_epoch_once() {
    let lab = Lab::new();
    let spec = crate::lab::SPEC.replace("epochs: 12", "epochs: 300").replace("every: 0s", "every: {epochs: 5}");
    lab.write("spec.yaml", &spec);
    let arguments = [&RUN[..], &["--tensorboard"]].concat();
    let mut names = Vec::new();
    for killed_after in [7, 2] {
        let mut running = lab.start(&arguments);
        assert!(running.saw_epochs(killed_after));
        running.signal_group("KILL");
        running.end();
        let run = lab.run();
        run.wait_until_free();
        // It can be read at any time, and has more than the checkpoint.
        let events = read(&run, 1);
        let steps: Vec<usize> = events.scalars["val_mse"].iter().map(|(step, _)| *step).collect();
        assert_eq!(steps, (1..=steps.len()).collect::<Vec<_>>());
        assert!(steps.len() >= 7, "{steps:?}");
        names.push(path(&run, 1));
    }
    // Once begun it goes on, whoever resumes.
    lab.ccdni(&RUN).exits(0);
    let run = lab.run();
    read(&run, 1).assert_is(&run, 1);
    assert_eq!(run.began_at(1).len(), 3, "{}", run.log());
    names.push(path(&run, 1));
    assert_eq!(paths(&run, 1).len(), 1);
    // A reader goes on to the file whose name sorts after that of the last.
    assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
}

#[test]
fn a_finished_run_gets_the_file_that_it_lacks() {
    let lab = Lab::new();
    lab.write("spec.yaml", &crate::lab::SPEC.replace("checkpoint_every: 0s", "tensorboard: false"));
    lab.ccdni(&RUN).exits(0);
    let said = lab.ccdni(&["run", "spec.yaml", "--set", "run.tensorboard=true"]).exits(0);
    assert!(said.contains("0 to train"), "{said}");
    let run = lab.run();
    read(&run, 1).assert_is(&run, 1);
    assert_eq!(read(&run, 1).scalars["val_mse"].len(), EPOCHS);
    let before = path(&run, 1);
    // A damaged seed keeps no other from getting its file.
    lab.ccdni(&["run", "spec.yaml", "--seeds", "2,3"]).exits(0);
    run.edit("seeds/2/metrics.csv", "epoch", "age");
    let said = lab.ccdni(&["run", "spec.yaml", "--seeds", "2,3", "--tensorboard"]).exits(2);
    assert!(said.contains("seeds/2/metrics.csv"), "{said}");
    read(&run, 3).assert_is(&run, 3);
    lab.ccdni(&["sweep", "spec.yaml", "--tensorboard"]).exits(0);
    assert_eq!(path(&run, 1), before);
}

#[test]
fn a_file_that_cannot_be_written_stops_the_seed_as_any_other_file_does() {
    let lab = Lab::new();
    // No file may be larger than 100 blocks of 512 bytes: checkpoints fit, figures do not.
    let script = "trap '' XFSZ; ulimit -f 100; exec \"$0\" run spec.yaml --tensorboard";
    let program = lab.command(&[]).get_program().to_owned();
    let mut shell = std::process::Command::new("sh");
    let ended = shell.arg("-c").arg(script).arg(program).current_dir(lab.dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.code() == Some(1) && said.contains("events.out.tfevents"), "{said}");
    lab.ccdni(&["run", "spec.yaml", "--tensorboard"]).exits(0);
    let run = lab.run();
    read(&run, 1).assert_is(&run, 1);
    let plain = Lab::new();
    plain.ccdni(&RUN).exits(0);
    run.assert_equals(&plain.run());
}
