//! Sweeps: which runs a file says, and what is refused, before anything is trained.

use std::collections::BTreeSet;

use ccdni::Error;
use ccdni::spec::sweep::{Sweep, expand};
use ccdni::spec::{Request, resolve};
use ccdni::tasks::Registry;
use proptest::prelude::*;

const BASE: &str = "
name: base
task: {kind: linedraw}
model:
  layers: [{cell: lstm, hidden: 5}]
train: {epochs: 10, batch_size: 50, bptt: 1}
";

/// Expands a base with a sweep below it.
fn sweep(sweep: &str, grid: &[&str], set: &[&str]) -> Result<Sweep, Error> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s.yaml");
    std::fs::write(&file, format!("{BASE}{sweep}")).unwrap();
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>();
    expand(&Request { file, set: owned(set), env: Vec::new() }, &owned(grid), &Registry::built_in())
}

fn hashes(sweep: &Sweep) -> Vec<&str> {
    sweep.runs.iter().map(|run| run.resolved.hash.as_str()).collect()
}

/// The hash of the base with these flags.
fn single(set: &[String]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s.yaml");
    std::fs::write(&file, BASE).unwrap();
    resolve(&Request { file, set: set.to_vec(), env: Vec::new() }, &Registry::built_in()).unwrap().hash
}

#[test]
fn a_grid_is_all_combinations_a_zip_is_side_by_side_and_a_list_is_spelled_out() {
    let dni = "model.layers.0.dni";
    let grid = sweep(&format!("sweep: {{grid: {{{dni}: [null, {{hidden: [8]}}], train.bptt: [1, 2, 3]}}}}"), &[], &[])
        .unwrap();
    assert_eq!(hashes(&grid).len(), 6);
    assert_eq!(hashes(&grid)[5], single(&[format!("{dni}={{hidden: [8]}}"), "train.bptt=3".into()]));

    let zip = sweep("sweep: {zip: {train.epochs: [1, 2], train.bptt: [3, 4]}}", &[], &[]).unwrap();
    let expected = [(1, 3), (2, 4)].map(|(n, k)| single(&[format!("train.epochs={n}"), format!("train.bptt={k}")]));
    assert_eq!(hashes(&zip), expected);

    let list = sweep("sweep: {list: [{name: a}, {name: b, set: {train.bptt: null}}]}", &[], &[]).unwrap();
    assert_eq!(hashes(&list), [single(&[]), single(&["train.bptt=null".into()])]);
    assert_eq!(list.runs[1].item.as_deref(), Some("b"));
    assert_eq!(list.runs[1].resolved.spec.name.as_deref(), Some("base: b"));

    let all = "sweep: {list: [{name: a}, {name: b, set: {train.epochs: 3}}], zip: {train.batch_size: [10, 20]}, grid: {train.bptt: [1, 2]}}";
    assert_eq!(hashes(&sweep(all, &[], &[]).unwrap()).len(), 8);
    let several = "sweep: [{grid: {train.bptt: [1, 2]}}, {list: [{name: full, set: {train.bptt: null}}]}]";
    assert_eq!(hashes(&sweep(several, &[], &[]).unwrap()).len(), 3);
}

#[test]
fn a_swept_selector_is_set_before_the_keys_of_its_form() {
    let rates =
        sweep("sweep: {grid: {train.optimizer.alpha: [0.5, 0.9], train.optimizer.kind: [rmsprop]}}", &[], &[]).unwrap();
    let alphas: Vec<f64> =
        rates.runs.iter().map(|run| run.resolved.spec.train.optimizer.keys["alpha"].as_f64().unwrap()).collect();
    assert_eq!(alphas, [0.5, 0.9]);
}

#[test]
fn a_file_without_a_sweep_is_one_run_and_a_flag_makes_or_replaces_a_grid() {
    assert_eq!(hashes(&sweep("", &[], &[]).unwrap()), [single(&[])]);
    let flag = sweep("", &["train.bptt=[1, 2, 3]"], &["train.epochs=4"]).unwrap();
    assert_eq!(flag.runs.len(), 3);
    assert_eq!(hashes(&flag)[2], single(&["train.epochs=4".into(), "train.bptt=3".into()]));
    let replaced =
        sweep("sweep: {grid: {train.bptt: [1, 2], train.epochs: [5, 6]}}", &["train.bptt=[3]"], &[]).unwrap();
    assert_eq!(replaced.runs.len(), 2);
    assert!(replaced.runs.iter().all(|run| run.values.contains(&("train.bptt".into(), "3".into()))));
}

#[test]
fn what_says_the_same_is_one_run_with_the_seeds_of_all() {
    // Ten steps are the whole sequence.
    let same = sweep("sweep: {grid: {train.bptt: [10, null]}}", &[], &[]).unwrap();
    assert_eq!((same.combinations, same.runs.len()), (2, 1));
    let seeds =
        sweep("sweep: {list: [{name: a, set: {seeds: [1, 2]}}, {name: b, set: {seeds: [2, 3]}}]}", &[], &[]).unwrap();
    assert_eq!(seeds.runs.len(), 1);
    assert_eq!(seeds.runs[0].resolved.spec.seeds.0, [1, 2, 3]);
}

#[test]
fn blocks_beside_the_spec_are_not_hashed_and_the_strongest_file_says_all_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("a.yaml", &format!("{BASE}sweep: {{grid: {{train.bptt: [1, 2]}}}}\nfigure: {{scale: log}}\nclaims: []\n"));
    write("b.yaml", "extends: a.yaml\nsweep: {grid: {train.epochs: [1, 2, 3]}}\nfigure: null\n");
    write("c.yaml", "extends: a.yaml\nsweep: null\n");
    let registry = Registry::built_in();
    let request = |name: &str| Request { file: folder.path().join(name), ..Request::default() };
    let b = expand(&request("b.yaml"), &[], &registry).unwrap();
    assert_eq!((b.runs.len(), b.figure), (3, None));
    assert_eq!(resolve(&request("c.yaml"), &registry).unwrap().hash, single(&[]));
    let error = resolve(&request("a.yaml"), &registry).unwrap_err().to_string();
    assert!(error.contains("ccdni sweep"), "{error}");
}

#[rustfmt::skip] // one line a mistake
#[test]
fn mistakes_are_named_with_their_place() {
    for (block, grid, set, says) in [
        ("sweep: {grid: {train.bpt: [1, 2, 3]}}", vec![], vec![], vec!["s.yaml:7:", "`train.bpt`", "did you mean `bptt`?"]),
        ("sweep: {grid: {train.bptt: []}}", vec![], vec![], vec!["`sweep.grid.train.bptt`", "empty"]),
        ("sweep: {grid: {train.bptt: 3}}", vec![], vec![], vec!["expected a list", "`[3]`"]),
        ("sweep: {}", vec![], vec![], vec!["`sweep`", "defines no run"]),
        ("sweep: []", vec![], vec![], vec!["`sweep`", "defines no run"]),
        ("sweep: {zip: {train.bptt: [1, 2], train.epochs: [1]}}", vec![], vec![], vec!["one length", "`train.bptt` has 2", "`train.epochs` has 1"]),
        ("sweep: {gird: {train.bptt: [1]}}", vec![], vec![], vec!["`sweep.gird`", "did you mean `grid`?"]),
        ("sweep: {list: [{set: {train.bptt: 1}}]}", vec![], vec![], vec!["`sweep.list.0.name`", "missing"]),
        ("sweep: {list: [{name: a}, {name: a}]}", vec![], vec![], vec!["name of another item"]),
        ("sweep: {grid: {run.jobs: [1, 2]}}", vec![], vec![], vec!["`run`", "cannot be swept"]),
        ("sweep: {grid: {train.bptt: [1]}, zip: {train.bptt: [2]}}", vec![], vec![], vec!["two places"]),
        ("sweep: {grid: {model.layers.0.dni: [null], model.layers.0.dni.scale: [0.2]}}", vec![], vec![], vec!["`null` in the same combination"]),
        ("sweep: {grid: {train.bptt: [1, 2]}}", vec![], vec!["train.bptt=3"], vec!["is swept", "--set train.bptt=3"]),
        ("", vec!["train.bptt"], vec![], vec!["--grid train.bptt", "path=[values]"]),
        ("", vec!["train.bptt=[]"], vec![], vec!["empty grid"]),
        ("", vec!["train.bptt=[1"], vec![], vec!["not valid YAML"]),
        ("", vec![], vec!["sweep.grid=1"], vec!["`sweep` is for files only"]),
        ("figure: {scale: logg}", vec![], vec![], vec!["`figure.scale`", "did you mean `log`?"]),
        ("launcher: {kind: slrm}", vec![], vec![], vec!["`launcher.kind`", "did you mean `slurm`?"]),
        ("launcher: {kind: slurm, time: soon}", vec![], vec![], vec!["`launcher.time`", "`soon`", "`2:00:00`"]),
        ("launcher: {kind: slurm, time: 2}", vec![], vec![], vec!["`launcher.grace`", "120 s before a limit of 120 s"]),
        ("launcher: {kind: slurm, partition: 'a b'}", vec![], vec![], vec!["`launcher.partition`"]),
        ("launcher: {kind: slurm, sbatch: ['constraint=avx2']}", vec![], vec![], vec!["`launcher.sbatch.0`"]),
        ("launcher: {kind: slurm, sbatch: [\"--a\\n#SBATCH --b\"]}", vec![], vec![], vec!["`launcher.sbatch.0`"]),
        ("", vec![], vec!["launcher.kind=slurm"], vec!["`launcher` is for files only"]),
        ("sweep: {grid: {train.bptt: [1, 2], train.epochs: [1, 2, 3, 4, 5, 6]}, zip: {task.radius: [1]}}\nfigure: {z: 1}", vec![], vec![], vec!["`figure.z`"]),
    ] {
        let error = sweep(block, &grid, &set).expect_err(block);
        assert_eq!(error.exit_code(), 2, "{block}");
        let text = error.to_string();
        assert!(says.iter().all(|said| text.contains(said)), "{block}: {says:?} not in\n{text}");
    }
}

#[test]
fn every_combination_that_cannot_work_is_named_and_what_works_is_not() {
    let lesion = "sweep: {grid: {model.layers.0.dni: [{hidden: [8], lesion_at: 5}, {hidden: [8], lesion_at: 15}], train.epochs: [10, 12]}}";
    let text = sweep(lesion, &[], &[]).unwrap_err().to_string();
    assert_eq!(text.matches("lesion_at\":15").count(), 2, "{text}");
    assert!(
        text.contains("train.epochs=10") && text.contains("train.epochs=12") && !text.contains("lesion_at\":5}"),
        "{text}"
    );
    // A value that is wrong by itself is told once, with its place.
    let text = sweep("sweep: {grid: {train.bptt: [1, 0], train.epochs: [1, 2, 3]}}", &[], &[]).unwrap_err().to_string();
    assert!(text.contains("`train.bptt` is `0`") && !text.contains("combination"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A grid is the product of its lists: each run is what `--set` makes of its combination, none is missing.
    #[test]
    fn a_grid_is_the_product_of_its_lists(
        windows in prop::collection::btree_set(1usize..10, 1..4),
        epochs in prop::collection::btree_set(1usize..20, 1..4),
        sizes in prop::collection::btree_set(1usize..20, 1..3),
    ) {
        let text = |values: &BTreeSet<usize>| format!("{values:?}").replace('{', "[").replace('}', "]");
        let block = format!(
            "sweep: {{grid: {{train.bptt: {}, train.epochs: {}, model.layers.0.hidden: {}}}}}",
            text(&windows), text(&epochs), text(&sizes)
        );
        let swept = sweep(&block, &[], &[]).unwrap();
        let mut expected = BTreeSet::new();
        for window in &windows {
            for epochs in &epochs {
                for size in &sizes {
                    expected.insert(single(&[
                        format!("train.bptt={window}"),
                        format!("train.epochs={epochs}"),
                        format!("model.layers.0.hidden={size}"),
                    ]));
                }
            }
        }
        prop_assert_eq!(swept.combinations, windows.len() * epochs.len() * sizes.len());
        prop_assert_eq!(hashes(&swept).into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), expected);
    }
}
