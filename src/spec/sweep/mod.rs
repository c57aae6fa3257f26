//! Sweeps: many specs from one file.
//!
//! Each combination of a sweep sets values in a spec, as `--set` does. All combinations are resolved before anything is trained, and
//! their problems are reported together.

mod points;

use std::collections::BTreeMap;

use figment::value::Value;

use super::layers::{self, Layers};
use super::provenance::Provenance;
use super::validator::{UNKNOWN_KEY, Validator};
use super::{Blocks, Claim, FigureBlock, LauncherBlock, Plugins, Request, Resolved, resolve_layers, schema};
use crate::error::{Error, Problem, Problems, Result};
use points::Point;

/// The runs of a file, and its other blocks.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// The distinct runs, in the order of the file.
    pub runs: Vec<SweptRun>,
    /// Number of combinations: more than runs if several are equivalent.
    pub combinations: usize,
    /// The figure.
    pub figure: Option<FigureBlock>,
    /// Claims about the runs.
    pub claims: Vec<Claim>,
    /// Where the runs are trained.
    pub launcher: LauncherBlock,
}

/// One run of a sweep.
#[derive(Debug, Clone)]
pub struct SweptRun {
    /// The spec, with the seeds of all equivalent combinations.
    pub resolved: Resolved,
    /// Its name in a `list`.
    pub item: Option<String>,
    /// The values of the combination: dotted paths, and YAML on one line.
    pub values: Vec<(String, String)>,
}

impl Sweep {
    /// A sweep of one run.
    pub fn of_one(resolved: Resolved) -> Self {
        let runs = vec![SweptRun { resolved, item: None, values: Vec::new() }];
        Sweep { runs, combinations: 1, figure: None, claims: Vec::new(), launcher: LauncherBlock::default() }
    }
}

impl SweptRun {
    /// The run's name in a list, or its values; empty for a single run.
    pub fn description(&self) -> String {
        let values =
            || self.values.iter().map(|(path, value)| format!("{path}={value}")).collect::<Vec<_>>().join(", ");
        self.item.clone().unwrap_or_else(values)
    }
}

/// Most combinations listed in one message.
const NAMED: usize = 8;

/// Expands and resolves every run of a file; a file without a `sweep` block is one run. `grid` has `path=[...]` from the command
/// line, which replace these paths in the file's grids.
///
/// # Errors
/// [`Error::Spec`] with every problem of the blocks, or else of every combination.
pub fn expand(request: &Request, grid: &[String], plugins: &dyn Plugins) -> Result<Sweep> {
    expand_version(request, grid, false, plugins)
}

/// As [`expand`], with the file's `quick` block applied to all runs.
///
/// # Errors
/// As [`expand`]; [`Error::Usage`] if the file has no such block.
pub fn expand_quick(request: &Request, plugins: &dyn Plugins) -> Result<Sweep> {
    expand_version(request, &[], true, plugins)
}

fn expand_version(request: &Request, grid: &[String], quick: bool, plugins: &dyn Plugins) -> Result<Sweep> {
    let layers = Layers::read(request, layers::defaults(plugins.schema()));
    if layers.incomplete {
        return Err(Error::Spec(Problems(layers.problems)));
    }
    let (blocks, points) = read_blocks(&layers, grid, request)?;
    if quick && blocks.quick.is_empty() {
        let what = "has no `quick` version of its runs; add a `quick` block, such as `quick: {train.epochs: 5}`";
        return Err(Error::Usage(format!("{} {what}", request.file.display())));
    }
    let quick: Vec<(String, Value)> = match layers.blocks().remove("quick").filter(|_| quick) {
        Some(Value::Dict(_, table)) => table.into_iter().map(|(path, value)| (path, points::untagged(value))).collect(),
        _ => Vec::new(),
    };
    let mut problems: Vec<(Problem, Vec<usize>)> = Vec::new();
    let mut resolved = Vec::new();
    for (index, point) in points.iter().enumerate() {
        let mut layers = layers.clone();
        for (path, value) in &quick {
            layers.lay(&format!("quick.{path}"), path, value.clone());
        }
        for set in point.in_order() {
            layers.lay(&set.origin, &set.path, set.value.clone());
        }
        match resolve_layers(layers, request, plugins, 0) {
            Ok(mut run) => {
                // `ccdni list` shows the run's name in the list too.
                if let (Some(item), Some(name)) = (&point.item, &mut run.spec.name) {
                    *name = format!("{name}: {item}");
                }
                resolved.push(run);
            }
            Err(Error::Spec(found)) => found.0.into_iter().for_each(|problem| gather(&mut problems, problem, index)),
            Err(error) => return Err(error),
        }
    }
    if !problems.is_empty() {
        let problems = problems.into_iter().map(|(problem, of)| with_combinations(problem, &of, &points)).collect();
        return Err(Error::Spec(Problems(problems)));
    }
    let combinations = points.len();
    let runs = unite(points, resolved);
    Ok(Sweep {
        combinations,
        claims: blocks.claims.into_iter().flat_map(|claim| each(claim, &runs)).collect(),
        runs,
        figure: blocks.figure,
        launcher: blocks.launcher.unwrap_or_default(),
    })
}

/// The claims that a claim stands for: one for each value that its runs have of the key `each`.
fn each(claim: Claim, runs: &[SweptRun]) -> Vec<Claim> {
    let Claim::Below { run, than, each: Some(key), .. } = &claim else { return vec![claim] };
    let mut values: Vec<&str> = Vec::new();
    for swept in runs.iter().filter(|swept| swept.item.as_ref().is_some_and(|item| item == run || item == than)) {
        let value = swept.values.iter().find(|(path, _)| path == key).map(|(_, value)| value.as_str());
        values.extend(value.filter(|value| !values.contains(value)));
    }
    let with = |value: &str| {
        let mut one = claim.clone();
        if let Claim::Below { at, .. } = &mut one {
            at.insert(key.clone(), value.into());
        }
        one
    };
    // A key that is not swept selects no run, which is reported where the runs are looked up.
    if values.is_empty() { vec![with("each")] } else { values.into_iter().map(with).collect() }
}

/// The typed blocks and the combinations.
fn read_blocks(layers: &Layers, grid: &[String], request: &Request) -> Result<(Blocks, Vec<Point>)> {
    let schema = schema::blocks();
    let merged: Value = layers.blocks().into();
    let mut validator = Validator::new(layers, schema);
    let mut repaired = merged.clone();
    validator.run(&mut repaired);
    let mut problems = validator.problems;
    let points = match problems.is_empty() {
        true => points::read(merged.find_ref("sweep"), grid, layers, &mut problems),
        false => Vec::new(),
    };
    let blocks: Result<Blocks, String> = repaired.deserialize().map_err(|error| error.to_string());
    if let Ok(Blocks { launcher: Some(launcher), .. }) = &blocks {
        problems.extend(check_launcher(launcher));
    }
    match blocks {
        Ok(blocks) if problems.is_empty() => return Ok((blocks, points)),
        Ok(_) => {}
        Err(what) if problems.is_empty() => problems.push(Problem::new("", what)),
        Err(_) => {}
    }
    let provenance = Provenance { layers, schema, merged: &merged, file: &request.file };
    Err(Error::Spec(Problems(provenance.finish(problems))))
}

/// Validates what the schema of a launcher cannot express.
fn check_launcher(launcher: &LauncherBlock) -> Option<Problem> {
    let time = launcher.time.as_ref()?;
    let problem = |key: &str, message: String, help: &str| Some(Problem::new(key, message).help(help));
    match time.seconds() {
        None | Some(0) => problem(
            "launcher.time",
            "is not a time limit".into(),
            "give minutes, or a time such as `30:00`, `2:00:00`, `1-12` (days and hours)",
        ),
        Some(limit) if limit <= launcher.grace as u64 => problem(
            "launcher.grace",
            format!("leaves no time to train: tasks would stop {} s before a limit of {limit} s", launcher.grace),
            "set a longer `time`, or a shorter `grace`",
        ),
        Some(_) => None,
    }
}

/// Records which combinations have a problem. An unknown key is one problem, whatever its value.
fn gather(problems: &mut Vec<(Problem, Vec<usize>)>, problem: Problem, of: usize) {
    let same = |(other, _): &&mut (Problem, Vec<usize>)| {
        let alike = other.key == problem.key && other.message == problem.message;
        alike && (problem.message == UNKNOWN_KEY || *other == problem)
    };
    match problems.iter_mut().find(same) {
        Some((_, all)) => {
            if all.last() != Some(&of) {
                all.push(of);
            }
        }
        None => problems.push((problem, vec![of])),
    }
}

/// Adds to a problem the combinations that have it, unless all do.
fn with_combinations(mut problem: Problem, of: &[usize], points: &[Point]) -> Problem {
    // If every combination with that value has the problem, its origin in the sweep is enough.
    let has_value = |point: &&Point| {
        let mut values = point.values.iter();
        values.any(|set| {
            set.path == problem.key
                && Some(&set.origin) == problem.origin.as_ref()
                && Some(set.shown()) == problem.value
        })
    };
    if of.len() == points.len() || of.len() == points.iter().filter(has_value).count() {
        return problem;
    }
    let labels: Vec<String> = of
        .iter()
        .take(NAMED)
        .filter_map(|&index| points.get(index))
        .map(|point| format!("({})", point.label()))
        .collect();
    let more = if of.len() > NAMED { format!(" and {} more", of.len() - NAMED) } else { String::new() };
    problem.message +=
        &format!("; in the combination{} {}{more}", if of.len() > 1 { "s" } else { "" }, labels.join(", "));
    problem
}

/// Merges equivalent combinations into one run with the seeds of all.
fn unite(points: Vec<Point>, resolved: Vec<Resolved>) -> Vec<SweptRun> {
    let mut runs: Vec<SweptRun> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for (point, resolved) in points.into_iter().zip(resolved) {
        if let Some(run) = places.get(&resolved.hash).and_then(|&place| runs.get_mut(place)) {
            let seeds = &mut run.resolved.spec.seeds.0;
            seeds
                .extend(resolved.spec.seeds.0.iter().filter(|seed| !seeds.contains(seed)).copied().collect::<Vec<_>>());
            run.item = run.item.take().or(point.item);
            continue;
        }
        places.insert(resolved.hash.clone(), runs.len());
        let values = point.values.iter().filter(|set| set.path != "seeds").map(|set| (set.path.clone(), set.shown()));
        runs.push(SweptRun { values: values.collect(), item: point.item, resolved });
    }
    runs
}
