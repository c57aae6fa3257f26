//! `tasks/`: inputs and targets of the tasks.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use ccdni::data::digits::{Glyphs, Source};
use ccdni::data::{Inputs, Targets};
use ccdni::tasks::Task;
use ccdni::tasks::linedraw::LineDraw;
use ccdni::tasks::seqmnist::{Ends, Mode, SeqMnist, curves};
use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use super::{Outcome, assert_close, json_files, not_covered, number, read_json, read_tensors, stem, tensor};

/// One test per JSON file of a task that is built in.
pub fn trials(dir: &Path) -> Vec<Trial> {
    let mut trials = Vec::new();
    for file in json_files(dir) {
        let name = format!("tasks/{}", stem(&file));
        match stem(&file).as_str() {
            "linedraw" => trials.push(Trial::test(name, move || check_linedraw(&file))),
            "mnist_lines" => trials.push(Trial::test(name, move || check_lines(&file))),
            "mnist_digits" => trials.push(Trial::test(name, move || check_digits(&file))),
            "random_lines_grid" => trials.push(Trial::test(name, move || check_grid(&file))),
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
        let spec = LineDraw {
            points: points.parse()?,
            seq_len: number(&case, "/seq_len")? as usize,
            radius: number(&case, "/radius")?,
            ..LineDraw::default()
        };
        let showcase = spec.open(1)?.showcase()?.ok_or("no showcase")?;
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

/// What seqmnist wants drawn, class by class: `[classes, steps, 2]`.
fn drawn(spec: SeqMnist, seed: u64) -> Result<Tensor, Failed> {
    // Enough images for every class to be among them.
    let source = Source::Glyphs(Glyphs { train: 200, test: 0, ..Glyphs::default() });
    let showcase = SeqMnist { source, ..spec }.open(seed)?.showcase()?.ok_or("no showcase")?;
    let labels: Vec<String> = (0..10).map(|digit| format!("digit {digit}")).collect();
    match showcase.batch.targets {
        Targets::Values(targets) if showcase.labels == labels => Ok(targets),
        _ => Err("the showcase has all digits in order, with numbers as targets".into()),
    }
}

fn check_lines(file: &Path) -> Outcome {
    let case = read_json(file)?;
    let tensors = read_tensors(&file.with_extension("safetensors"))?;
    let tolerance = number(&case, "/tolerance/abs")?;
    let radius = number(&case, "/radius")?;
    let targets = drawn(SeqMnist { mode: Mode::Lines, radius, ..SeqMnist::default() }, 1)?;
    assert_close("targets", &targets, tensor(&tensors, "targets")?, tolerance)?;
    let ends = targets.narrow(1, targets.dim(1)? - 1, 1)?.squeeze(1)?;
    assert_close("points", &ends, tensor(&tensors, "points")?, tolerance)
}

fn check_digits(file: &Path) -> Outcome {
    let case = read_json(file)?;
    let tensors = read_tensors(&file.with_extension("safetensors"))?;
    let tolerance = number(&case, "/tolerance/abs")?;
    for steps in case["seq_lens"].as_array().ok_or("no seq_lens")? {
        let steps = steps.as_u64().ok_or("a length is no number")? as usize;
        let targets = drawn(SeqMnist { mode: Mode::Digits, row: 784 / steps, ..SeqMnist::default() }, 1)?;
        let name = format!("seq{steps}.targets");
        assert_close(&name, &targets, tensor(&tensors, &name)?, tolerance)?;
    }
    Ok(())
}

/// The candidates are the case's; what a seed draws are distinct ones among them, and lines go there straight.
fn check_grid(file: &Path) -> Outcome {
    let case = read_json(file)?;
    let tensors = read_tensors(&file.with_extension("safetensors"))?;
    let (tolerance, magnitude) = (1e-6, number(&case, "/magnitude")?);
    let nodes: Vec<f64> = curves::grid().into_iter().flatten().collect();
    let nodes = Tensor::from_vec(nodes, (16, 2), &Device::Cpu)?;
    assert_close("grid points", &nodes, tensor(&tensors, "grid_points")?, tolerance)?;
    assert_close("end points", &(nodes * magnitude)?, tensor(&tensors, "end_points")?, 1e-5)?;

    let candidates = tensor(&tensors, "end_points")?.to_dtype(DType::F64)?.to_vec2::<f64>()?;
    let mut seen = vec![false; candidates.len()];
    for seed in 1..=20 {
        let spec = SeqMnist { mode: Mode::Lines, ends: Ends::Grid, radius: magnitude, ..SeqMnist::default() };
        let lines = drawn(spec, seed)?.to_dtype(DType::F64)?.to_vec3::<f64>()?;
        let mut nodes = Vec::new();
        for line in &lines {
            let end = &line[line.len() - 1];
            let near = |node: &Vec<f64>| (0..2).all(|axis| (node[axis] - end[axis]).abs() < 1e-5);
            let node = candidates.iter().position(near).ok_or("a line ends on no node")?;
            if nodes.contains(&node) {
                return Err(format!("seed {seed}: two lines end on node {node}").into());
            }
            nodes.push(node);
            for (step, point) in line.iter().enumerate() {
                let way = step as f64 / (line.len() - 1) as f64;
                if (0..2).any(|axis| (point[axis] - way * end[axis]).abs() > 1e-5) {
                    return Err(format!("seed {seed}: step {step} is not on the straight line").into());
                }
            }
        }
        nodes.into_iter().for_each(|node| seen[node] = true);
    }
    // Ten of sixteen, twenty times: a node that is never drawn has a chance of (6/16)^20.
    if seen.contains(&false) { Err("some nodes are never drawn".into()) } else { Ok(()) }
}

/// `[cues, 2]`: the end points that the JSON lists.
fn listed_ends(entry: &Value) -> Result<Tensor, Failed> {
    let cues = entry["cues"].as_array().ok_or("no cues")?;
    let mut flat = Vec::new();
    for cue in cues {
        flat.extend([number(cue, "/end_point/0")?, number(cue, "/end_point/1")?]);
    }
    Ok(Tensor::from_vec(flat, (cues.len(), 2), &Device::Cpu)?.to_dtype(DType::F32)?)
}
