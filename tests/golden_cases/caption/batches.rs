//! Batches of captions of one length, and the windows of a caption.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ccdni::data::captions::sampler::{Sampling, VALIDATION_BATCHES};
use ccdni::data::captions::windows::{StepInput, windows};
use serde_json::Value;

use super::{Outcome, list, number, same, wholes};

/// Counts, the order where it is fixed, and what changes from epoch to epoch.
pub fn sampler(_: &Path, case: &Value) -> Outcome {
    let all = std::iter::once(case).chain(list(case, "/edge")?);
    for set in all {
        let lengths = wholes(set, "/lengths")?;
        for one in list(set, "/cases")? {
            sampled(&lengths, one).map_err(|failed| format!("{one}: {}", failed.message().unwrap_or_default()))?;
        }
    }
    Ok(())
}

fn sampled(lengths: &[usize], case: &Value) -> Outcome {
    let flag = |name: &str| case[name].as_bool().ok_or(format!("no flag {name}"));
    let range = wholes(case, "/capt_range")?;
    let validate = flag("validate")?;
    let sampling = Sampling {
        batch_size: number(case, "/batch_size")? as usize,
        lengths: range[0]..=range[1],
        balance: flag("balance")?,
        shuffle: flag("shuffle")?,
        limit: validate.then_some(VALIDATION_BATCHES),
    };
    let epoch = |epoch: usize| sampling.batches(lengths, 1, "test", epoch);
    let total = number(case, "/total_batches")? as usize;
    if total == 0 {
        return same("an error", &epoch(1).is_err(), &true);
    }
    if sampling.balance && case["full_batches_per_length"].as_object().ok_or("no batches")?.values().any(|n| n == 0) {
        // The original balances nothing then, and says nothing. Here it is an error.
        return match epoch(1) {
            Err(error) if error.to_string().contains("cannot be balanced") => Ok(()),
            other => Err(format!("balancing gives {other:?}, expected an error").into()),
        };
    }
    let batches = epoch(1)?;
    let mut seen = BTreeSet::new();
    let mut per_length: BTreeMap<String, u64> = BTreeMap::new();
    for batch in &batches {
        same("the size of a batch", &batch.len(), &sampling.batch_size)?;
        let length = lengths[batch[0]];
        let fits = batch.iter().all(|&position| lengths[position] == length && seen.insert(position));
        same("one length, each position once, in the range", &(fits && sampling.lengths.contains(&length)), &true)?;
        *per_length.entry(length.to_string()).or_insert(0) += 1;
    }
    same("batches", &batches.len(), &total)?;
    if validate {
        let before = case["batches_before_limit"].as_object().ok_or("no batches before the limit")?;
        let sum: u64 = before.values().filter_map(Value::as_u64).sum();
        same("batches", &batches.len(), &VALIDATION_BATCHES.min(sum as usize))?;
        for (length, &count) in &per_length {
            let limit = before.get(length).and_then(Value::as_u64).unwrap_or(0);
            same(&format!("length {length} has at most {limit} batches"), &(count <= limit), &true)?;
        }
    } else {
        let expected = case["batches_per_length"].as_object().ok_or("no batches per length")?;
        let expected: BTreeMap<String, u64> =
            expected.iter().filter_map(|(l, n)| Some((l.clone(), n.as_u64()?))).filter(|(_, n)| *n > 0).collect();
        same("batches per length", &per_length, &expected)?;
    }
    if let Some(order) = case.get("order") {
        same("the batches", &serde_json::to_value(&batches)?, order)?;
    }
    same("the same order in every epoch", &(epoch(2)? == batches), &flag("same_order_every_epoch")?)
}

/// Inputs and targets of every window.
pub fn sequence(_: &Path, case: &Value) -> Outcome {
    for one in list(case, "/cases")? {
        let cut = windows(number(one, "/length")? as usize, number(one, "/T")? as usize);
        let json: Vec<Value> = cut
            .into_iter()
            .map(|window| {
                let input = |input| match input {
                    StepInput::Image => Value::from("image"),
                    StepInput::Word(position) => Value::from(position),
                };
                let inputs: Vec<Value> = window.inputs.into_iter().map(input).collect();
                serde_json::json!({ "inputs": inputs, "targets": window.targets.collect::<Vec<_>>() })
            })
            .collect();
        same("the windows", &Value::from(json), &one["windows"])?;
    }
    Ok(())
}
