//! `rnn/`: training steps of recurrent networks. One folder per case: `case.json` beside `tensors.safetensors`.
//!
//! Every case is run in each order of execution that applies to it, on the same engine, updater and recorder that the
//! trainer uses.

mod caption;
mod predictor;
mod setup;

use std::path::{Path, PathBuf};

use libtest_mimic::Trial;

use super::{Outcome, entries, stem};
pub use setup::{Case, backends};

/// One test per folder, whatever is in it: a case that cannot be read fails.
pub fn trials(dir: &Path) -> Vec<Trial> {
    let case_test = |case: PathBuf| Trial::test(format!("rnn/{}", stem(&case)), move || check(&case));
    entries(dir).into_iter().filter(|path| path.is_dir()).map(case_test).collect()
}

/// Runs one case.
fn check(dir: &Path) -> Outcome {
    let case = Case::read(dir)?;
    match case.text("kind")? {
        "rnn_predictor" | "record_gradients" => predictor::check(&case),
        "caption_decoder" => caption::check(&case),
        kind => Err(format!("a case of unknown kind `{kind}`").into()),
    }
}
