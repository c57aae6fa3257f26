//! `ccdni analyse`: recordings of the real program, measured.

use std::collections::BTreeMap;
use std::fs;

use candle_core::{Device, Tensor};

use crate::lab::{Lab, Run};

const ALL: &str = "record={every: 3, what: [hidden, synthetic, target, true, synthesizer, weights], cosine: true}";

fn train(lab: &Lab, set: &[&str]) -> Run {
    let mut arguments = vec!["run", "spec.yaml", "--seeds", "1..2", "--set", "train.epochs=3"];
    set.iter().for_each(|set| arguments.extend(["--set", set]));
    lab.ccdni(&arguments).exits(0);
    lab.run()
}

/// `measures.csv`: the value of each seed, epoch, measure, quantity and other quantity.
fn measures(run: &Run) -> BTreeMap<(u64, usize, String, String, String), f64> {
    let mut reader = csv::Reader::from_path(run.0.join("analysis/measures.csv")).unwrap();
    assert_eq!(reader.headers().unwrap(), ["seed", "epoch", "measure", "of", "with", "value"].as_slice());
    let mut measures = BTreeMap::new();
    for row in reader.records() {
        let row = row.unwrap();
        let text = |column: usize| row[column].to_owned();
        let key = (row[0].parse().unwrap(), row[1].parse().unwrap(), text(2), text(3), text(4));
        assert!(measures.insert(key, row[5].parse().unwrap()).is_none(), "{row:?} is there twice");
    }
    measures
}

#[test]
fn everything_that_is_recorded_is_measured() {
    let lab = Lab::new();
    let run = train(&lab, &[ALL]);
    let hash = run.0.file_name().unwrap().to_string_lossy().into_owned();
    let said = lab.ccdni(&["analyse", &hash[..5]]).exits(0);
    for part in ["means over seeds 1, 2", "population_correlation", "epoch 3", "analysis/measures.csv", "weights.png"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("note:"), "{said}");

    let measures = measures(&run);
    let value = |seed: u64, epoch: usize, measure: &str, of: &str, with: &str| {
        *measures
            .get(&(seed, epoch, measure.into(), of.into(), with.into()))
            .unwrap_or_else(|| panic!("there is no {measure} of {of} with {with:?}"))
    };
    // The cosine is the one that training reported.
    for seed in [1, 2] {
        let table = fs::read_to_string(run.0.join(format!("seeds/{seed}/metrics.csv"))).unwrap();
        let mut lines = table.lines();
        let column = lines.next().unwrap().split(',').position(|name| name == "cosine").unwrap();
        for (index, line) in lines.enumerate() {
            let reported: f64 = line.split(',').nth(column).unwrap().parse().unwrap();
            let cosine = value(seed, index + 1, "cosine", "synthetic.layer0", "true.layer0");
            assert!((cosine - reported).abs() < 1e-9, "{cosine} and {reported}");
        }
    }
    // Units are the variables, windows after the first and sequences the observations, an epoch the mean over batches.
    let recording = run.0.join("seeds/2/recordings/epoch-0002.safetensors");
    let tensors = candle_core::safetensors::load(&recording, &Device::Cpu).unwrap();
    let spread = |tensor: &Tensor| {
        let (windows, _, width) = tensor.dims3().unwrap();
        let rows = tensor.narrow(0, 1, windows - 1).unwrap().reshape(((), width)).unwrap().to_vec2::<f32>().unwrap();
        let n = rows.len() as f64;
        let of_unit = |unit: usize| {
            let mean = rows.iter().map(|row| f64::from(row[unit])).sum::<f64>() / n;
            rows.iter().map(|row| (f64::from(row[unit]) - mean).powi(2)).sum::<f64>() / (n - 1.0)
        };
        (0..width).map(of_unit).sum::<f64>()
    };
    let hidden: Vec<f64> =
        tensors.iter().filter(|(name, _)| name.ends_with(".hidden.layer0")).map(|(_, tensor)| spread(tensor)).collect();
    assert!(hidden.len() > 1, "several batches are recorded");
    let (measured, by_hand) =
        (value(2, 2, "coding_space", "hidden.layer0", ""), hidden.iter().sum::<f64>() / hidden.len() as f64);
    assert!((measured - by_hand).abs() < 1e-9 * by_hand, "{measured} and {by_hand}");

    for of in ["hidden.layer0", "synthesizer0.layer0", "synthetic.layer0", "target.layer0", "true.layer0"] {
        for measure in ["population_correlation", "mean_abs_pearson", "coding_space", "sparsity"] {
            value(1, 3, measure, of, "");
        }
    }
    let between = value(1, 3, "mean_abs_pearson", "hidden.layer0", "synthetic.layer0");
    assert!((0.0..=1.0).contains(&between));
    for measure in ["weight_mean", "weight_sd", "weight_mean_abs", "weight_norm", "weight_zeros"] {
        value(1, 1, measure, "linear.weight", "");
    }
    assert!(value(1, 1, "weight_zeros", "rnn.backward_interface.synthesizer.layers.0.bias", "") > 0.0);

    for figure in ["populations", "correlations", "cosines", "weights"] {
        let path = run.0.join("analysis").join(figure);
        let svg = fs::read_to_string(path.with_extension("svg")).unwrap();
        assert!(svg.contains("Epoch") && svg.contains("mean ± s.e.m., 2 seeds"), "{figure}");
        image::load_from_memory(&fs::read(path.with_extension("png")).unwrap()).unwrap();
    }

    // One seed alone, and an epoch whose recording was removed.
    fs::remove_file(run.0.join("seeds/1/recordings/epoch-0002.safetensors")).unwrap();
    lab.ccdni(&["analyse", &run.0.display().to_string(), "--seed", "1"]).exits(0);
    let seen: Vec<(u64, usize)> = self::measures(&run).into_keys().map(|key| (key.0, key.1)).collect();
    assert!(seen.contains(&(1, 1)) && seen.contains(&(1, 3)) && !seen.contains(&(1, 2)));
    assert!(seen.iter().all(|(seed, _)| *seed == 1));
}

#[test]
fn a_lesion_ends_the_curves_of_the_synthesizer() {
    let lab = Lab::new();
    let run = train(&lab, &["model.layers.0.dni.lesion_at=3"]);
    let said = lab.ccdni(&["analyse", &run.0.display().to_string()]).exits(0);
    assert!(said.contains("not recorded, and so not measured: `target`, `true`, `synthesizer`, `weights`"), "{said}");
    let has = |epoch: usize, of: &str| measures(&run).into_keys().any(|key| key.1 == epoch && key.3 == of);
    assert!(has(2, "synthetic.layer0") && !has(3, "synthetic.layer0") && has(3, "hidden.layer0"));
    assert!(!run.0.join("analysis/weights.svg").exists());
}

#[test]
fn whole_sequences_have_no_populations() {
    let lab = Lab::new();
    let run = train(
        &lab,
        &[
            "record={what: [hidden, target, true, weights], cosine: false}",
            "train.bptt=null",
            "model.layers.0.dni=null",
        ],
    );
    let said = lab.ccdni(&["analyse", &run.0.display().to_string()]).exits(0);
    assert!(said.contains("note: windows span whole sequences"), "{said}");
    assert!(measures(&run).into_keys().all(|key| key.2.starts_with("weight")));
    assert!(!run.0.join("analysis/populations.svg").exists() && run.0.join("analysis/weights.svg").exists());
}

#[test]
fn what_was_not_recorded_is_said_with_the_way_to_record_it() {
    for (record, says) in [("record=null", "has no `record` table"), ("record.what=[]", "`record.what` is empty")] {
        let lab = Lab::new();
        let run = train(&lab, &[record]);
        let said = lab.ccdni(&["analyse", &run.0.display().to_string()]).exits(2);
        assert!(said.contains(says) && said.contains("--set 'record={every: 100, what: [hidden,"), "{said}");
        assert!(!run.0.join("analysis").exists());
        // The advice works as it stands.
        let advice = said.split("--set '").nth(1).unwrap().split('\'').next().unwrap();
        lab.ccdni(&["check", &run.0.join("spec.yaml").display().to_string(), "--set", advice]).exits(0);
    }
    let lab = Lab::new();
    let run = train(&lab, &["record=null", "model.layers.0.dni=null"]);
    let said = lab.ccdni(&["analyse", &run.0.display().to_string()]).exits(2);
    assert!(said.contains("what: [hidden, target, true, weights]"), "{said}");
}

#[test]
fn damaged_recordings_are_named_and_nothing_is_written() {
    let lab = Lab::new();
    let run = train(&lab, &[]);
    let path = run.0.display().to_string();
    assert!(lab.ccdni(&["analyse", &path, "--seeds", "3"]).exits(2).contains("is not finished (seed 3: waiting)"));
    assert!(lab.ccdni(&["analyse", "nothing"]).exits(2).contains("begins with `nothing`"));

    let recording = run.0.join("seeds/2/recordings/epoch-0002.safetensors");
    let whole = fs::read(&recording).unwrap();
    fs::write(&recording, &whole[..whole.len() / 2]).unwrap();
    let said = lab.ccdni(&["analyse", &path]).exits(2);
    assert!(said.contains("seeds/2/recordings/epoch-0002.safetensors") && said.contains("safetensors ("), "{said}");
    fs::remove_dir_all(run.0.join("seeds/2/recordings")).unwrap();
    let said = lab.ccdni(&["analyse", &path]).exits(2);
    assert!(said.contains("holds no recordings of seed 2") && said.contains("--seeds"), "{said}");
    assert!(!run.0.join("analysis").exists());
    lab.ccdni(&["analyse", &path, "--seeds", "1"]).exits(0);
}

#[test]
fn pairs_components_and_windows_are_in_files_of_their_own() {
    let lab = Lab::new();
    let run = train(&lab, &[ALL]);
    lab.ccdni(&["analyse", &run.0.display().to_string()]).exits(0);
    let folder = run.0.join("analysis");
    let table = |name: &str| -> Vec<Vec<String>> {
        let mut reader = csv::Reader::from_path(folder.join(name)).unwrap();
        reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
    };
    let number = |cell: &String| cell.parse::<f64>().unwrap();
    // The mean over windows is the cosine of the run.
    let whole = measures(&run);
    let key = (1, 2, "cosine".to_owned(), "synthetic.layer0".to_owned(), "true.layer0".to_owned());
    let windows: Vec<f64> = table("cosine_windows.csv")
        .iter()
        .filter(|row| row[0] == "1" && row[1] == "2" && row[3] == "true.layer0")
        .map(|row| number(&row[5]))
        .collect();
    assert!(windows.len() > 1);
    assert!((windows.iter().sum::<f64>() / windows.len() as f64 - whole[&key]).abs() < 1e-9, "{windows:?}");

    let pairs = table("pairs.csv");
    let coupling = |row: &&Vec<String>| row[2] == "hidden.layer0" && row[3] == "synthesizer0.layer0";
    let row = pairs.iter().filter(coupling).find(|row| row[0] == "2" && row[1] == "3").unwrap();
    let quantiles: Vec<f64> = row[4..9].iter().map(number).collect();
    assert!(quantiles.is_sorted() && quantiles[0] >= -1.0 && quantiles[4] <= 1.0, "{row:?}");
    assert!(number(&row[11]) > 0.0, "correlations change: {row:?}");
    let array = fs::read(folder.join("pairs/hidden.layer0__synthesizer0.layer0.npy")).unwrap();
    let header = String::from_utf8_lossy(&array[..128]).into_owned();
    assert!(header.contains("'<f4'") && header.contains("(2, 3, "), "{header}");

    let pca = table("pca.csv");
    for row in pca.iter().filter(|row| row[3] == "explained") {
        // A synthesizer that starts at zero has no variance at first.
        let share = number(&row[5]);
        assert!((0.0..=1.0 + 1e-9).contains(&share) || share.is_nan() && row[1] == "1", "{row:?}");
    }
    assert!(
        pca.iter()
            .any(|row| row[2] == "hidden.layer0" && row[3] == "participation_ratio" && number(&row[5]) >= 1.0 - 1e-9)
    );
    assert!(!table("pca_paths.csv").is_empty());
    for name in ["pairs", "pca", "cosine_windows"] {
        assert!(folder.join(format!("{name}.png")).exists(), "{name}");
    }
}
