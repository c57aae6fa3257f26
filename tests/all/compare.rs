//! Numbers and figures of many runs, and claims about them, through the real program.

use crate::lab::Lab;

/// Three runs of three seeds that end in a known order: the longer it is trained, the lower the error.
const FILE: &str = "
name: tiny
task: {kind: linedraw, train_size: 200, test_size: 20}
model:
  layers: [{cell: lstm, hidden: 12}]
train: {epochs: 2, batch_size: 4, bptt: 1, feedback_every: 2, optimizer: {kind: adam, lr: 1.0e-2}}
run: {device: cpu}
sweep:
  list:
    - {name: short}
    - {name: long, set: {train.epochs: 40}}
    - {name: full, set: {train.epochs: 40, train.bptt: null}}
seeds: 1..3
figure: {y: val_mse, scale: log, color: [epochs], reference: full}
claims:
  - {kind: below, run: long, than: short}
quick: {seeds: [1], task.train_size: 190}
";

fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("file.yaml", FILE);
    lab
}

/// The last `val_mse` of each seed, read from the file of each seed.
fn last(lab: &Lab, epochs: usize, full: bool) -> Vec<f64> {
    let run = std::fs::read_dir(lab.path("outputs")).unwrap().map(|entry| entry.unwrap().path()).find(|path| {
        let Ok(text) = std::fs::read_to_string(path.join("spec.yaml")) else { return false };
        text.contains(&format!("epochs: {epochs}\n")) && text.contains("bptt: 1\n") != full
    });
    let run = run.unwrap();
    let value = |seed: u64| -> f64 {
        let table = std::fs::read_to_string(run.join(format!("seeds/{seed}/metrics.csv"))).unwrap();
        let column = table.lines().next().unwrap().split(',').position(|name| name == "val_mse").unwrap();
        table.lines().last().unwrap().split(',').nth(column).unwrap().parse().unwrap()
    };
    (1..=3).map(value).collect()
}

#[test]
fn a_sweep_is_compared_drawn_and_told_apart_from_its_files() {
    let lab = lab();
    for command in ["plot", "compare"] {
        let said = lab.ccdni(&[command, "file.yaml"]).exits(2);
        assert!(said.contains("0 of 9 units") && said.contains("ccdni sweep file.yaml"), "{said}");
    }
    let said = lab.ccdni(&["sweep", "file.yaml"]).exits(0);
    assert!(said.contains("outputs/plots/file.svg") && lab.path("outputs/plots/file.png").exists(), "{said}");

    let csv = lab.ccdni(&["compare", "file.yaml", "--format", "csv"]).exits(0);
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 4, "{csv}");
    let at = |name: &str| rows[0].iter().position(|column| *column == name).unwrap();
    let number = |row: usize, name: &str| -> f64 { rows[row][at(name)].parse().unwrap() };
    for (row, values) in [(1, last(&lab, 2, false)), (2, last(&lab, 40, false)), (3, last(&lab, 40, true))] {
        let mean = values.iter().sum::<f64>() / 3.0;
        assert!((number(row, "val_mse_last_mean") - mean).abs() < 1e-9, "{csv}");
        assert!(number(row, "val_mse_last_low") <= mean && mean <= number(row, "val_mse_last_high"));
        assert!(number(row, "val_mse_best_mean") <= mean);
    }
    // Three pairs: at best 2 of 8 signs.
    let table = lab.ccdni(&["compare", "file.yaml", "--by", "epochs,bptt", "--format", "markdown"]).exits(0);
    assert!(table.contains("| p |") && table.contains("0.2500"), "{table}");
    lab.ccdni(&["compare", "file.yaml", "--by", "epoch"]).exits(2);
    lab.ccdni(&["compare", "file.yaml", "--test", "hidden"]).exits(2);

    let hashes: Vec<&str> = rows[1..].iter().map(|row| row[at("runs")]).collect();
    let diff = lab.ccdni(&["diff", hashes[0], hashes[1]]).exits(0);
    assert!(diff.contains("train.epochs") && !diff.contains("train.bptt"), "{diff}");
    assert!(lab.ccdni(&["diff", hashes[0], hashes[0]]).exits(0).contains("equal, bit by bit"));

    let by_key = ["plot", "file.yaml", "--x", "epochs", "--label", "bptt", "--out", "by.svg"];
    lab.ccdni(&by_key).exits(0);
    let svg = std::fs::read_to_string(lab.path("by.svg")).unwrap();
    assert!(svg.contains(">\nepochs\n</text>") && svg.contains("bptt 1"), "{svg}");
    lab.ccdni(&["plot", "file.yaml", "--x", "cell"]).exits(2);

    lab.write("times.yaml", "extends: file.yaml\nfigure: {y: val_mse, color: [epochs], times: 100}\n");
    let said = lab.ccdni(&["plot", "times.yaml"]).exits(0);
    let mean = last(&lab, 40, false).iter().sum::<f64>() / 3.0;
    assert!(said.contains("val_mse × 100") && said.contains(&format!("{:.4} ±", 100.0 * mean)), "{mean}: {said}");
}

#[test]
fn failed_units_are_tried_again_by_the_same_command() {
    let lab = lab();
    lab.write("fails.yaml", "extends: file.yaml\ntrain: {optimizer: {kind: adam, lr: 1.0e+30}}\n");
    for _ in 0..2 {
        let said = lab.ccdni(&["reproduce", "fails.yaml", "--quick"]).exits(1);
        assert!(said.contains("3 to train") && said.contains("the same command tries them again"), "{said}");
    }
}

#[test]
fn claims_decide_the_exit_code() {
    let lab = lab();
    let quick = lab.ccdni(&["reproduce", "file.yaml", "--quick"]).exits(0);
    assert!(quick.contains("3 runs, 3 units") && quick.contains("pass (n.s.)  long ends below short"), "{quick}");
    assert!(lab.path("outputs/plots/file_quick.svg").exists());
    let full = lab.ccdni(&["reproduce", "file.yaml"]).exits(0);
    assert!(full.contains("9 units") && full.contains("3 seeds"), "{full}");

    lab.write("false.yaml", "extends: file.yaml\nclaims: [{kind: below, run: short, than: long}, {kind: like, run: short, values: [0.1, 0.1, 0.2, 0.1, 0.3, 0.2]}]\n");
    let said = lab.ccdni(&["reproduce", "false.yaml"]).exits(1);
    assert!(said.contains("0 to train") && said.contains("2 claims do not hold"), "{said}");
    // More than the order of medians can be asked for: three seeds give no p below 0.25.
    lab.write("more.yaml", "extends: file.yaml\nclaims: [{kind: below, run: long, than: short, p_below: 0.2}]\n");
    assert!(lab.ccdni(&["reproduce", "more.yaml"]).exits(1).contains("1 claim does not hold"));
    lab.write("less.yaml", "extends: file.yaml\nclaims: [{kind: below, run: long, than: short, p_below: 0.3}]\n");
    assert!(lab.ccdni(&["reproduce", "less.yaml"]).exits(0).contains("pass  long ends below short"));

    // Runs of a grid are named with their values, which is judged before anything is trained.
    let grid = "extends: file.yaml\nfigure: null\nsweep:\n  list: [{name: a}, {name: full, set: {train.bptt: null}}]\n  \
                grid: {train.epochs: [2, 40]}\nclaims: [{kind: below, run: full, than: a";
    for (at, says) in
        [("", "2 runs are"), (", at: {train.epochs: 7}", "no run of that name"), (", at: {train.bptt: 1}", "no run")]
    {
        lab.write("grid.yaml", &format!("{grid}{at}}}]\n"));
        let said = lab.ccdni(&["reproduce", "grid.yaml"]).exits(2);
        assert!(said.contains(says) && !said.contains("to train"), "{said}");
    }
    lab.write("grid.yaml", &format!("{grid}, at: {{train.epochs: 40}}}}]\n"));
    let said = lab.ccdni(&["reproduce", "grid.yaml"]);
    let said = format!("{}{}", said.stdout, said.stderr);
    assert!(said.contains("12 units: 3 to train") && said.contains("full ends below a at epochs 40"), "{said}");
    lab.write("none.yaml", "extends: file.yaml\nclaims: null\nquick: null\n");
    assert!(lab.ccdni(&["reproduce", "none.yaml"]).exits(2).contains("claims nothing"));
    assert!(lab.ccdni(&["reproduce", "none.yaml", "--quick"]).exits(2).contains("quick"));
    assert!(lab.ccdni(&["reproduce", "fig9"]).exits(2).contains("there is no experiments/paper/fig9.yaml"));
}

#[test]
fn runs_are_drawn_and_tested_relative_to_another() {
    let lab = lab();
    let grid = "extends: file.yaml\nsweep:\n  list: [{name: a}, {name: b, set: {model.layers.0.hidden: 8}}]\n  \
                grid: {train.bptt: [1, 2, 3]}\n";
    let figure = "figure: {x: train.bptt, percent: true, relative_to: a, color: [hidden], test: t, holm: true}\n";
    let claims = "claims: [{kind: below, run: a, than: b, each: train.bptt, test: t, holm: true}]\n";
    lab.write("relative.yaml", &format!("{grid}{figure}{claims}"));
    let said = lab.ccdni(&["reproduce", "relative.yaml"]);
    let said = format!("{}{}", said.stdout, said.stderr);
    for bptt in 1..=3 {
        assert!(said.contains(&format!("a ends below b at bptt {bptt} (val_mse)")), "{said}");
    }
    assert!(said.contains("after Holm") && said.contains("(paired t)") && said.contains("3 seeds"), "{said}");
    let svg = std::fs::read_to_string(lab.path("outputs/plots/relative.svg")).unwrap();
    assert!(svg.contains("validation mse / a") && svg.contains("bptt (% of the sequence)"), "{svg}");
    assert!(svg.contains(">\nns\n<") || svg.contains(">\n*"), "the outcome of a test is marked: {svg}");
    // The table has the ratio of the seeds' values.
    let of = |hidden: &str| -> Vec<f64> {
        let csv = lab.ccdni(&["table", "relative.yaml", "--wide"]).exits(0);
        let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
        let at = |name: &str| rows[0].iter().position(|column| *column == name).unwrap();
        let wanted = |row: &&Vec<&str>| row[at("name")] == hidden && row[at("train.bptt")] == "2";
        rows[1..].iter().filter(wanted).map(|row| row[at("last_val_mse")].parse().unwrap()).collect()
    };
    let ratio = of("b").iter().zip(of("a")).map(|(b, a)| b / a).sum::<f64>() / 3.0;
    let drawn = lab.ccdni(&["plot", "relative.yaml"]).exits(0);
    assert!(drawn.contains(&format!("{ratio:.4} ±")), "{ratio}: {drawn}");

    lab.write("wrong.yaml", &format!("{grid}figure: {{relative_to: c}}\n"));
    assert!(lab.ccdni(&["plot", "wrong.yaml"]).exits(2).contains("`figure.relative_to` is `c`"));
    let compared = lab.ccdni(&["compare", "relative.yaml", "--test", "hidden", "--holm"]).exits(0);
    assert!(compared.contains("p (t)"), "{compared}");
}
