//! `ccdni check`: what a spec resolves to, without running anything.

use super::spec_args::SpecArgs;
use crate::error::Result;
use crate::run::init_from;
use crate::spec::{Resolved, resolve};
use crate::tasks::Registry;

/// Check a spec, and show what it resolves to, its hash, and where each value was set.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  ccdni check experiments/linedraw_dni.yaml\n  \
    ccdni check experiments/linedraw_dni.yaml --set train.bptt=5 --set 'model.layers.0.dni.hidden=[100]'")]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,
}

pub fn execute(args: Args, registry: &Registry) -> Result<()> {
    let resolved = resolve(&args.spec.request(), registry)?;
    init_from::check(&resolved, registry)?;
    super::print(&report(&resolved))
}

/// The resolved spec, followed by hash and origins as YAML comments; all of it is a valid spec.
fn report(resolved: &Resolved) -> String {
    let width = resolved.origins.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    let mut text = resolved.to_yaml();
    text.push_str(&format!("\n# hash: {}\n#\n# set by (all other values are defaults):\n", resolved.hash));
    for (key, origin) in &resolved.origins {
        text.push_str(&format!("#   {key:width$}  {origin}\n"));
    }
    text
}
