//! The arguments of every command that reads a spec.

use std::path::PathBuf;

use crate::spec::{ENV_PREFIX, Request};

/// A spec file, and what is laid over it.
#[derive(Debug, clap::Args)]
pub struct SpecArgs {
    /// The spec: a YAML file such as `experiments/linedraw_dni.yaml`.
    #[arg(value_name = "SPEC")]
    pub spec: PathBuf,
    /// Lays a value over the spec: a dotted path and a YAML value; may be repeated, later ones win.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub set: Vec<String>,
}

impl SpecArgs {
    /// The request that these arguments and the environment make.
    pub fn request(&self) -> Request {
        // Only our own variables: others may not even be text.
        let ours = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            let name = name.into_string().ok().filter(|name| name.starts_with(ENV_PREFIX))?;
            Some((name, value.to_string_lossy().into_owned()))
        };
        Request { file: self.spec.clone(), set: self.set.clone(), env: std::env::vars_os().filter_map(ours).collect() }
    }
}
