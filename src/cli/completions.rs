//! `ccdni completions`: completion scripts for shells.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::error::Result;

/// Print a completion script for a shell.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ccdni completions bash > ~/.local/share/bash-completion/completions/ccdni
  ccdni completions zsh > ~/.zfunc/_ccdni
  ccdni completions fish > ~/.config/fish/completions/ccdni.fish")]
pub struct Args {
    /// The shell.
    shell: Shell,
}

/// Does it.
pub fn execute(args: Args) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "ccdni", &mut script);
    super::print(&String::from_utf8_lossy(&script))
}
