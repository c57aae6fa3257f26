//! Seeds of one spec that are trained together (`run.seed_batch`): their networks are one, with `[seeds, ..]` before the shape of
//! every parameter, and the rows of their batches alternate.
//!
//! Each seed keeps a [`Trainer`] of its own: data, random draws, sums of the epoch, best weights, checkpoints. It lends out
//! its parameters and its optimizer's state, and gets them back for a checkpoint, and when a seed leaves: because it is done, has
//! failed or is stopped. The seeds that remain go on in a smaller network.

use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};

use super::batch::{Hooks, Network};
use super::{Cursor, Trainer};
use crate::data::{BatchIndex, Dataset, Split};
use crate::dni::{ParameterShape, Site, Synthesizer};
use crate::error::{Error, Result};
use crate::model::{Layout, Model};
use crate::nn::Gradients;
use crate::nn::cells::{Cell, CellWeights, State};
use crate::spec::Spec;
use crate::spec::task_shape::TaskShape;
use crate::train::backend::Composed;
use crate::train::device::{BatchStatistics, PendingStatistics};
use crate::train::device_batch::DeviceBatch;
use crate::train::engine::{self, Role};
use crate::train::loss::Feedback;
use crate::train::measure::{SeedData, measure_seeds};
use crate::train::rows::{alternate, of_seed};
use crate::train::update::{Updater, role};
use crate::train::{BatchProgress, Callback, MetricInfo, Next, Outcome, Plugins};

/// Checks that seeds of a spec can be trained together (`run.seed_batch`) with these plug-ins on these data. What the spec alone
/// shows is checked before.
///
/// # Errors
/// [`Error::Usage`] if they cannot.
pub fn check_seed_batch(plugins: &Plugins, spec: &Spec, shape: &TaskShape, data: &dyn Dataset) -> Result<()> {
    if spec.run.seed_batch.is_one() {
        return Ok(());
    }
    let refused = |what: String| Err(Error::Usage(format!("`run.seed_batch`: {what}; leave the key out")));
    if data.curriculum().is_some() {
        return refused("the task has a curriculum, whose levels seeds reach at different times".into());
    }
    if shape.steps.is_none() {
        return refused("sequences vary in length, so that the batches of seeds do".into());
    }
    let layout = Layout::new(&plugins.model, &spec.model, shape)?;
    let cell = layout.cells.iter().position(|cell| !steps_seeds(cell.as_ref()));
    let synthesizer = layout.synthesizers.iter().find(|group| !predicts_seeds(group.synthesizer.as_ref(), group.site));
    let (key, how) = match (cell, synthesizer) {
        (Some(layer), _) => (format!("model.layers.{layer}"), "through `CellWeights::sums`"),
        (None, Some(group)) => (format!("model.layers.{}.dni", group.layers[0]), "as `Linear`"),
        (None, None) => return Ok(()),
    };
    refused(format!("`{key}` computes one seed at a time, since it does not use its weights {how} alone"))
}

/// Whether a cell's step computes several seeds at once.
fn steps_seeds(cell: &dyn Cell) -> bool {
    let (hidden, inputs) = (3, 2);
    let (rows, width) = (cell.gates() * hidden, cell.state_width(hidden));
    let step = || {
        let [weight_ih, weight_hh] = [zeros(&[SEEDS, rows, inputs])?, zeros(&[SEEDS, rows, hidden])?];
        let [bias_ih, bias_hh] = [zeros(&[SEEDS, rows])?, zeros(&[SEEDS, rows])?];
        let weights = CellWeights { weight_ih, weight_hh, bias_ih, bias_hh };
        let state = State::split(&zeros(&[ROWS, width])?, hidden)?;
        cell.step(&weights, &zeros(&[ROWS, inputs])?, &state)?.join()
    };
    step().is_ok_and(|joined| joined.dims() == [ROWS, width])
}

/// Whether a synthesizer predicts for several seeds at once.
fn predicts_seeds(synthesizer: &dyn Synthesizer, site: Site) -> bool {
    let predict = || {
        let of_seeds = |shape: ParameterShape| zeros(&[&[SEEDS], shape.dims.as_slice()].concat());
        let parameters = synthesizer.parameters(site).into_iter().map(of_seeds).collect::<Result<Vec<_>>>()?;
        let context = site.context.map(|width| zeros(&[ROWS, width])).transpose()?;
        synthesizer.forward(&parameters, &zeros(&[ROWS, site.state])?, context.as_ref())
    };
    predict().is_ok_and(|values| values.dims() == [ROWS, site.output])
}

/// How many seeds a plug-in is tried with.
const SEEDS: usize = 2;

/// Rows of the batch of them: several per seed, so that a weight that is added row by row does not fit.
const ROWS: usize = 3 * SEEDS;

fn zeros(dims: &[usize]) -> Result<Tensor> {
    Ok(Tensor::zeros(dims, DType::F32, &Device::Cpu)?)
}

/// One of the seeds.
struct Seed<'a> {
    trainer: Trainer,
    callback: &'a mut (dyn Callback + 'a),
    /// What came of it, once it has left the others.
    outcome: Option<Result<Outcome>>,
}

/// Trains seeds of one spec, which stand at the same batch, each with its callback, and returns what came of each. A seed that fails
/// leaves the others as they are; if one is asked to stop, all stop.
pub fn train_seeds<'a>(seeds: Vec<(Trainer, &'a mut (dyn Callback + 'a))>) -> Vec<Result<Outcome>> {
    let begin = |(trainer, callback)| Seed { trainer, callback, outcome: None };
    let mut seeds: Vec<Seed<'_>> = seeds.into_iter().map(begin).collect();
    loop {
        // What is left of a trained seed is its test.
        seeds.iter_mut().filter(|seed| seed.outcome.is_none() && seed.trainer.cursor.over).for_each(Seed::train_alone);
        let mut together: Vec<&mut Seed<'_>> = seeds.iter_mut().filter(|seed| seed.outcome.is_none()).collect();
        match together.as_mut_slice() {
            [] => break,
            [one] => one.train_alone(),
            many => {
                if let Err(error) = Together::of(many).and_then(|mut network| network.train(many)) {
                    let left = many.iter_mut().filter(|seed| seed.outcome.is_none());
                    left.for_each(|seed| seed.outcome = Some(Err(of_each(&error))));
                }
            }
        }
    }
    seeds.into_iter().filter_map(|seed| seed.outcome).collect()
}

/// An error of all seeds, for one of them.
fn of_each(error: &Error) -> Error {
    match error {
        Error::Device(what) => Error::Device(what.clone()),
        other => Error::Training(other.to_string()),
    }
}

impl Seed<'_> {
    fn train_alone(&mut self) {
        self.outcome = Some(self.trainer.train(self.callback));
    }

    /// The value; an error ends the seed.
    fn note<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.outcome = Some(Err(error))).ok()
    }

    fn add_statistics(&mut self, statistics: &[BatchStatistics]) -> Option<f64> {
        let added = self.trainer.add_statistics(statistics);
        self.note(added).flatten()
    }

    fn end_epoch(&mut self, validation: Vec<f64>, took: Duration, metrics: &[MetricInfo]) -> Next {
        let Seed { trainer, callback, .. } = self;
        let closed = trainer.close_epoch(validation, took);
        let next = closed.and_then(|(row, recordings)| trainer.report_epoch(&row, &recordings, metrics, *callback));
        self.note(next).unwrap_or(Next::Continue)
    }

    fn save(&mut self) -> Option<()> {
        let saved = self.trainer.checkpoint().and_then(|checkpoint| self.callback.checkpoint(&checkpoint));
        self.note(saved)
    }
}

/// Whether a seed has left, or is about to: the network is then too large.
fn has_left(seeds: &[&mut Seed<'_>]) -> bool {
    seeds.iter().any(|seed| seed.outcome.is_some() || seed.trainer.cursor.over)
}

/// The networks of several seeds as one, and what it is trained with.
struct Together {
    model: Model,
    updater: Updater,
    gradients: Gradients,
    /// The final states of the last batch, if the next one starts from them.
    carried: Option<Vec<Tensor>>,
    pending: PendingStatistics,
}

impl Together {
    fn of(seeds: &[&mut Seed<'_>]) -> Result<Together> {
        let trainers: Vec<&Trainer> = seeds.iter().map(|seed| &seed.trainer).collect();
        let batches = |trainer: &&Trainer| trainer.data.batches(Split::Train, trainer.spec.train.batch_size);
        if trainers.iter().any(|trainer| batches(trainer) != batches(&trainers[0])) {
            let what = "`run.seed_batch`: the seeds have different numbers of batches per epoch; leave the key out";
            return Err(Error::Usage(what.into()));
        }
        let model = Model::of_seeds(&trainers.iter().map(|trainer| &trainer.model).collect::<Vec<_>>())?;
        let updaters: Vec<&Updater> = trainers.iter().map(|trainer| &trainer.updater).collect();
        let carried = trainers.iter().map(|trainer| trainer.carried.as_ref()).collect::<Option<Vec<_>>>();
        let layer = |states: &Vec<&Vec<Tensor>>, layer: usize| {
            alternate(&states.iter().map(|state| &state[layer]).collect::<Vec<_>>(), 0)
        };
        let join = |states: Vec<&Vec<Tensor>>| (0..model.layers.len()).map(|at| layer(&states, at)).collect();
        Ok(Together {
            updater: Updater::of_seeds(&updaters, &model.params)?,
            gradients: Gradients::none(&model.params)?,
            carried: carried.map(join).transpose()?,
            pending: PendingStatistics::default(),
            model,
        })
    }

    /// Trains until a seed leaves.
    fn train(&mut self, seeds: &mut [&mut Seed<'_>]) -> Result<()> {
        let Trainer { spec, data, metrics, .. } = &seeds[0].trainer;
        let (epochs, batches) = (spec.train.epochs, data.batches(Split::Train, spec.train.batch_size));
        let metrics: Vec<MetricInfo> = metrics.iter().map(MetricInfo::of).collect();
        while !has_left(seeds) {
            let Cursor { epoch, batch, .. } = seeds[0].trainer.cursor;
            let next: Vec<Next> = if batch < batches {
                let losses = self.train_batch(seeds)?;
                if seeds[0].trainer.cursor.batch == batch {
                    // A seed has left before it was trained on.
                    break;
                }
                let progress = |loss| BatchProgress { epoch, epochs, batch: batch + 1, batches, loss };
                let next = |(seed, loss): (&mut &mut Seed<'_>, Option<f64>)| match seed.outcome {
                    None => {
                        let next = seed.callback.batch(&progress(loss));
                        seed.note(next).unwrap_or(Next::Continue)
                    }
                    Some(_) => Next::Continue,
                };
                seeds.iter_mut().zip(losses).map(next).collect()
            } else {
                self.end_epoch(seeds, &metrics)?
            };
            self.pause(seeds, &next)?;
        }
        self.give_back(seeds)
    }

    /// Trains on the seeds' batches at their cursors, and returns the losses that are available without blocking.
    fn train_batch(&mut self, seeds: &mut [&mut Seed<'_>]) -> Result<Vec<Option<f64>>> {
        let began = Instant::now();
        let mut loaded = Vec::with_capacity(seeds.len());
        for seed in seeds.iter_mut() {
            seed.trainer.model.at_epoch(seed.trainer.cursor.epoch);
            let batch = seed.trainer.load_batch(true);
            loaded.extend(seed.note(batch));
        }
        if has_left(seeds) {
            return Ok(vec![None; seeds.len()]);
        }
        let (sequences, feedback): (Vec<DeviceBatch>, Vec<Feedback>) = loaded.into_iter().unzip();
        let sequence = DeviceBatch::of_seeds(sequences, &self.model)?;
        self.learn(&seeds[0].trainer, &sequence, &Feedback::of_seeds(&feedback)?)?;
        let read = self.pending.ready_seeds(&self.model.params, seeds.len())?;
        let took = began.elapsed().as_secs_f64() / seeds.len() as f64;
        let add = |(seed, statistics): (&mut &mut Seed<'_>, Vec<BatchStatistics>)| {
            seed.trainer.cursor.batch += 1;
            seed.trainer.cursor.seconds += took;
            seed.add_statistics(&statistics)
        };
        Ok(seeds.iter_mut().zip(read).map(add).collect())
    }

    fn learn(&mut self, first: &Trainer, sequence: &DeviceBatch, feedback: &Feedback) -> Result<()> {
        let (train, Cursor { epoch, batch: index, .. }) = (&first.spec.train, first.cursor);
        self.model.at_epoch(epoch);
        let roles: Vec<Role> = self.model.synthesizers.iter().map(|slot| role(&slot.spec, epoch)).collect();
        let (window, activity) = (train.window(sequence.steps()), train.activity_l2);
        let batch = engine::Batch { sequence, feedback, window, roles: &roles, activity, trace: false };
        let fits = |layer: &Tensor| layer.dim(0).is_ok_and(|count| count == sequence.rows().count);
        let start = self.carried.take().filter(|state| state.iter().all(fits));
        let Together { model, updater, gradients, .. } = self;
        let network = Network { model, backend: &Composed, updater, gradients };
        let hooks = Hooks { group: &mut |_, _| Ok(()), inputs: &mut |_, _| Ok(()) };
        let learned = network.learn(train.step_every, index, &batch, start.as_deref(), hooks)?;
        first.check_reached(&learned.reached, &roles)?;
        self.carried = train.keep_hidden.then_some(learned.end);
        self.pending.push(learned.statistics);
        Ok(())
    }

    /// Ends the epoch of every seed, as [`Trainer::end_epoch`].
    fn end_epoch(&mut self, seeds: &mut [&mut Seed<'_>], metrics: &[MetricInfo]) -> Result<Vec<Next>> {
        self.flush(seeds)?;
        if has_left(seeds) {
            return Ok(vec![Next::Continue; seeds.len()]);
        }
        let began = Instant::now();
        self.give_back_parameters(seeds)?;
        self.carried = None;
        let validation = self.validate(seeds)?;
        let took = began.elapsed() / seeds.len() as u32;
        let end = |(seed, validation): (&mut &mut Seed<'_>, _)| seed.end_epoch(validation, took, metrics);
        Ok(seeds.iter_mut().zip(validation).map(end).collect())
    }

    /// The validation metrics of each seed.
    fn validate(&self, seeds: &mut [&mut Seed<'_>]) -> Result<Vec<Vec<f64>>> {
        let Trainer { spec, shape, cursor, .. } = &seeds[0].trainer;
        let (shape, batch_size, level) = (shape.clone(), spec.train.batch_size, cursor.level);
        let at = BatchIndex { split: Split::Validation, epoch: cursor.epoch, index: 0, batch_size, level };
        let mut measured: &[_] = &[];
        let mut sources = Vec::with_capacity(seeds.len());
        for seed in seeds.iter_mut() {
            let Trainer { model, data, loader, metrics, .. } = &mut seed.trainer;
            measured = metrics;
            sources.push(SeedData { model, data: &**data, loader });
        }
        measure_seeds(&self.model, &Composed, &shape, &mut sources, measured, at)
    }

    /// Emits the checkpoints that are requested. If a seed is to stop, all do.
    fn pause(&mut self, seeds: &mut [&mut Seed<'_>], next: &[Next]) -> Result<()> {
        if next.iter().all(|next| *next == Next::Continue) {
            return Ok(());
        }
        self.give_back(seeds)?;
        let stop = next.contains(&Next::Stop);
        // All of them, so that seeds that are killed go on together.
        for seed in seeds.iter_mut().filter(|seed| seed.outcome.is_none()) {
            if seed.save().is_some() && stop {
                seed.outcome = Some(Ok(Outcome::Stopped));
            }
        }
        Ok(())
    }

    /// Adds the pending statistics to the sums of each seed.
    fn flush(&mut self, seeds: &mut [&mut Seed<'_>]) -> Result<()> {
        let read = self.pending.flush_seeds(&self.model.params, seeds.len())?;
        for (seed, statistics) in seeds.iter_mut().zip(read).filter(|(seed, _)| seed.outcome.is_none()) {
            seed.add_statistics(&statistics);
        }
        Ok(())
    }

    /// Gives the seeds all that they have lent out.
    fn give_back(&mut self, seeds: &mut [&mut Seed<'_>]) -> Result<()> {
        self.flush(seeds)?;
        self.give_back_parameters(seeds)?;
        let state = self.updater.state(&self.model.params.names())?;
        let count = seeds.len();
        for (at, seed) in seeds.iter_mut().enumerate() {
            let trainer = &mut seed.trainer;
            let (tensors, value) = Updater::of_seed(&state, at)?;
            trainer.updater.restore(&trainer.model.params, &tensors, &value)?;
            let of_layer = |layer: &Tensor| of_seed(layer, count, at);
            let carried = self.carried.as_ref().map(|layers| layers.iter().map(of_layer).collect());
            trainer.carried = carried.transpose()?;
        }
        Ok(())
    }

    fn give_back_parameters(&self, seeds: &mut [&mut Seed<'_>]) -> Result<()> {
        for (index, parameter) in self.model.params.iter().enumerate() {
            for (at, seed) in seeds.iter_mut().enumerate() {
                seed.trainer.model.params.set(index, &parameter.value().get(at)?)?;
            }
        }
        Ok(())
    }
}
