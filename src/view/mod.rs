//! The runs of a directory in a browser, `ccdni view`, and one of them in a terminal, `ccdni watch`.
//!
//! A server that only reads: the pages are files of this program (`assets/`), their data are JSON made from the runs' directories by
//! the same readers as everything else, and what changes is sent as it changes (`index.rs`). It listens on this machine unless it
//! was started for others, who then need a token (`guard.rs`).

mod assets;
mod commands;
mod compare;
mod curves;
mod files;
mod guard;
pub mod http;
mod index;
mod recordings;
mod routes;
mod run;
pub mod summary;
mod sweep;
mod watch;

pub use watch::watch;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::spec::sweep::Sweep;
use crate::tasks::Registry;
use guard::Guard;
use index::Index;
use recordings::Measured;
use routes::Site;

/// What is shown, and where.
pub struct Options {
    /// Directory of the run directories.
    pub outputs: PathBuf,
    /// Spec files with their sweeps.
    pub sweeps: Vec<(PathBuf, Sweep)>,
    /// The address to listen on; anything but this machine's own needs a token.
    pub host: IpAddr,
    /// The port; 0 for any that is free.
    pub port: u16,
}

/// Serves the pages for as long as the process lives. `ready` is called with their address once they can be opened.
///
/// # Errors
/// [`Error::Usage`] if the address cannot be used.
pub fn serve(options: Options, registry: &Registry, ready: impl FnOnce(&str) -> Result<()>) -> Result<()> {
    let address = SocketAddr::new(options.host, options.port);
    let refused = |error: std::io::Error| {
        Error::Usage(format!(
            "cannot listen on {address}: {error}; choose another port with `--port`, or any free one with `--port 0`"
        ))
    };
    let listener = TcpListener::bind(address).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let guard = Guard::new(address)?;
    let url = guard.url();
    let index = Index::new(options.outputs.clone());
    index.follow()?;
    let (outputs, sweeps, measured) = (options.outputs, options.sweeps, Measured::default());
    let site = Site { index, guard, outputs, sweeps, measured, registry };
    ready(&url)?;
    http::serve(&listener, |request| site.answer(request))
}
