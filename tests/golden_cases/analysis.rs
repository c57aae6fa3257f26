//! `analysis/`: measures of populations, and cosines of gradients.

use std::path::Path;

use candle_core::Tensor;
use ccdni::measures::{Population, cosine};
use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use super::{Outcome, failing, json_files, number, read_json, read_tensors, stem, tensor};

/// One test per JSON file.
pub fn trials(dir: &Path) -> Vec<Trial> {
    let case_of = |file: std::path::PathBuf| {
        let name = format!("analysis/{}", stem(&file));
        let case = match read_json(&file) {
            Ok(case) => case,
            Err(error) => return failing(name, error.message().unwrap_or_default().to_owned()),
        };
        match case["kind"].as_str() {
            Some("correlation") => Trial::test(name, move || check_correlation(&file, &case)),
            Some("row_cosine_similarity") => Trial::test(name, move || check_cosine(&file, &case)),
            kind => failing(name, format!("there is no kind {kind:?}")),
        }
    };
    json_files(dir).into_iter().map(case_of).collect()
}

fn check_correlation(file: &Path, case: &Value) -> Outcome {
    let tensors = read_tensors(&file.with_extension("safetensors"))?;
    let tolerance = number(case, "/tolerance/rel")?;
    let expected = case["expected"].as_object().ok_or("no expected values")?;
    for name in expected.keys() {
        let as_it_is = population(tensor(&tensors, name)?)?;
        let turned = as_it_is.clone().with_short_side_as_variables();
        for (measure, value) in [
            ("n_variables", turned.variables() as f64),
            ("n_observations", turned.observations() as f64),
            ("population_correlation", turned.population_correlation()),
            ("mean_abs_pearson", turned.mean_abs_pearson()),
            ("coding_space", turned.coding_space()),
            ("sparsity", turned.sparsity()),
            ("mean_abs_pearson_no_transpose", as_it_is.mean_abs_pearson()),
        ] {
            let wanted = number(case, &format!("/expected/{name}/{measure}"))?;
            // Not the other way round: a NaN has to fail.
            let within = (value - wanted).abs() <= tolerance * wanted.abs();
            if !within {
                return Err(format!("{name}: {measure} is {value}, expected {wanted} within {tolerance} of it").into());
            }
        }
    }
    Ok(())
}

/// A matrix whose rows are the variables.
fn population(matrix: &Tensor) -> Result<Population, Failed> {
    Ok(Population::new(matrix.dim(0)?, matrix.t()?.flatten_all()?.to_vec1::<f64>()?))
}

fn check_cosine(file: &Path, case: &Value) -> Outcome {
    let tensors = read_tensors(&file.with_extension("safetensors"))?;
    let tolerance = number(case, "/tolerance/abs")?;
    let rows = |name| -> Result<Vec<Vec<f64>>, Failed> { Ok(tensor(&tensors, name)?.to_vec2()?) };
    let (a, b) = (rows("gradient_a")?, rows("gradient_b")?);
    let expected = tensor(&tensors, "cosine")?.to_vec1::<f64>()?;
    if a.len() != expected.len() || b.len() != expected.len() {
        return Err(format!("{} and {} rows for {} cosines", a.len(), b.len(), expected.len()).into());
    }
    let cosines: Vec<f64> = a.iter().zip(&b).map(|(a, b)| cosine(a, b)).collect();
    let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
    let all = cosines.iter().copied().zip(expected).chain([(mean, number(case, "/mean")?)]);
    for (index, (value, wanted)) in all.enumerate() {
        let within = (value - wanted).abs() <= tolerance;
        if !within {
            return Err(format!("cosine {index} is {value}, expected {wanted} within {tolerance}").into());
        }
    }
    Ok(())
}
