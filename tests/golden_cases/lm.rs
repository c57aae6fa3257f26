//! `lm/`: language models. Training steps on the engine, whole runs on the trainer, and the layout of text. One folder per case.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use ccdni::data::text::{Corpus, FILES, TextSource, Unit};
use ccdni::data::{Batch, BatchIndex, Dataset, Inputs, Split, Targets};
use ccdni::model::{Model, Plugins};
use ccdni::nn::Gradients;
use ccdni::spec::task_shape::{First, Input, Target, TargetKind, TaskShape, When};
use ccdni::spec::{Keep, ModelSpec, Readout, Spec};
use ccdni::tasks::Language;
use ccdni::tasks::language::Columns;
use ccdni::train::backend::Backend;
use ccdni::train::device_batch::DeviceBatch;
use ccdni::train::engine::{self, Order, Role, Trace};
use ccdni::train::loss::Feedback;
use ccdni::train::update::Updater;
use ccdni::train::{self, Callback, Finished, Outcome as Trained, Trainer, optimizer};
use libtest_mimic::{Failed, Trial};
use serde_json::json;

use super::super::on_device;
use super::rnn::{Case, backends};
use super::{Outcome, assert_close, entries, stem};

/// One test per folder, whatever is in it: a case that cannot be read fails.
pub fn trials(dir: &Path) -> Vec<Trial> {
    let case_test = |case: PathBuf| Trial::test(format!("lm/{}", stem(&case)), move || check(&case));
    entries(dir).into_iter().filter(|path| path.is_dir()).map(case_test).collect()
}

fn check(dir: &Path) -> Outcome {
    let case = Case::read(dir)?;
    match case.text("kind")? {
        "word_language_model" => {
            for (name, backend) in backends() {
                steps(&case, backend.as_ref())
                    .map_err(|failed| format!("{name}: {}", failed.message().unwrap_or("failed")))?;
            }
            Ok(())
        }
        "token_stream_layout" => layout(&case),
        "word_language_model_run" => [Keep::Last, Keep::Best].into_iter().try_for_each(|keep| run(&case, keep)),
        kind => Err(format!("a case of unknown kind `{kind}`").into()),
    }
}

fn shape(case: &Case, steps: usize) -> Result<TaskShape, Failed> {
    let words = case.whole("vocab_size")?;
    Ok(TaskShape {
        input: Input::Tokens { vocabulary: words, first: First::Token },
        target: Target { kind: TargetKind::Classes { count: words }, when: When::EveryStep },
        steps: Some(steps),
        validates: true,
    })
}

fn model_spec(case: &Case) -> Result<ModelSpec, Failed> {
    let mut model = case.model_spec()?;
    if case.flag("/tied") {
        model.readout = Readout::Tied;
    }
    Ok(model)
}

/// The case's name of a parameter of ours.
fn theirs(name: &str) -> String {
    for (ours, theirs) in [
        ("embed.", "encoder."),
        ("linear.", "decoder."),
        ("rnn.rnn.", "rnn."),
        ("rnn.backward_interface.", "backward_interface."),
    ] {
        if let Some(rest) = name.strip_prefix(ours) {
            return format!("{theirs}{rest}");
        }
    }
    name.to_owned()
}

/// Our parameters with the case's initial values; both must have the same.
fn initial(case: &Case, model: &Model) -> Result<Vec<(String, Tensor)>, Failed> {
    let listed = case.json["params"].as_object().ok_or("`params` is no table")?;
    if listed.len() != model.params.len() {
        return Err(format!("the case lists {} parameters, we have {}", listed.len(), model.params.len()).into());
    }
    let of = |parameter: &ccdni::nn::Parameter| {
        Ok((parameter.name.clone(), case.tensor(&format!("init.{}", theirs(&parameter.name)))?.clone()))
    };
    model.params.iter().map(of).collect()
}

fn model(case: &Case, steps: usize) -> Result<Model, Failed> {
    let device = on_device::device().ok_or("there is no device")?;
    let model = Model::new(&Plugins::built_in(), &model_spec(case)?, &shape(case, steps)?, 1, &device)?;
    for (index, (_, value)) in initial(case, &model)?.iter().enumerate() {
        model.params.set(index, value)?;
    }
    Ok(model)
}

fn batch(case: &Case, input: &str, target: &str, device: &Device) -> Result<Batch, Failed> {
    let ids = |name: &str| Ok::<_, Failed>(case.tensor(name)?.to_dtype(DType::U32)?.contiguous()?);
    let batch = Batch::new(Inputs::Tokens { feature: None, ids: ids(input)? }, Targets::Classes(ids(target)?));
    Ok(batch.to_device(device)?)
}

fn steps(case: &Case, backend: &dyn Backend) -> Outcome {
    let train = case.train_spec()?;
    let shape = shape(case, train.window(1))?;
    let model = model(case, train.window(1))?;
    let mut updater = Updater::new(&train, &optimizer::built_in(), &model.params)?;
    let roles = vec![Role::Learning; model.synthesizers.len()];
    let mut state: Option<Vec<Tensor>> = None;
    for k in 0..case.whole("steps")? {
        let named = |what: &str| format!("step{k}.{what}");
        let batch = batch(case, &named("input"), &named("target"), model.device())?;
        let sequence = DeviceBatch::new(&model, &batch, None)?;
        let feedback = Feedback::new(&batch.targets, &shape, sequence.steps(), 1, sequence.rows(), model.device())?;
        let (logits, _) = engine::evaluate(&model, backend, &sequence, state.as_deref(), When::EveryStep)?;
        case.close_by_group(&logits, &named("logits"), "logits")?;
        let (window, roles) = (sequence.steps(), &roles);
        let asked =
            engine::Batch { sequence: &sequence, feedback: &feedback, window, roles, activity: 0.0, trace: true };
        let mut gradients = Gradients::none(&model.params)?;
        let (mut groups, order) = (Vec::new(), Order::Sequential);
        let end = engine::run(&model, backend, order, &asked, state.as_deref(), &mut gradients, &mut |group, _| {
            groups.push(group);
            Ok(())
        })?;
        let group = groups.pop().ok_or("no window")?;
        let loss = group.losses.read()?.first().ok_or("no loss")?.loss as f32;
        case.close_by_group(&Tensor::new(&[loss], model.device())?, &named("loss"), "loss")?;
        trace(case, k, group.traces.first().ok_or("no trace")?)?;
        for (index, parameter) in model.params.iter().enumerate() {
            let gradient = gradients.get(index)?.ok_or_else(|| format!("{}: no gradient", parameter.name))?;
            case.close_by_group(&gradient, &named(&format!("grad.{}", theirs(&parameter.name))), "grad")?;
        }
        let squares = updater.apply(&model, roles, &mut gradients)?.ok_or("no step")?;
        let norm = squares.norm(&model.params)?.value as f32;
        case.close_by_group(&Tensor::new(&[norm], model.device())?, &named("grad_norm"), "grad_norm")?;
        for (name, value) in model.params.snapshot()? {
            case.close_by_group(&value, &named(&format!("after.{}", theirs(&name))), "after")?;
        }
        state = Some(end);
    }
    let batch = batch(case, "eval.input", "eval.target", model.device())?;
    let sequence = DeviceBatch::new(&model, &batch, None)?;
    let (logits, end) = engine::evaluate(&model, backend, &sequence, None, When::EveryStep)?;
    case.close_by_group(&logits, "eval.logits", "eval")?;
    case.close_by_group(&Tensor::stack(&end, 0)?, "eval.state", "eval")
}

fn trace(case: &Case, k: usize, trace: &Trace) -> Outcome {
    let named = |what: &str| format!("step{k}.{what}");
    let start = Tensor::stack(&trace.start, 0)?;
    case.close_by_group(&start, &named("state_start"), "state")?;
    case.close_by_group(&Tensor::stack(&trace.end, 0)?, &named("state_end"), "state")?;
    if !case.flag("/dni") {
        return Ok(());
    }
    let all = |gradients: &[Option<Tensor>]| -> Result<Tensor, Failed> {
        let gradients: Vec<Tensor> = gradients.iter().flatten().cloned().collect();
        Ok(Tensor::stack(&gradients, 0)?)
    };
    let (synthetic, arrived) = (all(&trace.synthetic_start)?, Tensor::stack(&trace.target, 0)?);
    case.close_by_group(&synthetic, &named("synthetic_gradient_start"), "interface")?;
    case.close_by_group(&all(&trace.synthetic_end)?, &named("synthetic_gradient_end"), "interface")?;
    case.close_by_group(&arrived, &named("arrived_gradient"), "interface")?;
    let loss = ((&synthetic - &arrived)?.sqr()?.sum_all()? / start.dim(0)? as f64)?.reshape(1)?;
    case.close_by_group(&loss, &named("synthesizer_loss"), "loss")
}

/// The text of a case in files, read by the corpus.
fn corpus(case: &Case) -> Result<Corpus, Failed> {
    let dir = tempfile::tempdir()?;
    for name in FILES {
        let text = case.json["texts"][name.trim_end_matches(".txt")].as_str().ok_or("no text")?;
        std::fs::write(dir.path().join(name), text)?;
    }
    let corpus = Corpus::open(&TextSource::Files { dir: dir.path().to_path_buf() }, Unit::Word)?;
    if json!(corpus.words) != case.json["vocabulary"] {
        return Err(format!("the vocabulary is {:?}", corpus.words).into());
    }
    for (part, name) in corpus.parts.iter().zip(["train", "valid", "test"]) {
        same(&Tensor::new(part.as_slice(), &Device::Cpu)?, case.tensor(&format!("{name}.ids"))?, name)?;
    }
    Ok(corpus)
}

fn same(ours: &Tensor, theirs: &Tensor, what: &str) -> Outcome {
    assert_close(what, &ours.to_dtype(DType::F64)?, &theirs.to_dtype(DType::F64)?, 0.0)
}

fn layout(case: &Case) -> Outcome {
    let corpus = corpus(case)?;
    let number = |name: &str, what: &str| case.number(&format!("/layouts/{name}/{what}")).map(|n| n as usize);
    for (split, name) in [(Split::Train, "train"), (Split::Validation, "valid"), (Split::Test, "test")] {
        let columns = number(name, "batch_size")?;
        let spec = Language { steps: case.whole("bptt")?, columns, ..Language::default() };
        let data = Columns::new(corpus.clone(), &spec);
        let windows = case.json["layouts"][name]["windows"].as_array().ok_or("no windows")?.len();
        if data.batches(split, columns) != windows {
            return Err(format!("{name}: {} batches", data.batches(split, columns)).into());
        }
        for index in 0..windows {
            let batch = data.batch(BatchIndex { split, epoch: 1, index, batch_size: columns, level: 0 })?;
            let (Inputs::Tokens { ids, .. }, Targets::Classes(targets)) = (&batch.inputs, &batch.targets) else {
                return Err("no tokens".into());
            };
            same(ids, case.tensor(&format!("{name}.window{index}.input"))?, name)?;
            same(targets, case.tensor(&format!("{name}.window{index}.target"))?, name)?;
        }
    }
    Ok(())
}

struct Silent;

impl Callback for Silent {}

/// The whole program, with the weights of the last or of the best epoch as its result.
fn run(case: &Case, keep: Keep) -> Outcome {
    let steps = case.whole("bptt")?;
    let columns = case.whole("eval_batch_size")?;
    let data = Columns::new(corpus(case)?, &Language { steps, columns, ..Language::default() });
    let mut train = case.train_spec()?;
    (train.epochs, train.batch_size) = (case.whole("epochs")?, case.whole("batch_size")?);
    (train.keep, train.keep_hidden) = (keep, true);
    let spec = json!({ "task": { "kind": "language" }, "model": model_spec(case)?, "train": train });
    let mut spec: Spec = serde_json::from_value(spec)?;
    spec.train.clip = train.clip;
    let shape = shape(case, steps)?;
    let device = on_device::device().ok_or("there is no device")?;
    let plugins = train::Plugins::built_in();
    let weights = initial(case, &model(case, steps)?)?;
    let mut trainer = Trainer::new(&plugins, &spec, &shape, Box::new(data), 1, device)?;
    trainer.start_from(&plugins, &spec.model, &weights)?;
    let Trained::Finished(finished) = trainer.train(&mut Silent)? else { return Err("training stopped".into()) };
    let Finished { history, weights, test, best_epoch, .. } = *finished;
    if best_epoch != case.whole("best_epoch")? {
        return Err(format!("the best epoch is {best_epoch}").into());
    }
    // The original divides the sum over R − 1 predictions by R.
    let reported = |nll: f64, part: &str| -> Result<f64, Failed> {
        let rows = case.tensor(&format!("{part}.columns"))?.dim(1)? as f64;
        Ok(nll * (rows - 1.0) / rows)
    };
    let slack = case.number("/tolerance/rel/loss")? * on_device::slack();
    let near = |ours: f64, theirs: f64, what: &str| match (ours - theirs).abs() <= slack * theirs {
        true => Ok(()),
        false => Err(Failed::from(format!("{what}: {ours}, expected {theirs}"))),
    };
    for (epoch, row) in history.iter().enumerate() {
        let theirs = case.number(&format!("/valid_loss_reported/{epoch}"))?;
        near(reported(row.validation[1], "valid")?, theirs, "validation")?;
        near(row.validation[0].ln(), row.validation[1], "the perplexity")?;
    }
    if keep == Keep::Best {
        near(reported(test[1], "test")?, case.number("/test_loss_reported")?, "test")?;
    }
    let group = if keep == Keep::Best { "best" } else { "last" };
    weights.iter().try_for_each(|(name, value)| case.close_by_group(value, &format!("{group}.{}", theirs(name)), group))
}
