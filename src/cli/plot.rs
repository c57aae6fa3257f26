//! `ccdni plot`: finished runs side by side.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::report::Format;
use crate::report::compare::{Comparison, Options, Run};
use crate::run::directory::{self, Directory};
use crate::run::finished::Finished;
use crate::run::table;
use crate::spec::Seeds;
use crate::tasks::Registry;

/// Plot finished runs on one set of axes: mean and standard error over seeds.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ccdni plot 3f9a 5c11 --log
  ccdni plot 3f9a 5c11 77d0 --label lesion_at --out figures/lesions
  ccdni plot 3f9a 5c11 77d0 80e2 --panels train.bptt --reference 91ab --metric train_loss

The legend is made of the keys in which the specs differ. A key may be a whole path or its end:
`train.bptt`, `bptt`; `model` is cRNN or ccRNN, `name` what the spec is called.
Vertical dashed lines are where a lesion or freezing begins.")]
pub struct Args {
    /// The runs: first digits of their hashes, or their directories.
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<String>,
    /// Keys that make the legend, instead of all that differ; may be repeated, or a list with commas.
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    label: Vec<String>,
    /// A panel for each value of this key.
    #[arg(long, value_name = "KEY")]
    panels: Option<String>,
    /// A run that is drawn in every panel, such as full backpropagation.
    #[arg(long, value_name = "RUN")]
    reference: Option<String>,
    /// A column of metrics.csv: `val_mse` or `mse`, `train_loss`, `cosine`; by default the first validation metric.
    #[arg(long, value_name = "NAME")]
    metric: Option<String>,
    /// A logarithmic value axis.
    #[arg(long)]
    log: bool,
    /// Exactly these seeds of every run: `3`, `1,2,7`, or `1..10`; otherwise every finished one.
    #[arg(long, value_name = "SEEDS")]
    seeds: Option<Seeds>,
    /// Where to write: both FILE.svg and FILE.png, or, with one of these endings, that file alone; by default
    /// plots/comparison in the directory of the run directories.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Directory of the run directories.
    #[arg(long, value_name = "DIR", default_value = "outputs")]
    outputs: PathBuf,
}

/// Does it.
pub fn execute(args: Args, registry: &Registry) -> Result<()> {
    let out = args.out.clone().unwrap_or_else(|| args.outputs.join("plots").join("comparison"));
    let (directory, name, formats) = target(&out)?;
    let mut notes = String::new();
    let mut open = |name: &String| -> Result<Run> {
        let run = directory::locate(&args.outputs, name)?;
        let finished = Finished::of(&run, args.seeds.as_ref())?;
        notes.extend(finished.note(&run).map(|note| format!("note: {note}\n")));
        let Directory { path } = run;
        Ok(Run { path, seeds: finished.seeds })
    };
    let runs: Vec<Run> = args.runs.iter().map(&mut open).collect::<Result<_>>()?;
    let options = Options {
        reference: args.reference.as_ref().map(open).transpose()?,
        metric: args.metric,
        log: args.log,
        label: args.label,
        panels: args.panels,
    };
    let comparison = Comparison::new(&runs, &options, registry)?;
    let files = comparison.save(&directory, &name, &formats)?;
    let mut text = match comparison.table() {
        [header, rows @ ..] => format!("{}\n", table::align(header, rows)),
        [] => String::new(),
    };
    for file in files {
        text += &format!("{}\n", file.display());
    }
    super::print(&(text + &notes))
}

/// Directory, name and formats of what is asked for.
fn target(out: &Path) -> Result<(PathBuf, String, Vec<Format>)> {
    let refuse = |what: &str| Err(Error::Usage(format!("--out {}: {what}", out.display())));
    let directory = out.parent().unwrap_or(Path::new("")).to_path_buf();
    let Some(name) = out.file_name().and_then(|name| name.to_str()) else {
        return refuse("is no name of a file");
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
