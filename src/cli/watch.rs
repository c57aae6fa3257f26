//! `ccdni watch`: a run in training, in the terminal.

use std::path::PathBuf;

use crate::error::Result;
use crate::run::directory;
use crate::view;

/// Show the curves of a run in the terminal, live.
#[derive(clap::Args)]
#[command(after_help = "Example:
  ccdni watch 3f9a

Arrow keys show other columns of metrics.csv, `l` a logarithmic axis; `q` ends it.")]
pub struct Args {
    /// The run: the first digits of its hash, or its directory.
    #[arg(value_name = "RUN")]
    run: String,
    /// Directory of the run directories.
    #[arg(long, value_name = "DIR", default_value = "outputs")]
    outputs: PathBuf,
}

pub fn execute(args: Args) -> Result<()> {
    view::watch(&directory::locate(&args.outputs, &args.run)?)
}
