//! The results of runs as one table, through the real program.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::lab::Lab;

/// Three runs of two seeds, of which two are named in a list and one differs in a table.
const FILE: &str = "
name: tiny
task: {kind: linedraw, train_size: 40, test_size: 20}
model:
  layers: [{cell: lstm, hidden: 6}]
train: {epochs: 3, batch_size: 4, bptt: 1, feedback_every: 2, keep: best, optimizer: {kind: adam, lr: 1.0e-2}}
run: {device: cpu}
sweep:
  list:
    - {name: cRNN}
    - {name: 'ccRNN, large', set: {model.layers.0.dni: {hidden: [8]}, train.epochs: 2}}
    - {name: full, set: {train.bptt: null}}
seeds: 1..2
";

fn trained() -> Lab {
    trained_on(FILE)
}

fn trained_on(file: &str) -> Lab {
    let lab = Lab::new();
    lab.write("file.yaml", file);
    lab.ccdni(&["sweep", "file.yaml"]).exits(0);
    lab
}

/// The rows of a CSV file by column.
fn rows(text: &str) -> Vec<BTreeMap<String, String>> {
    csv::Reader::from_reader(text.as_bytes()).deserialize().map(Result::unwrap).collect()
}

/// A file in the directory of a row's seed.
fn unit_file(lab: &Lab, row: &BTreeMap<String, String>, name: &str) -> String {
    std::fs::read_to_string(lab.path(&format!("outputs/{}/seeds/{}/{name}", row["run"], row["seed"]))).unwrap()
}

#[test]
fn the_long_table_has_every_number_of_every_seed_and_the_keys_that_differ() {
    let lab = trained();
    let ran = lab.ccdni(&["table", "file.yaml"]);
    ran.exits(0);
    let header = ran.stdout.lines().next().unwrap();
    assert_eq!(header, "run,seed,epoch,metric,value,name,model.layers.0.dni,train.bptt,train.epochs");
    let rows = rows(&ran.stdout);
    // Without `seed` and `epoch`, and of runs of 3, 2 and 3 epochs with two seeds each.
    let columns = rows.iter().filter(|row| row["run"] == rows[0]["run"] && row["epoch"] == "1").count() / 2;
    assert!(columns > 4 && rows.len() == 2 * (3 + 2 + 3) * columns, "{header}: {columns}, {}", rows.len());
    for row in &rows {
        let metrics = unit_file(&lab, row, "metrics.csv");
        let line = self::rows(&metrics).into_iter().find(|line| line["epoch"] == row["epoch"]).unwrap();
        assert_eq!(line[&row["metric"]].parse::<f64>().unwrap(), row["value"].parse::<f64>().unwrap());
        let keys = ["model.layers.0.dni", "train.bptt", "train.epochs"].map(|key| row[key].as_str());
        let expected = match row["name"].as_str() {
            "cRNN" => ["cRNN", "1", "3"],
            "ccRNN, large" => ["ccRNN", "1", "2"],
            "full" => ["cRNN", "", "3"],
            other => panic!("{other}"),
        };
        assert_eq!(keys, expected);
    }
    // The runs by themselves have the same numbers; their names are those of the specs.
    let first = rows[0]["run"].as_str();
    let alone = lab.ccdni(&["table", first, "--seeds", "2"]);
    alone.exits(0);
    let alone = self::rows(&alone.stdout);
    let expected: Vec<&String> =
        rows.iter().filter(|row| row["run"] == first && row["seed"] == "2").map(|row| &row["value"]).collect();
    assert_eq!(alone.iter().map(|row| &row["value"]).collect::<Vec<_>>(), expected);
    assert_eq!(alone[0].keys().collect::<Vec<_>>(), ["epoch", "metric", "run", "seed", "value"]);
}

#[test]
fn the_wide_table_has_a_row_per_seed() {
    // At this learning rate the last epoch, which is kept, is not the best.
    let lab = trained_on(&FILE.replace("keep: best", "keep: last").replace("1.0e-2", "0.3"));
    let ran = lab.ccdni(&["table", "file.yaml", "--wide"]);
    ran.exits(0);
    let rows = rows(&ran.stdout);
    assert_eq!(rows.len(), 6);
    assert!(rows.iter().any(|row| row["best_epoch"] != row["kept_epoch"]), "{}", ran.stdout);
    for row in &rows {
        let metrics = self::rows(&unit_file(&lab, row, "metrics.csv"));
        let record: Value = serde_json::from_str(&unit_file(&lab, row, "unit.json")).unwrap();
        assert_eq!(row["epochs"], metrics.len().to_string());
        for (when, epoch) in [("kept", &row["kept_epoch"]), ("best", &row["best_epoch"]), ("last", &row["epochs"])] {
            let line = metrics.iter().find(|line| line["epoch"] == *epoch).unwrap();
            for metric in ["val_mse", "train_loss", "grad_norm"] {
                assert_eq!(row[&format!("{when}_{metric}")], line[metric], "{when} {metric}");
            }
        }
        let number = |name: &str| row[name].parse::<f64>().unwrap();
        let all: Vec<f64> = metrics.iter().map(|line| line["val_mse"].parse().unwrap()).collect();
        assert_eq!(number("best_val_mse"), all.iter().copied().fold(f64::INFINITY, f64::min));
        assert_eq!(row["kept_epoch"], row["epochs"], "`keep: last`");
        assert_eq!(number("seconds"), record["seconds"].as_f64().unwrap());
    }
}

#[test]
fn files_hold_the_same_table_in_every_format() {
    let lab = trained();
    let csv = lab.ccdni(&["table", "file.yaml"]).stdout;
    let said = lab.ccdni(&["table", "file.yaml", "-o", "new/table.csv"]).exits(0);
    assert_eq!(said, "new/table.csv\n");
    assert_eq!(std::fs::read_to_string(lab.path("new/table.csv")).unwrap(), csv);

    lab.ccdni(&["table", "file.yaml", "-o", "table.json"]).exits(0);
    let records: Vec<BTreeMap<String, Value>> =
        serde_json::from_slice(&std::fs::read(lab.path("table.json")).unwrap()).unwrap();
    let rows = rows(&csv);
    assert_eq!(records.len(), rows.len());
    for (record, row) in records.iter().zip(&rows) {
        let text = |value: &Value| match value {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        assert!(record["value"].is_f64() && record["epoch"].is_u64() && !record["train.bptt"].is_string());
        for (name, cell) in row.iter().filter(|(name, _)| *name != "value") {
            assert_eq!(&text(&record[name]), cell, "{name}");
        }
        assert_eq!(record["value"].as_f64().unwrap(), row["value"].parse::<f64>().unwrap());
    }

    let said = lab.ccdni(&["table", "file.yaml", "-o", "table.parquet"]);
    match cfg!(feature = "hub") {
        true => {
            said.exits(0);
            let bytes = std::fs::read(lab.path("table.parquet")).unwrap();
            assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
        }
        false => assert!(said.exits(2).contains("without Parquet (feature `hub`)")),
    }
}

#[test]
fn what_cannot_be_written_is_refused_and_leaves_no_file() {
    let lab = Lab::new();
    lab.write("file.yaml", FILE);
    let refused = |arguments: &[&str], expected: &str| {
        let said = lab.ccdni(&[&["table"], arguments].concat()).exits(2);
        assert!(said.contains(expected), "{said}");
    };
    refused(&["file.yaml"], "0 of 6 units of file.yaml are trained: `ccdni sweep file.yaml --outputs outputs`");
    refused(&["file.yaml", "--seeds", "7"], "`ccdni sweep file.yaml --seeds 7 --outputs outputs`");
    lab.write("quick.yaml", &(FILE.to_owned() + "quick: {train.epochs: 1}\n"));
    refused(&["quick.yaml", "--quick"], "`ccdni reproduce quick.yaml --quick --outputs outputs`");
    refused(&["file.yaml", "-o", "table.xlsx"], "--out table.xlsx: the format follows from the extension");
    refused(&["file.yaml", "-o", "table"], "name a .csv, .json or .parquet file");
    lab.ccdni(&["run", "spec.yaml", "--set", "train.epochs=1"]).exits(0);
    let run = lab.run();
    let name = run.0.file_name().unwrap().to_str().unwrap();
    refused(&[name, name], "is named twice");
    refused(&[name, "--quick"], "--quick stands for the `quick` block");
    refused(&[name, "--seeds", "1,2"], "lacks requested seeds");
    std::fs::create_dir(lab.path("folder.csv")).unwrap();
    refused(&[name, "-o", "folder.csv"], "--out folder.csv: is a directory");
    lab.write("file", "");
    lab.ccdni(&["table", name, "-o", "file/table.csv"]).exits(1);
    let left: Vec<_> = std::fs::read_dir(lab.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 6, "{left:?}");

    // Seeds that are asked for, but not trained, are a note beside the table.
    lab.write("asked.yaml", "extends: spec.yaml\ntrain: {epochs: 1}\n");
    run.edit("manifest.json", "\"seeds_asked\": [\n    1\n", "\"seeds_asked\": [\n    1,\n    2\n");
    let ran = lab.ccdni(&["table", name]);
    ran.exits(0);
    assert!(ran.stderr.contains("note: run") && !ran.stdout.contains("note"), "{}", ran.stderr);
}

#[test]
fn runs_are_told_apart_by_every_key() {
    let lab = Lab::new();
    let optimizer = |momentum: f64| format!("train.optimizer: {{kind: sgd, lr: 1.0e-3, momentum: {momentum}}}");
    let list = format!(
        "sweep:\n  list:\n    - {{name: adam}}\n    - {{name: 'a \"b\"', set: {{{}}}}}\n    - {{name: \"c\\nd\", set: {{{}}}}}\n    \
         - {{name: deep, set: {{model.layers: [{{cell: lstm, hidden: 6}}, {{cell: lstm, hidden: 5}}]}}}}\n",
        optimizer(0.9),
        optimizer(0.5)
    );
    let file = FILE.split_once("sweep:").unwrap().0.to_owned() + &list + "seeds: [1, 18446744073709551615]\n";
    lab.write("file.yaml", &file.replace("epochs: 3", "epochs: 1"));
    lab.ccdni(&["sweep", "file.yaml"]).exits(0);
    let ran = lab.ccdni(&["table", "file.yaml", "--wide"]);
    ran.exits(0);
    let rows = rows(&ran.stdout);
    let seeds: Vec<&str> = rows.iter().map(|row| row["seed"].as_str()).collect();
    assert_eq!(seeds, ["1", "18446744073709551615"].repeat(4));
    let layers = |row: &BTreeMap<String, String>| -> Vec<u64> {
        let layers: Vec<Value> = serde_json::from_str(&row["model.layers"]).unwrap();
        layers.iter().map(|layer| layer["hidden"].as_u64().unwrap()).collect()
    };
    let told: Vec<_> = rows
        .iter()
        .step_by(2)
        .map(|row| (row["name"].as_str(), row["train.optimizer.momentum"].as_str(), layers(row)))
        .collect();
    assert_eq!(
        told,
        [("adam", "", vec![6]), ("a \"b\"", "0.9", vec![6]), ("c\nd", "0.5", vec![6]), ("deep", "", vec![6, 5])]
    );
    // Different networks are different groups of a comparison, too.
    let compared = lab.ccdni(&["compare", "file.yaml", "--format", "csv"]);
    compared.exits(0);
    assert_eq!(self::rows(&compared.stdout).len(), 4, "{}", compared.stdout);
    // A seed by itself, whatever became of the other.
    lab.write(&format!("outputs/{}/seeds/1/metrics.csv", rows[0]["run"]), "");
    let damaged = lab.ccdni(&["table", "file.yaml"]).exits(2);
    assert!(damaged.contains("seeds/1/metrics.csv") && damaged.contains("--force --seeds 1`"), "{damaged}");
    let alone = lab.ccdni(&["table", "file.yaml", "--seeds", "18446744073709551615", "--wide"]);
    alone.exits(0);
    assert_eq!(self::rows(&alone.stdout).len(), 4);
}
