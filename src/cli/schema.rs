//! `ccdni schema`: the JSON Schema of spec files, for editors.

use crate::error::{Error, Result};
use crate::spec::file_schema;
use crate::tasks::Registry;

/// Print the JSON Schema of spec files, for editors.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  ccdni schema > experiments/schema.json\n\n\
    and as the first line of a spec:\n  # yaml-language-server: $schema=schema.json")]
pub struct Args {}

pub fn execute(_args: Args, registry: &Registry) -> Result<()> {
    let text = serde_json::to_string_pretty(&file_schema(registry))
        .map_err(|error| Error::Usage(format!("the schema of a task cannot be written: {error}")))?;
    super::print(&format!("{text}\n"))
}
