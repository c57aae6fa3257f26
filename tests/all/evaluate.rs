//! `ccdni evaluate`: metrics of trained weights, through the real program.

use std::fs;

use serde_json::Value;

use crate::lab::{Lab, Run};

/// The last value of a column of a seed's `metrics.csv`.
fn trained(run: &Run, seed: u64, column: &str) -> f64 {
    let table = fs::read_to_string(run.0.join(format!("seeds/{seed}/metrics.csv"))).unwrap();
    let place = table.lines().next().unwrap().split(',').position(|name| name == column).unwrap();
    table.lines().last().unwrap().split(',').nth(place).unwrap().parse().unwrap()
}

/// The results as JSON.
fn results(lab: &Lab, arguments: &[&str]) -> Vec<Value> {
    let arguments = [&["evaluate"], arguments, &["--json"]].concat();
    let said = lab.ccdni(&arguments).exits(0);
    let json: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    json["results"].as_array().unwrap().clone()
}

fn value(result: &Value, seed: u64) -> f64 {
    result["seeds"][seed.to_string()].as_f64().unwrap_or_else(|| panic!("{result}"))
}

#[test]
fn a_run_has_the_numbers_of_its_training_and_others_on_other_data() {
    let lab = Lab::new();
    lab.ccdni(&[
        "run",
        "spec.yaml",
        "--seeds",
        "1..2",
        "--set",
        "train.epochs=3",
        "--set",
        "train.keep=last",
        "--set",
        "task.movement=true",
    ])
    .exits(0);
    let run = lab.run();
    let path = run.0.display().to_string();
    let all = results(&lab, &[&path]);
    let names: Vec<&str> = all.iter().map(|result| result["metric"].as_str().unwrap()).collect();
    assert_eq!(names, ["mse", "dysmetria", "sparc", "jerk"]);
    for result in &all {
        for seed in [1, 2] {
            let before = trained(&run, seed, &format!("val_{}", result["metric"].as_str().unwrap()));
            assert!((value(result, seed) - before).abs() < 1e-4 * before.abs().max(1.0), "{result}: {before}");
        }
    }
    // Outputs do not depend on the synthesizer, and do on the data.
    assert_eq!(results(&lab, &[&path, "--lesion"]), all);
    let noisy = results(&lab, &[&path, "--set", "task.train_noise=2", "--seeds", "1"]);
    assert!((value(&noisy[0], 1) - value(&all[0], 1)).abs() > 1e-3 && noisy[0]["seeds"].get("2").is_none());
    let text = lab.ccdni(&["evaluate", &path, "--split", "test"]).exits(0);
    assert!(text.contains("mse") && text.contains(" ± ") && text.contains("squared distance"), "{text}");
}

#[test]
fn classes_and_steps_add_up_to_the_whole() {
    let lab = Lab::new();
    lab.ccdni(&["run", "spec.yaml", "--seeds", "1", "--set", "train.epochs=2"]).exits(0);
    let decoder = lab.run().0.join("seeds/1/decoder.safetensors").display().to_string();
    let whole = value(&results(&lab, &[&decoder])[0], 1);
    let steps = results(&lab, &[&decoder, "--by", "step"]);
    let mean = steps.iter().map(|step| value(step, 1)).sum::<f64>() / steps.len() as f64;
    assert!((mean - whole).abs() < 1e-4 * whole, "{mean} {whole}");
    let both = results(&lab, &[&decoder, "--by", "class,step"]);
    assert_eq!(both.len() % steps.len(), 0);
    assert!(both.iter().any(|result| result["class"] == "cue 0" && result["step"] == 1), "{both:?}");
    let lengths = results(&lab, &[&decoder, "--by", "length"]);
    assert_eq!((lengths.len(), value(&lengths[0], 1)), (1, whole));
}

#[test]
fn what_cannot_be_evaluated_is_refused() {
    let lab = Lab::new();
    lab.ccdni(&["run", "spec.yaml", "--seeds", "1", "--set", "train.epochs=1", "--set", "task.test_size=0"]).exits(0);
    let path = lab.run().0.display().to_string();
    for (arguments, says) in [
        (vec!["--set", "train.bptt=2"], "changes the network or its training"),
        (vec!["--set", "task.points=x"], "task.points"),
        (vec!["--split", "test"], "has no Test data"),
        (vec!["--seeds", "7"], "seed 7"),
    ] {
        let said = lab.ccdni(&[vec!["evaluate", path.as_str()], arguments].concat()).exits(2);
        assert!(said.contains(says), "{says}: {said}");
    }
    assert!(lab.ccdni(&["evaluate", "nothing.safetensors"]).exits(2).contains("no such file"));
}

#[test]
fn the_loss_of_every_batch_is_written_and_its_mean_is_that_of_the_epoch() {
    let lab = Lab::new();
    lab.ccdni(&["run", "spec.yaml", "--seeds", "1", "--set", "train.epochs=2", "--set", "record={batches: true}"])
        .exits(0);
    let run = lab.run();
    let table = fs::read_to_string(run.0.join("seeds/1/batches.csv")).unwrap();
    let mut lines = table.lines();
    assert_eq!(lines.next().unwrap(), "seed,epoch,batch,train_loss,train_loss_original");
    let rows: Vec<Vec<f64>> = lines
        .map(|line| line.split(',').map(|cell| cell.parse().unwrap()).collect())
        .filter(|row: &Vec<f64>| row[1] == 2.0)
        .collect();
    assert!(rows.iter().enumerate().all(|(index, row)| row[2] == (index + 1) as f64), "{table}");
    let mean = rows.iter().map(|row| row[3]).sum::<f64>() / rows.len() as f64;
    assert!((mean - trained(&run, 1, "train_loss")).abs() < 1e-9, "{mean}");
}

#[test]
fn the_cue_can_be_decoded_from_the_states_after_the_first_step() {
    let lab = Lab::new();
    lab.ccdni(&["run", "spec.yaml", "--seeds", "1", "--set", "train.epochs=1", "--set", "task.test_size=300"]).exits(0);
    let path = lab.run().0.display().to_string();
    let steps = results(&lab, &[&path, "--split", "test", "--decode"]);
    assert_eq!(steps.len(), 10);
    assert!(steps.iter().all(|step| step["metric"] == "decoded R²"));
    // The cue is the first input; which line it means is not linear in it, so that only a part is.
    let first = value(&steps[0], 1);
    assert!(first > 0.2 && first <= 1.0, "{first}");
    lab.ccdni(&["evaluate", &path, "--decode", "--by", "class"]).exits(2);
}
