//! `ccdni plot`: plots of finished runs.

use std::path::{Path, PathBuf};

use super::which_runs;
use crate::error::{Error, Result};
use crate::report::Format;
use crate::report::compare::{Comparison, FinishedRun, Options, RelativeTo};
use crate::run::table;
use crate::spec::sweep::{Sweep, SweptRun};
use crate::spec::{FigureBlock, Scale, Seeds, nearest};
use crate::tasks::Registry;

/// Plot finished runs on one set of axes: mean and standard error over seeds.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ccdni plot 3f9a 5c11 --log
  ccdni plot experiments/paper/fig2.yaml
  ccdni plot 3f9a 5c11 77d0 --label lesion_at --out figures/lesions
  ccdni plot 3f9a 5c11 77d0 80e2 --panels train.bptt --reference 91ab --metric train_loss

The legend is made of the keys in which the specs differ. A key may be a whole path or its end:
`train.bptt`, `bptt`; `model` is cRNN or ccRNN, `name` what the spec is called.
Vertical dashed lines mark lesions and freezing.")]
pub struct Args {
    /// The runs: first digits of their hashes, or their directories; or one spec file, whose `figure` block applies unless flags
    /// override it.
    #[arg(value_name = "RUN|FILE", required = true)]
    runs: Vec<String>,
    /// Keys in the legend, instead of all that differ; may be repeated, or separated by commas.
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    label: Vec<String>,
    /// One panel per value of this key.
    #[arg(long, value_name = "KEY")]
    panels: Option<String>,
    /// A run to draw in every panel, such as full backpropagation.
    #[arg(long, value_name = "RUN")]
    reference: Option<String>,
    /// A column of metrics.csv: `val_mse` or `mse`, `train_loss`, `cosine`; by default the first validation metric.
    #[arg(long, value_name = "NAME")]
    metric: Option<String>,
    /// A logarithmic value axis.
    #[arg(long)]
    log: bool,
    /// Exactly these seeds of every run: `3`, `1,2,7`, or `1..10`; by default every finished one.
    #[arg(long, value_name = "SEEDS")]
    seeds: Option<Seeds>,
    /// A key with whole numbers along the horizontal axis, instead of epochs.
    #[arg(long, value_name = "KEY")]
    x: Option<String>,
    /// Where to write: both FILE.svg and FILE.png, or, with one of these endings, that file alone; by default
    /// plots/comparison, or plots/ and the name of the spec file, in the directory of the run directories.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Directory of the run directories.
    #[arg(long, value_name = "DIR", default_value = "outputs")]
    outputs: PathBuf,
}

pub fn execute(args: Args, registry: &Registry) -> Result<()> {
    let found = which_runs::find(&args.runs, false, args.seeds.as_ref(), &args.outputs, registry)?;
    let mut notes = found.notes;
    let (mut runs, mut options, mut name) = (found.runs, Options::default(), "comparison".to_owned());
    if let Some((file, sweep)) = &found.file {
        name = stem(file);
        (runs, options) = block(sweep, runs)?;
    }
    if let Some(name) = &args.reference {
        let (run, note) = which_runs::one(name, args.seeds.as_ref(), &args.outputs)?;
        notes.extend(note);
        (options.reference, options.reference_name) = (Some(run), None);
    }
    options.metric = args.metric.or(options.metric);
    options.log |= args.log;
    options.label = if args.label.is_empty() { options.label } else { args.label };
    options.panels = args.panels.or(options.panels);
    options.x = args.x.or(options.x);
    let out = args.out.unwrap_or_else(|| args.outputs.join("plots").join(name));
    let text = draw(&runs, &options, &out, registry)?;
    super::print(&(text + &notes))
}

/// Draws a file's `figure` block to `<out>.svg` and `<out>.png`; returns the text to print.
pub(super) fn draw_file(file: &Path, sweep: &Sweep, out: &Path, outputs: &Path, registry: &Registry) -> Result<String> {
    let (runs, options) = block(sweep, which_runs::of_sweep(sweep, file, outputs)?)?;
    draw(&runs, &options, out, registry)
}

/// A file's figure, of finished units only: runs without any are left out.
pub(super) fn of_done(sweep: &Sweep, runs: Vec<FinishedRun>, registry: &Registry) -> Result<Comparison> {
    let (mut runs, mut options) = block(sweep, runs)?;
    let mut done = runs.iter().map(|run| !run.seeds.is_empty());
    options.names.retain(|_| done.next().unwrap_or(true));
    runs.retain(|run| !run.seeds.is_empty());
    if let Some(to) = &mut options.relative_to {
        to.partners.retain(|(run, partner)| !run.seeds.is_empty() && !partner.seeds.is_empty());
    }
    options.reference = options.reference.filter(|run| !run.seeds.is_empty());
    Comparison::new(&runs, &options, registry)
}

/// A file's name without its extension.
pub(super) fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn draw(runs: &[FinishedRun], options: &Options, out: &Path, registry: &Registry) -> Result<String> {
    let (directory, name, formats) = target(out)?;
    let comparison = Comparison::new(runs, options, registry)?;
    let files = comparison.save(&directory, &name, &formats)?;
    let mut text = match comparison.table() {
        [header, rows @ ..] => format!("{}\n", table::align(header, rows)),
        [] => String::new(),
    };
    for file in files {
        text += &format!("{}\n", file.display());
    }
    Ok(text)
}

/// The runs to draw and the options of a `figure` block.
fn block(sweep: &Sweep, mut runs: Vec<FinishedRun>) -> Result<(Vec<FinishedRun>, Options)> {
    let Some(figure) = &sweep.figure else { return Ok((runs, Options::default())) };
    let all = runs.clone();
    let mut names: Vec<Option<String>> = sweep.runs.iter().map(|run| run.item.clone()).collect();
    let reference = match &figure.reference {
        None => None,
        Some(name) => match sweep.runs.iter().position(|run| run.item.as_ref() == Some(name)) {
            Some(place) => {
                names.remove(place);
                Some(runs.remove(place))
            }
            None => return Err(unnamed(sweep, "reference", name)),
        },
    };
    let options = Options {
        relative_to: figure.relative_to.as_ref().map(|name| relative_to(sweep, figure, name, &all)).transpose()?,
        percent: figure.percent,
        names,
        metric: figure.y.clone(),
        log: figure.scale == Scale::Log,
        times: Some(figure.times),
        label: figure.color.clone(),
        panels: figure.panels.clone(),
        x: Some(figure.x.clone()).filter(|x| x != "epoch"),
        reference,
        reference_name: figure.reference.clone(),
    };
    Ok((runs, options))
}

/// The runs named `name`, each for those with the same values of the grid.
fn relative_to(sweep: &Sweep, figure: &FigureBlock, name: &str, runs: &[FinishedRun]) -> Result<RelativeTo> {
    let is_named = |run: &SweptRun| run.item.as_deref() == Some(name);
    if !sweep.runs.iter().any(is_named) {
        return Err(unnamed(sweep, "relative_to", name));
    }
    let mut partners = Vec::new();
    for (run, finished) in sweep.runs.iter().zip(runs).filter(|(run, _)| !is_named(run)) {
        let common = |other: &SweptRun| run.values.iter().filter(|value| other.values.contains(value)).count();
        let named = sweep.runs.iter().zip(runs).filter(|(other, _)| is_named(other));
        // The first of those that share most values.
        let best = named.rev().max_by_key(|(other, _)| common(other));
        partners.extend(best.map(|(_, partner)| (finished.clone(), partner.clone())));
    }
    let FigureBlock { relative, test, holm, .. } = *figure;
    Ok(RelativeTo { name: name.to_owned(), partners, relative, test, holm })
}

/// The error of a `figure` block that names a run which no list names.
fn unnamed(sweep: &Sweep, key: &str, name: &str) -> Error {
    let named: Vec<&str> = sweep.runs.iter().filter_map(|run| run.item.as_deref()).collect();
    let help = nearest(name, named.iter().copied()).map_or_else(
        || format!("the lists name {}", if named.is_empty() { "no run".into() } else { named.join(", ") }),
        |near| format!("did you mean `{near}`?"),
    );
    Error::Usage(format!("`figure.{key}` is `{name}`, which is not the name of a run in a list; {help}"))
}

/// Directory, name and formats of the output.
fn target(out: &Path) -> Result<(PathBuf, String, Vec<Format>)> {
    let refuse = |what: &str| Err(Error::Usage(format!("--out {}: {what}", out.display())));
    let directory = out.parent().unwrap_or(Path::new("")).to_path_buf();
    let Some(name) = out.file_name().and_then(|name| name.to_str()) else {
        return refuse("is not a file name");
    };
    if out.is_dir() || out.as_os_str().to_string_lossy().ends_with('/') {
        return refuse("is a directory; name a file in it");
    }
    match name.rsplit_once('.') {
        Some((stem, end)) if !stem.is_empty() => match end.to_ascii_lowercase().as_str() {
            "svg" => Ok((directory, stem.into(), vec![Format::Svg])),
            "png" => Ok((directory, stem.into(), vec![Format::Png])),
            "pdf" | "eps" | "ps" | "jpg" | "jpeg" | "tif" | "tiff" | "gif" | "webp" | "bmp" => {
                refuse("figures are written as `.svg` or `.png`")
            }
            _ => Ok((directory, name.into(), Format::ALL.into())),
        },
        _ => Ok((directory, name.into(), Format::ALL.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_chooses_the_format() {
        let of =
            |out: &str| target(Path::new(out)).map(|(dir, name, formats)| (dir.display().to_string(), name, formats));
        let both = Format::ALL.to_vec();
        assert_eq!(of("fig3").unwrap(), (String::new(), "fig3".into(), both.clone()));
        assert_eq!(of("a/b.v2").unwrap(), ("a".into(), "b.v2".into(), both));
        assert_eq!(of("a/b.svg").unwrap(), ("a".into(), "b".into(), vec![Format::Svg]));
        assert_eq!(of("b.PNG").unwrap(), (String::new(), "b".into(), vec![Format::Png]));
        for bad in ["fig.pdf", "..", "a/", ""] {
            assert_eq!(of(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }
}
