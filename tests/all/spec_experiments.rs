//! The specs that come with the crate: they resolve, mean what they say, and their schema is the program's.

use std::path::{Path, PathBuf};

use ccdni::spec::sweep::{SweptRun, expand};
use ccdni::spec::{Bptt, Request, Resolved, file_schema, resolve};
use ccdni::tasks::Registry;

/// The seeds of NeurIPS 2021, Fig. 2.
const SEEDS: [u64; 10] = [1, 2, 1243, 34521, 135235, 236236, 7, 12, 1115, 987];

fn resolved(name: &str) -> Resolved {
    let request = Request { file: folder().join(name), ..Request::default() };
    resolve(&request, &Registry::built_in()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The runs that a file says: one, or those of its sweep.
fn expanded(name: &str) -> Vec<SweptRun> {
    let request = Request { file: folder().join(name), ..Request::default() };
    expand(&request, &[], &Registry::built_in()).unwrap_or_else(|error| panic!("{name}: {error}")).runs
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments")
}

/// Every YAML file under the experiments, relative to them.
fn specs() -> Vec<String> {
    let mut open = vec![folder()];
    let mut specs = Vec::new();
    while let Some(path) = open.pop() {
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                specs.push(path.strip_prefix(folder()).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    specs.sort();
    specs
}

#[test]
fn every_spec_resolves_and_names_its_schema() {
    let specs = specs();
    assert!(specs.len() >= 6, "{specs:?}");
    for name in specs {
        let text = std::fs::read_to_string(folder().join(&name)).unwrap();
        let up = "../".repeat(name.matches('/').count());
        let modeline = format!("# yaml-language-server: $schema={up}schema.json\n");
        assert!(text.starts_with(&modeline), "{name} does not begin with {modeline}");
        let runs = expanded(&name);
        if !name.starts_with("base/") {
            assert!(runs.iter().all(|run| run.resolved.spec.name.is_some()), "{name} has no name");
        }
    }
}

#[test]
fn the_papers_specs_differ_from_ours_in_their_seeds_alone() {
    for (ours, papers) in
        [("linedraw.yaml", "paper/fig2_linedraw.yaml"), ("linedraw_dni.yaml", "paper/fig2_linedraw_dni.yaml")]
    {
        let (ours, papers) = (resolved(ours), resolved(papers));
        assert_eq!(ours.hash, papers.hash);
        assert_eq!(ours.spec.seeds.0, [1]);
        assert_eq!(papers.spec.seeds.0, SEEDS);
    }
    assert_eq!(resolved("paper/fig2_linedraw_full.yaml").spec.seeds.0, SEEDS);
}

/// The windows of NeurIPS 2021, Fig. S3, short of the whole sequence.
const WINDOWS: [usize; 7] = [1, 2, 3, 4, 5, 7, 10];

#[test]
fn the_papers_digits_differ_from_ours_in_data_rate_and_seeds_alone() {
    for (figure, ours) in
        [("fig3_recognition", "seqmnist"), ("figs3_lines", "seqmnist_lines"), ("figs3_digits", "seqmnist_digits")]
    {
        for dni in ["", "_dni"] {
            let ours = resolved(&format!("{ours}{dni}.yaml"));
            for window in WINDOWS {
                let name = format!("paper/{figure}{dni}_bptt{window}.yaml");
                let mut papers = resolved(&name);
                assert_eq!(papers.spec.name, Some(format!("{figure}{dni}_bptt{window}").replace('_', "-")));
                assert_eq!(papers.spec.seeds.0.len(), 12, "{name}");
                assert_eq!(papers.spec.train.bptt, Some(Bptt::Steps(window)), "{name}");
                let rate = papers.spec.train.optimizer.keys.insert("lr".into(), 1e-3.into());
                assert_eq!(rate, Some(1e-4.into()), "{name}");
                let source = papers.spec.task.keys.insert("source".into(), ours.spec.task.keys["source"].clone());
                assert_eq!(source.unwrap()["kind"], "hub", "{name}");
                papers.spec.train.bptt = ours.spec.train.bptt.clone();
                let (papers, ours) = (papers.spec, ours.spec.clone());
                assert_eq!((papers.task, papers.model, papers.train), (ours.task, ours.model, ours.train), "{name}");
            }
        }
        let full = resolved(&format!("paper/{figure}_full.yaml"));
        assert_eq!((full.spec.train.bptt, full.spec.seeds.0.len()), (None, 12));
    }
}

#[test]
fn a_synthesizer_is_all_that_is_added_to_the_network_that_reads_digits() {
    for name in ["seqmnist", "seqmnist_lines", "seqmnist_digits"] {
        let (plain, dni) = (resolved(&format!("{name}.yaml")), resolved(&format!("{name}_dni.yaml")));
        let mut without = dni.spec;
        assert_eq!(without.model.layers[0].dni.take().unwrap().keys["hidden"], serde_json::json!([300]));
        assert_eq!((without.task, without.model, without.train), (plain.spec.task, plain.spec.model, plain.spec.train));
    }
}

#[test]
fn the_networks_of_figure_2_differ_in_one_thing_each() {
    let (plain, dni, full) =
        (resolved("linedraw.yaml"), resolved("linedraw_dni.yaml"), resolved("paper/fig2_linedraw_full.yaml"));
    assert!(plain.hash != dni.hash && plain.hash != full.hash && dni.hash != full.hash);
    let mut without = dni.spec.clone();
    without.model.layers[0].dni = None;
    assert_eq!(
        (without.model, without.train, &dni.spec.task),
        (plain.spec.model.clone(), plain.spec.train.clone(), &plain.spec.task)
    );
    let mut cut = full.spec.clone();
    cut.train.bptt = plain.spec.train.bptt.clone();
    assert_eq!((cut.model, cut.train), (plain.spec.model, plain.spec.train));
    assert_eq!(full.spec.train.bptt, None);
}

/// Figures are made of the runs of single files: whoever has trained those has trained most of the figure.
#[test]
fn sweeps_share_their_runs_with_the_files_of_single_runs() {
    let of = |name: &str| -> std::collections::BTreeMap<String, (String, Vec<u64>)> {
        let named = |run: SweptRun| (run.item.unwrap(), (run.resolved.hash, run.resolved.spec.seeds.0));
        expanded(name).into_iter().map(named).collect()
    };
    let single = |name: &str| {
        let run = resolved(name);
        (run.hash, run.spec.seeds.0)
    };
    let fig2 = of("paper/fig2.yaml");
    assert_eq!(fig2["cRNN"], single("paper/fig2_linedraw.yaml"));
    assert_eq!(fig2["ccRNN"], single("paper/fig2_linedraw_dni.yaml"));
    assert_eq!(fig2["full BPTT"], single("paper/fig2_linedraw_full.yaml"));
    let lesions = of("paper/lesions.yaml");
    assert_eq!(lesions.len(), 10);
    for (item, file) in [
        ("lesion early", "lesion_early"),
        ("lesion late", "lesion_late"),
        ("olive early", "olive_early"),
        ("olive late", "olive_late"),
        ("fixed random", "fixed_random"),
        ("sparse fibres", "sparse_fibres"),
        ("small init", "small_init"),
    ] {
        assert_eq!(lesions[item], single(&format!("lesions/linedraw_{file}.yaml")), "{item}");
    }
    assert_eq!(lesions["cRNN"].0, fig2["cRNN"].0);
}

/// The same of the figures that are grids.
#[test]
fn grids_share_their_runs_with_the_files_of_single_runs() {
    for (figure, base) in
        [("figs3_lines", "figs3_lines"), ("figs3_digits", "figs3_digits"), ("fig3", "fig3_recognition")]
    {
        let mut files = std::collections::BTreeMap::new();
        for window in WINDOWS {
            files.insert(("cRNN".to_owned(), window.to_string()), format!("paper/{base}_bptt{window}.yaml"));
            files.insert(("ccRNN".to_owned(), window.to_string()), format!("paper/{base}_dni_bptt{window}.yaml"));
        }
        files.insert(("full BPTT".into(), "null".into()), format!("paper/{base}_full.yaml"));
        let runs = expanded(&format!("paper/{figure}.yaml"));
        assert_eq!(runs.len(), files.len());
        for run in runs {
            let window = run.values.iter().find(|(path, _)| path == "train.bptt").unwrap().1.clone();
            let file = files.remove(&(run.item.clone().unwrap(), window)).unwrap();
            let single = resolved(&file);
            assert_eq!((run.resolved.hash, run.resolved.spec.seeds.0), (single.hash, single.spec.seeds.0), "{file}");
        }
        assert!(files.is_empty(), "{files:?}");
    }
    for (file, task) in [("lesions_seqmnist", "seqmnist"), ("lesions_seqmnist_lines", "seqmnist_lines")] {
        for run in expanded(&format!("paper/{file}.yaml")) {
            let item = run.item.unwrap();
            let single = match item.as_str() {
                "intact" => resolved(&format!("{task}_dni.yaml")),
                "cRNN" => resolved(&format!("{task}.yaml")),
                "full BPTT" => continue,
                item => resolved(&format!("lesions/{task}_{}.yaml", item.replace(' ', "_"))),
            };
            assert_eq!(run.resolved.hash, single.hash, "{file}: {item}");
            assert_eq!(run.resolved.spec.seeds.0, [1, 2, 3, 4, 5], "{file}: {item}");
        }
    }
}

/// A sheet over tasks, or of another metric, trains nothing that the figures of single tasks do not.
#[test]
fn sheets_share_their_runs_with_the_figures_of_single_tasks() {
    let hashes = |names: &[&str]| -> std::collections::BTreeSet<String> {
        names.iter().flat_map(|name| expanded(&format!("paper/{name}.yaml"))).map(|run| run.resolved.hash).collect()
    };
    let tasks = hashes(&["nc3_recognition", "nc3_lines", "nc3_digits"]);
    assert_eq!(tasks.len(), 45);
    for (sheet, runs) in [("nc3", 42), ("nc3_dysmetria", 28), ("nc3_certainty", 14)] {
        let sheet = hashes(&[sheet]);
        assert!(sheet.len() == runs && sheet.is_subset(&tasks), "{sheet:?}");
    }
    assert_eq!(hashes(&["nc2_dysmetria"]), hashes(&["nc2"]));
    assert_eq!(hashes(&["fig4_captioning"]), hashes(&["nc8_balanced"]));
    for (figure, of) in
        [("nc5_recognition", "nc3_recognition"), ("nc5_lines", "nc3_lines"), ("nc5_digits", "nc3_digits")]
    {
        let shared = hashes(&[figure]).intersection(&hashes(&[of])).count();
        assert_eq!(shared, 7, "{figure}: its ccRNNs are those of {of}");
    }
}

/// The original's settings that differ from ours.
#[test]
fn the_papers_figures_follow_the_original() {
    for name in ["nc3_recognition", "nc3_lines", "nc3_digits"] {
        for run in expanded(&format!("paper/{name}.yaml")) {
            assert_eq!(run.resolved.spec.task.keys["shuffle"], false, "{name}");
            assert_eq!(run.resolved.spec.seeds.0.len(), 10, "{name}");
        }
    }
    let captions = expanded("paper/nc8.yaml");
    assert_eq!(captions.len(), 15, "three networks, five windows");
    for run in captions {
        let spec = run.resolved.spec;
        assert_eq!((spec.model.input_dropout, spec.seeds.0.len()), (0.5, 10));
        assert_eq!((&spec.task.keys["balance"], &spec.task.keys["lengths"][1]), (&false.into(), &25.into()));
    }
    for run in expanded("paper/s_initialisation.yaml") {
        let layer = &run.resolved.spec.model.layers[0];
        assert_eq!(layer.init_scaled == ccdni::spec::InitScaled::Weights, layer.dni.is_none());
    }
}

/// Names of results never change: a changed hash here orphans every directory of results.
#[test]
fn the_hashes_stay() {
    let hashes: Vec<(String, String)> = specs()
        .into_iter()
        .flat_map(|name| {
            let runs = expanded(&name);
            let one = runs.len() == 1;
            let named = move |run: SweptRun| match run.item.filter(|_| !one) {
                Some(item) => (format!("{name}: {item}"), run.resolved.hash),
                None => (name.clone(), run.resolved.hash),
            };
            runs.into_iter().map(named).collect::<Vec<_>>()
        })
        .collect();
    insta::assert_debug_snapshot!(hashes);
    insta::assert_snapshot!(resolved("linedraw_dni.yaml").canonical);
}

#[test]
fn the_schema_beside_them_is_the_programs() {
    let kept = std::fs::read_to_string(folder().join("schema.json")).unwrap();
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
    assert!(
        kept == file_schema(&Registry::built_in()),
        "experiments/schema.json is old: write it anew with `cargo run -- schema > experiments/schema.json`"
    );
}

#[test]
fn the_readmes_spec_and_table_are_true() {
    let readme = include_str!("../../README.md");
    let spec = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir(copy.path().join("base")).unwrap();
    std::fs::copy(folder().join("base/linedraw.yaml"), copy.path().join("base/linedraw.yaml")).unwrap();
    std::fs::write(copy.path().join("spec.yaml"), spec).unwrap();
    let request = Request { file: copy.path().join("spec.yaml"), ..Request::default() };
    let resolved = resolve(&request, &Registry::built_in()).unwrap();
    assert_eq!(resolved.spec.seeds.0.len(), 10);

    // A row names one spec or several of one folder, `*` standing for any end of a name.
    let mut named: Vec<String> = Vec::new();
    for row in readme.lines().filter_map(|line| line.strip_prefix("| `experiments/")) {
        let cell = row.split(" | ").next().unwrap();
        let (folder, _) = cell.split('`').next().unwrap().rsplit_once('/').unwrap_or_default();
        for name in cell.split('`').step_by(2).map(|name| name.rsplit('/').next().unwrap()) {
            named.push(if folder.is_empty() { name.into() } else { format!("{folder}/{name}") });
        }
    }
    named.retain(|name| name.ends_with(".yaml"));
    let is = |pattern: &str, name: &str| match pattern.split_once('*') {
        Some((begin, end)) => name.starts_with(begin) && name.ends_with(end),
        None => pattern == name,
    };
    let runnable: Vec<String> = specs().into_iter().filter(|name| !name.starts_with("base/")).collect();
    let missing: Vec<_> = runnable.iter().filter(|name| !named.iter().any(|pattern| is(pattern, name))).collect();
    let absent: Vec<_> = named.iter().filter(|pattern| !runnable.iter().any(|name| is(pattern, name))).collect();
    assert_eq!((missing, absent), (Vec::new(), Vec::new()), "specs the tables lack, and names that are no specs");
}

#[test]
fn the_readme_names_the_runs_that_its_commands_make() {
    let readme = include_str!("../../README.md");
    let hash = resolved("linedraw_dni.yaml").hash;
    assert!(readme.contains(&format!("outputs/{hash}/")) && readme.contains(&format!("ccdni show {} ", &hash[..4])));
    let named = readme.split("outputs/").skip(1).filter_map(|rest| rest.get(..12));
    let known = [hash, resolved("captioning_dni.yaml").hash];
    assert!(
        named.filter(|name| name.bytes().all(|b| b.is_ascii_hexdigit())).all(|name| known.iter().any(|k| k == name))
    );
}
