//! What people see of training: the program itself on a small spec, without a terminal.

use std::fs;

use crate::lab::{EPOCHS, Lab};

/// The lines about epochs.
fn epochs(said: &str) -> Vec<&str> {
    said.lines().filter(|line| line.contains(": epoch ")).collect()
}

#[test]
fn the_first_line_is_what_the_run_does() {
    let lab = Lab::new();
    for (arguments, expected) in [
        (
            &["--set", "train.epochs=1"][..],
            "a ccRNN (a recurrent network with a synthesizer) on the task linedraw: 1 epoch, seed 1,",
        ),
        (
            &["--set", "model.layers.0.dni=null", "--set", "record=null", "--seeds", "2..4"],
            "a cRNN (a recurrent network without a synthesizer)",
        ),
        (
            &["--set", "model.layers.0.dni=null", "--set", "record=null", "--seeds", "2..4"],
            "linedraw: 12 epochs, seeds 2..4, results in outputs/",
        ),
        (&["--set", "model.layers.0.dni=null", "--set", "record=null", "--seeds", "2,4"], "seeds 2,4,"),
    ] {
        let ran = lab.ccdni(&[&["run", "spec.yaml"], arguments].concat());
        ran.exits(0);
        let first = ran.stdout.lines().next().unwrap();
        assert!(first.starts_with("This run trains ") && first.contains(expected), "{first}");
        let directory = first.split("results in ").nth(1).unwrap().trim_end_matches('.');
        assert!(lab.path(directory).is_dir(), "{first}");
    }
}

#[test]
fn a_run_prints_some_of_its_epochs_and_all_of_them_when_asked() {
    let long = ["run", "spec.yaml", "--set", "train.epochs=100", "--set", "record=null"];
    let run = |arguments: &[&str]| Lab::new().ccdni(&[&long[..], arguments].concat()).exits(0);
    let said = run(&[]);
    let lines = epochs(&said);
    let numbers = lines.iter().map(|line| line.split([' ', '/']).nth(3).unwrap().parse().unwrap());
    assert_eq!(numbers.collect::<Vec<usize>>(), [&[1][..], &(1..=20).map(|n| 5 * n).collect::<Vec<_>>()].concat());
    assert_eq!(epochs(&run(&["--verbose"])).len(), 100);
    // The limit is that of the run.
    let said = run(&["--seeds", "1..4"]);
    for end in [1, 100] {
        assert_eq!(said.matches(&format!(": epoch {end}/100 ")).count(), 4, "{said}");
    }
    assert!(epochs(&said).len() <= 21, "{said}");
    // The first and the last of each seed are printed even if these alone exceed it.
    let said = run(&["--set", "train.epochs=3", "--seeds", "1..12"]);
    assert_eq!(epochs(&said).len(), 24, "{said}");
}

#[test]
fn a_run_that_stops_early_prints_its_last_epoch() {
    let lab = Lab::new();
    let stops = [
        "--set",
        "train.early_stopping={patience: 1}",
        "--set",
        "train.epochs=1000",
        "--set",
        "train.optimizer.lr=0.1",
    ];
    let said = lab.ccdni(&[&["run", "spec.yaml", "--set", "record=null"], &stops[..]].concat()).exits(0);
    let last = lab.run().json("seeds/1/unit.json")["epochs"].as_u64().unwrap();
    assert!(last < 1000);
    assert!(epochs(&said).last().unwrap().contains(&format!("epoch {last}/1000 ")), "{said}");
}

#[test]
fn a_sweep_prints_its_epochs_only_when_asked() {
    let sweep = ["sweep", "spec.yaml", "--grid", "train.bptt=[1, 2]", "--set", "train.epochs=3"];
    let lab = Lab::new();
    assert_eq!(epochs(&lab.ccdni(&sweep).exits(0)).len(), 0);
    let lab = Lab::new();
    assert_eq!(epochs(&lab.ccdni(&[&sweep[..], &["--verbose"]].concat()).exits(0)).len(), 6);
}

#[test]
fn the_closing_table_has_the_best_epoch_and_the_last() {
    for keep in ["last", "best"] {
        let lab = Lab::new();
        let keeps = format!("train.keep={keep}");
        let said = lab.ccdni(&["run", "spec.yaml", "--set", &keeps, "--set", "train.optimizer.lr=0.3"]).exits(0);
        let table = fs::read_to_string(lab.run().0.join("seeds/1/metrics.csv")).unwrap();
        let column = table.lines().next().unwrap().split(',').position(|name| name == "val_mse").unwrap();
        let values: Vec<f64> =
            table.lines().skip(1).map(|row| row.split(',').nth(column).unwrap().parse().unwrap()).collect();
        let best = (0..EPOCHS).min_by(|a, b| values[*a].total_cmp(&values[*b])).unwrap();
        assert!(best + 1 < EPOCHS, "the last epoch must not be the best for this test to mean anything: {values:?}");
        let (first, last, epoch) = (values[best], values[EPOCHS - 1], best + 1);
        let expected = match keep {
            "last" => format!("{first:.4} (epoch {epoch})  {last:.4} (kept)"),
            _ => format!("{first:.4} (epoch {epoch}, kept)  {last:.4} "),
        };
        let words = |text: &str| text.split_whitespace().map(String::from).collect::<Vec<_>>().join(" ");
        assert!(said.contains("best_val_mse") && said.contains("last_val_mse"), "{said}");
        assert!(words(&said).contains(&words(&expected)), "{expected}: {said}");
    }
}

#[test]
fn without_a_command_there_are_first_steps_until_there_is_a_run() {
    let lab = Lab::new();
    let said = lab.ccdni(&[]).exits(2);
    let steps =
        ["ccdni run experiments/linedraw_dni.yaml", "ccdni list", "ccdni reproduce fig2 --quick", "ccdni --help"];
    assert!(steps.iter().all(|step| said.contains(step)) && !said.contains("completions"), "{said}");
    assert!(said.contains("from its root"), "{said}");
    fs::create_dir(lab.path("experiments")).unwrap();
    assert!(!lab.ccdni(&[]).exits(2).contains("from its root"));
    lab.ccdni(&["run", "spec.yaml", "--set", "train.epochs=1"]).exits(0);
    let help = lab.ccdni(&[]).exits(2);
    assert!(help.contains("completions") && !help.contains("There are no runs"), "{help}");
}
