//! `tasks/`: inputs and targets of the tasks.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use ccdni::data::{Inputs, Targets};
use ccdni::tasks::Task;
use ccdni::tasks::linedraw::{LineDraw, LineDrawSpec};
use libtest_mimic::Trial;
use serde_json::Value;

use super::{Outcome, assert_close, json_files, not_covered, number, read_json, read_tensors, stem, tensor};

/// One test a JSON file of a task that is built in.
pub fn trials(dir: &Path) -> Vec<Trial> {
    let mut trials = Vec::new();
    for file in json_files(dir) {
        let name = format!("tasks/{}", stem(&file));
        match stem(&file).as_str() {
            "linedraw" => trials.push(Trial::test(name, move || check_linedraw(&file))),
            _ => not_covered(&name, "not covered yet"),
        }
    }
    trials
}

/// The showcase holds every cue once, in ascending order, as the case does.
fn check_linedraw(file: &Path) -> Outcome {
    let case = read_json(file)?;
    let tensors = read_tensors(&file.with_extension("safetensors"))?;
    let tolerance = number(&case, "/tolerance/abs")?;
    for (points, entry) in case["npoints"].as_object().ok_or("no npoints")? {
        let spec = LineDrawSpec {
            points: points.parse()?,
            seq_len: number(&case, "/seq_len")? as usize,
            radius: number(&case, "/radius")?,
            ..LineDrawSpec::default()
        };
        let showcase = LineDraw::open(spec, 1)?.showcase()?.ok_or("no showcase")?;
        let (Inputs::Dense(inputs), Targets::Values(targets)) = (&showcase.batch.inputs, &showcase.batch.targets)
        else {
            return Err("linedraw has dense inputs and numbers as targets".into());
        };
        let expected = |name: &str| tensor(&tensors, &format!("npoints{points}.{name}"));
        assert_close(&format!("{points} points, inputs"), inputs, expected("inputs")?, tolerance)?;
        assert_close(&format!("{points} points, targets"), targets, expected("targets")?, tolerance)?;

        let cues: Vec<i64> = expected("cues")?.to_vec1()?;
        let labels: Vec<String> = cues.iter().map(|cue| format!("cue {cue}")).collect();
        if labels != showcase.labels {
            return Err(format!("{points} points: labels {:?}, expected {labels:?}", showcase.labels).into());
        }
        let last = targets.dim(1)? - 1;
        let ends = targets.narrow(1, last, 1)?.squeeze(1)?;
        assert_close(&format!("{points} points, ends"), &ends, &listed_ends(entry)?, tolerance)?;
    }
    Ok(())
}

/// `[cues, 2]`: the end points that the JSON lists.
fn listed_ends(entry: &Value) -> Result<Tensor, libtest_mimic::Failed> {
    let cues = entry["cues"].as_array().ok_or("no cues")?;
    let mut flat = Vec::new();
    for cue in cues {
        flat.extend([number(cue, "/end_point/0")?, number(cue, "/end_point/1")?]);
    }
    Ok(Tensor::from_vec(flat, (cues.len(), 2), &Device::Cpu)?.to_dtype(DType::F32)?)
}
