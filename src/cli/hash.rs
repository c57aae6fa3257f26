//! `ccdni hash`: the hash of a spec.

use super::spec_args::SpecArgs;
use crate::error::Result;
use crate::spec::resolve;
use crate::tasks::Registry;

/// Print the hash that names a spec's output directory.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  ls outputs/$(ccdni hash experiments/linedraw_dni.yaml --set train.bptt=3)")]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,
}

pub fn execute(args: Args, registry: &Registry) -> Result<()> {
    super::print(&format!("{}\n", resolve(&args.spec.request(), registry)?.hash))
}
