//! `ccdni view`: the runs in a browser.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use super::spec_args::SpecArgs;
use crate::error::{Error, Result};
use crate::run::directory;
use crate::spec::sweep::expand;
use crate::tasks::Registry;
use crate::view;

/// Show the runs in a browser: curves, results and progress, live.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ccdni view
  ccdni view experiments/paper/fig2.yaml --open

Ctrl-C ends it. It only reads, and only this machine can connect; over ssh, forward its port
(`ssh -L 8420:localhost:8420 MACHINE`). With --host other machines can connect, too: its address then
has a token without which nothing is shown, and is not encrypted.")]
pub struct Args {
    /// Spec files whose sweeps are shown, with the runs that are still missing.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Directory of the run directories.
    #[arg(long, value_name = "DIR", default_value = "outputs")]
    outputs: PathBuf,
    /// The port; 0 for any that is free.
    #[arg(long, value_name = "N", default_value_t = 8420)]
    port: u16,
    /// Listen on this address, such as 0.0.0.0 for all of the machine's, instead of this machine alone.
    #[arg(long, value_name = "ADDRESS")]
    host: Option<IpAddr>,
    /// Open the browser.
    #[arg(long)]
    open: bool,
}

pub fn execute(args: Args, registry: &Registry) -> Result<()> {
    directory::check_outputs(&args.outputs)?;
    let sweeps = args.files.into_iter().map(|file| {
        let request = SpecArgs { spec: file.clone(), set: Vec::new() }.request();
        Ok((file, expand(&request, &[], registry)?))
    });
    let sweeps = sweeps.collect::<Result<_>>()?;
    let host = args.host.unwrap_or(Ipv4Addr::LOCALHOST.into());
    let options = view::Options { outputs: args.outputs, sweeps, host, port: args.port };
    view::serve(options, registry, |url| {
        super::print(&format!("{url}\n"))?;
        if args.open { open(url) } else { Ok(()) }
    })
}

/// Opens an address in the user's browser.
fn open(url: &str) -> Result<()> {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let quiet = std::process::Stdio::null;
    let started = std::process::Command::new(program).arg(url).stdout(quiet()).stderr(quiet()).spawn();
    started.map(|_| ()).map_err(|error| {
        Error::Usage(format!("cannot open a browser with `{program}`: {error}; leave out `--open` and open {url}"))
    })
}
