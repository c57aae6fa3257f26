//! `rules/`: learning rules step by step, in their published variant. One folder per case: `case.json` beside
//! `tensors.safetensors`; `README.md` there has the equations.
//!
//! The rules run in the loop that the trainer runs them in; losses, and what the published codes do to gradients before an
//! update, are here.

mod batches;
mod setup;
mod stream;

use std::path::{Path, PathBuf};

use libtest_mimic::Trial;

use super::{Outcome, entries, stem};
use setup::Case;

/// One test per folder, whatever is in it: a case that cannot be read fails.
pub fn trials(dir: &Path) -> Vec<Trial> {
    let case_test = |case: PathBuf| Trial::test(format!("rules/{}", stem(&case)), move || check(&case));
    entries(dir).into_iter().filter(|path| path.is_dir()).map(case_test).collect()
}

fn check(dir: &Path) -> Outcome {
    let case = Case::read(dir)?;
    match case.text("/kind")? {
        "online_rule" => stream::check(&case),
        "bp_lambda" | "eprop" => batches::check(&case),
        kind => Err(format!("a case of unknown kind `{kind}`").into()),
    }
}
