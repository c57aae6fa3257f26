//! `ccdni completions`: completion scripts for shells.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

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

pub fn execute(args: Args) -> Result<()> {
    // A program with custom tasks has another name.
    let program = std::env::args_os().next().map(PathBuf::from);
    let name = program.as_deref().and_then(Path::file_stem).and_then(OsStr::to_str).unwrap_or("ccdni").to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut visible(&super::Cli::command()), name, &mut script);
    super::print(&String::from_utf8_lossy(&script))
}

/// The program without hidden commands.
fn visible(program: &clap::Command) -> clap::Command {
    let commands = program.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    clap::Command::new("ccdni").version(env!("CARGO_PKG_VERSION")).subcommands(commands)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_for_people_is_not_completed() {
        let program = visible(&super::super::Cli::command());
        let names: Vec<&str> = program.get_subcommands().map(clap::Command::get_name).collect();
        assert!(names.contains(&"run") && names.contains(&"completions") && !names.contains(&"worker"), "{names:?}");
    }
}
