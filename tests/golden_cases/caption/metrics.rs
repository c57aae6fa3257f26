//! Scores of captions, and the words they are computed on.

use std::path::Path;

use ccdni::data::captions::ptb;
use ccdni::data::captions::scores::{self, Scored};
use serde_json::Value;

use super::{Outcome, list, number, same, text, texts};

const TOLERANCE: f64 = 1e-9;

/// Both tokenised forms of every sentence, exactly; every score of the set and of each image.
pub fn scores(_: &Path, case: &Value) -> Outcome {
    for set in list(case, "/sets")? {
        let name = text(set, "/name")?;
        let forms = [("simple", ptb::simple as fn(&str) -> String), ("ptb", ptb::tokenize)];
        for (form, cut) in forms.into_iter().filter(|(form, _)| set["scores"].get(form).is_some()) {
            let mut images = Vec::new();
            for image in list(set, "/images")? {
                let candidate = cut(text(image, "/candidate")?);
                let references: Vec<String> = texts(image, "/references")?.into_iter().map(cut).collect();
                same(form, &candidate.as_str(), &text(image, &format!("/{form}/candidate"))?)?;
                let expected = texts(image, &format!("/{form}/references"))?;
                same(form, &references.iter().map(String::as_str).collect::<Vec<_>>(), &expected)?;
                images.push(Scored { candidate, references });
            }
            for score in scores::all(&images) {
                let metric = score.name;
                close(
                    &format!("{name} {form} {metric}"),
                    score.corpus,
                    set,
                    &format!("/scores/{form}/corpus/{metric}"),
                )?;
                for (at, value) in score.per_image.iter().enumerate() {
                    let pointer = format!("/scores/{form}/per_image/{metric}/{at}");
                    close(&format!("{name} {form} {metric}, image {at}"), *value, set, &pointer)?;
                }
            }
        }
    }
    Ok(())
}

fn close(what: &str, actual: f64, case: &Value, pointer: &str) -> Outcome {
    let expected = number(case, pointer)?;
    // Not the other way round: a NaN has to fail.
    let within = (actual - expected).abs() <= TOLERANCE;
    if within { Ok(()) } else { Err(format!("{what}: is {actual}, expected {expected}").into()) }
}

/// Further strings: how many of them come out as the treebank tokeniser has them is reported, and may not fall.
pub fn strings(_: &Path, case: &Value) -> Outcome {
    let strings = list(case, "/ptb_strings")?;
    let mut missed = Vec::new();
    for string in strings {
        let (sentence, expected) = (text(string, "/text")?, text(string, "/ptb")?);
        let actual = ptb::tokenize(sentence);
        if actual != expected {
            missed.push(format!("{sentence:?}: {actual:?}, expected {expected:?}"));
        }
    }
    eprintln!("caption/ptb_strings: {} of {} as expected", strings.len() - missed.len(), strings.len());
    let shown = missed.iter().map(|line| format!("\n  {line}")).collect::<String>();
    if missed.len() * 50 > strings.len() { Err(format!("{} differ:{shown}", missed.len()).into()) } else { Ok(()) }
}
