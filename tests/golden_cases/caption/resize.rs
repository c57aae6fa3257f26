//! Images decoded and resized.

use std::path::{Path, PathBuf};

use ccdni::data::images::{read, resize_square};
use image::RgbImage;
use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use super::{Outcome, failing, list, not_covered, read_json, text};

/// Largest and mean difference to Pillow: of resizing, and of decoding a JPEG.
const RESIZE: (u8, f64) = (3, 0.25);
const DECODE: (u8, f64) = (4, 0.25);

/// One test per image.
pub fn trials(dir: &Path) -> Vec<Trial> {
    let cases = read_json(&dir.join("resize.json"));
    let images = match cases
        .as_ref()
        .map_err(|error| format!("{error:?}"))
        .and_then(|case| list(case, "/images").map_err(|error| error.message().unwrap_or_default().to_owned()))
    {
        Ok(images) => images.to_vec(),
        Err(error) => return vec![failing("caption/resize", error)],
    };
    let mut trials = Vec::new();
    for image in images {
        let name = format!("caption/resize/{}", image["file"].as_str().unwrap_or("?"));
        if image["file"] == "checker.png" {
            not_covered(&name, "patterns of single pixels need Pillow's own arithmetic");
            continue;
        }
        let dir = dir.to_path_buf();
        trials.push(Trial::test(name, move || check(&dir, &image)));
    }
    trials
}

fn check(dir: &Path, case: &Value) -> Outcome {
    let file = |pointer: &str| -> Result<PathBuf, Failed> { Ok(dir.join(text(case, pointer)?)) };
    let original = file("/file")?;
    // What resizing does is measured from Pillow's decoded image; what the decoder does, by itself.
    let source = match case.get("decoded") {
        Some(_) => {
            let decoded = read(&file("/decoded")?)?;
            if case.get("exif_orientation").is_none() {
                close("decoded", &read(&original)?, &decoded, DECODE)?;
            }
            decoded
        }
        None => read(&original)?,
    };
    for size in [256, 224] {
        let expected = read(&file(&format!("/resized/{size}/file"))?)?;
        close(&format!("resized to {size}"), &resize_square(&source, size)?, &expected, RESIZE)?;
    }
    Ok(())
}

fn close(what: &str, actual: &RgbImage, expected: &RgbImage, (max, mean): (u8, f64)) -> Outcome {
    if actual.dimensions() != expected.dimensions() {
        return Err(format!("{what}: {:?}, expected {:?}", actual.dimensions(), expected.dimensions()).into());
    }
    let differences: Vec<u8> = actual.iter().zip(expected.iter()).map(|(a, b)| a.abs_diff(*b)).collect();
    let largest = differences.iter().max().copied().unwrap_or(0);
    let average = differences.iter().map(|&d| f64::from(d)).sum::<f64>() / differences.len() as f64;
    if largest > max || average > mean {
        return Err(
            format!("{what}: differs by up to {largest}, {average:.3} on average; at most {max}, {mean}").into()
        );
    }
    Ok(())
}
