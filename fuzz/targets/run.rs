//! A finished run of which one file is replaced; the last byte says which. All readers of runs go over it: tables, comparisons,
//! figures, pages, analyses.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use ccdni::report::analysis::analyse;
use ccdni::report::compare::{Comparison, FinishedRun, Groups, Options, Results};
use ccdni::report::page::{Page, ReportedRun, ReportedSeed};
use ccdni::run::directory::Directory;
use ccdni::run::status::SeedStatus;
use ccdni::run::table;
use ccdni::spec::read_resolved;
use ccdni::view::summary::Summary;

/// The files that are replaced, and their original content.
const FILES: [(&str, &[u8]); 6] = [
    ("seeds/1/unit.json", include_bytes!("../run/seeds/1/unit.json")),
    ("manifest.json", include_bytes!("../run/manifest.json")),
    ("seeds/1/metrics.csv", include_bytes!("../run/seeds/1/metrics.csv")),
    ("spec.yaml", include_bytes!("../run/spec.yaml")),
    ("seeds/1/showcase.safetensors", include_bytes!("../run/seeds/1/showcase.safetensors")),
    ("seeds/1/recordings/epoch-0001.safetensors", include_bytes!("../run/seeds/1/recordings/epoch-0001.safetensors")),
];

/// A copy of the run.
static RUN: LazyLock<PathBuf> = LazyLock::new(|| {
    let run = fuzz::directory().join("0123456789ab");
    std::fs::create_dir_all(run.join("seeds/1/recordings")).expect("a directory");
    for (name, bytes) in FILES {
        std::fs::write(run.join(name), bytes).expect("a file");
    }
    std::fs::write(run.join("seeds/1/decoder.safetensors"), include_bytes!("../run/seeds/1/decoder.safetensors"))
        .expect("a file");
    run
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (choice, bytes) = fuzz::choice(data);
    let (name, original) = FILES[choice % FILES.len()];
    std::fs::write(RUN.join(name), bytes).expect("a file");
    read_all();
    std::fs::write(RUN.join(name), original).expect("a file");
});

fn read_all() {
    let directory = Directory { path: RUN.clone() };
    let _ = directory.manifest().map(|manifest| directory.seeds(&manifest));
    let _ = table::seeds(&directory, &[1], &[]);
    let _ = directory.unit(1).settled();
    let summary = Summary::read(&directory, None);
    let SeedStatus { standing, reason, .. } = SeedStatus::of(&directory, 1);
    let run = FinishedRun { path: RUN.clone(), seeds: vec![1] };
    let one = std::slice::from_ref(&run);
    if let Ok(results) = Results::new(one, &[None], fuzz::registry()) {
        let _ = (results.long().csv(), results.wide().json());
    }
    if let Ok(groups) = Groups::new(one, &[], None, fuzz::registry()) {
        let _ = groups.csv();
    }
    let figure = Comparison::new(one, &Options::default(), fuzz::registry()).and_then(|comparison| comparison.svg());
    let Ok(spec) = read_resolved(&RUN.join("spec.yaml")) else { return };
    if let Ok(analysis) = analyse(&RUN, &spec, &[1]) {
        let _ = analysis.summary();
    }
    let seed = ReportedSeed { seed: 1, done: true, standing: standing.to_string(), reason };
    let page = Page {
        title: summary.name.unwrap_or_default(),
        written: summary.created,
        runs: vec![ReportedRun { hash: directory.hash(), path: RUN.clone(), item: None, spec, units: vec![seed] }],
        figure: Some(figure.map_err(|error| error.to_string())),
        verdicts: Vec::new(),
        commands: Vec::new(),
        file: None,
    };
    let _ = page.html();
}
