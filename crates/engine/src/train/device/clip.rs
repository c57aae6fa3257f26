//! Clipping of gradients by their 2-norm, as PyTorch does it: factors are `min(1, clip / (norm + 1e-6))`.

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::model::Model;
use crate::nn::kernel::passes::sum_of_squares;
use crate::nn::{Gradients, Numbers, ParamStore, Part, constant, reads_are_deferred, slices};
use crate::spec::{ClipScope, ClipSpec};

/// The global 2-norm of gradients.
#[derive(Debug, Clone, PartialEq)]
pub struct GradientNorm {
    /// Before clipping.
    pub value: f64,
    /// The first parameter whose gradient is not finite.
    pub non_finite_parameter: Option<String>,
}

/// The sums of squares of the gradients of a step, before clipping, possibly still on a device.
#[derive(Debug, Clone)]
pub struct GradientSquares {
    /// The parameters that had a gradient.
    parameters: Vec<usize>,
    /// One per parameter and seed, `[parameters · seeds]`.
    pub(super) numbers: Numbers,
    seeds: usize,
}

pub(in crate::train) struct Clipped {
    pub squares: GradientSquares,
    /// Factors on the gradients of the network and of synthesizers; `None` if a gradient is known not to be finite.
    factors: Option<[f64; 2]>,
}

impl Clipped {
    /// Whether a gradient is known not to be finite. Never true while reads are deferred.
    pub fn is_known_not_to_be_finite(&self) -> bool {
        self.factors.is_none()
    }

    /// The factor still to be applied to gradients of this part.
    pub fn factor(&self, part: Part) -> f64 {
        let [network, synthesizers] = self.factors.unwrap_or([1.0; 2]);
        if matches!(part, Part::Synthesizer(_)) { synthesizers } else { network }
    }
}

/// Clips gradients: if reads are deferred, or if several seeds have a factor each, they are scaled in place; otherwise the factors
/// are returned, for the optimizer to apply in its own pass.
///
/// # Errors
/// Fails on a tensor error.
pub(in crate::train) fn clip(spec: Option<&ClipSpec>, model: &Model, gradients: &mut Gradients) -> Result<Clipped> {
    let squares = GradientSquares::of(model, gradients)?;
    let factors = match &squares.numbers {
        Numbers::Read(numbers) if squares.seeds == 1 => {
            Norms::of(&squares.parameters, numbers, &model.params).factors(spec)
        }
        Numbers::Read(_) => {
            scale_seeds(spec, model, gradients, &squares)?;
            Some([1.0; 2])
        }
        Numbers::Deferred(numbers) => {
            scale_in_place(spec, model, gradients, &squares.parameters, numbers)?;
            Some([1.0; 2])
        }
    };
    Ok(Clipped { squares, factors })
}

/// Clips the gradients of several seeds in place, by sums of squares that are read. A seed whose gradients are not finite is left
/// as it is: it shares nothing with the others.
fn scale_seeds(
    spec: Option<&ClipSpec>,
    model: &Model,
    gradients: &mut Gradients,
    squares: &GradientSquares,
) -> Result<()> {
    if spec.is_none() {
        return Ok(());
    }
    let factors = (0..squares.seeds).map(|seed| {
        Ok(Norms::of(&squares.parameters, &squares.of_seed(seed)?, &model.params).factors(spec).unwrap_or([1.0; 2]))
    });
    let factors = factors.collect::<Result<Vec<[f64; 2]>>>()?;
    for part in 0..2 {
        let is_synthesizer = |index: usize| matches!(model.params.get(index).part, Part::Synthesizer(_));
        let group = squares.parameters.iter().copied().filter(|&index| usize::from(is_synthesizer(index)) == part);
        let factors = factors.iter().map(|factors| factors[part] as f32).collect();
        gradients.scale(&group.collect::<Vec<_>>(), &constant(factors, &[squares.seeds], model.device())?)?;
    }
    Ok(())
}

/// Clips gradients in place; `squares` (`[parameters · seeds]`) are the sums of squares of these parameters' gradients.
fn scale_in_place(
    spec: Option<&ClipSpec>,
    model: &Model,
    gradients: &mut Gradients,
    parameters: &[usize],
    squares: &Tensor,
) -> Result<()> {
    let Some(clip) = spec else { return Ok(()) };
    let one = constant(vec![1f32], &[1], squares.device())?;
    let synthesizer = |&&index: &&usize| matches!(model.params.get(index).part, Part::Synthesizer(_));
    let groups: Vec<Vec<usize>> = match clip.scope {
        ClipScope::All => vec![parameters.to_vec()],
        ClipScope::Separate => {
            let (synthesizers, rest): (Vec<usize>, Vec<usize>) =
                parameters.iter().partition(|index| synthesizer(index));
            vec![rest, synthesizers]
        }
    };
    let squares = match model.seeds {
        1 => squares.clone(),
        seeds => squares.reshape((parameters.len(), seeds))?,
    };
    for group in groups.iter().filter(|group| !group.is_empty()) {
        let places: Vec<u32> = (0u32..).zip(parameters).filter(|(_, p)| group.contains(p)).map(|(at, _)| at).collect();
        let squares = match places.len() == parameters.len() {
            true => squares.clone(),
            false => squares.index_select(&constant(places, &[group.len()], squares.device())?, 0)?,
        };
        let norm = squares.sum_keepdim(0)?.sqrt()?;
        let coefficient = norm.affine(1.0, 1e-6)?.recip()?.affine(clip.norm, 0.0)?.broadcast_minimum(&one)?;
        gradients.scale(group, &coefficient.flatten_all()?)?;
    }
    Ok(())
}

impl GradientSquares {
    fn of(model: &Model, gradients: &Gradients) -> Result<GradientSquares> {
        let parameters: Vec<usize> = (0..model.params.len()).filter(|&index| gradients.present()[index]).collect();
        if !reads_are_deferred(model.device()) {
            let (arch, flat) = (pulp::Arch::new(), slices::read(gradients.flat())?);
            let squares = parameters.iter().flat_map(|&index| {
                let (all, flat) = (model.params.range(index), &flat);
                let size = all.len() / model.seeds;
                (0..model.seeds).map(move |seed| sum_of_squares(arch, &flat[all.start + seed * size..][..size]))
            });
            return Ok(GradientSquares { numbers: Numbers::Read(squares.collect()), parameters, seeds: model.seeds });
        }
        let numbers = Numbers::of(squares_by_tensors(gradients, &parameters, model.seeds)?)?;
        Ok(GradientSquares { numbers, parameters, seeds: model.seeds })
    }

    fn of_seed(&self, seed: usize) -> Result<Vec<f64>> {
        Ok(self.numbers.read()?.into_iter().skip(seed).step_by(self.seeds).collect())
    }

    /// The norm over all gradients; may block on a device.
    ///
    /// # Errors
    /// Fails on a device error.
    pub fn norm(&self, params: &ParamStore) -> Result<GradientNorm> {
        self.norm_of_seed(params, 0)
    }

    /// [`GradientSquares::norm`] of one of several seeds.
    ///
    /// # Errors
    /// Fails on a device error.
    pub fn norm_of_seed(&self, params: &ParamStore, seed: usize) -> Result<GradientNorm> {
        let norms = Norms::of(&self.parameters, &self.of_seed(seed)?, params);
        Ok(GradientNorm { value: norms.all(), non_finite_parameter: norms.non_finite_parameter })
    }
}

/// The sums of squares of these parameters' gradients by tensor operations, `[parameters · seeds]`.
fn squares_by_tensors(gradients: &Gradients, parameters: &[usize], seeds: usize) -> Result<Tensor> {
    let sum = |&index: &usize| match gradients.get(index)? {
        Some(gradient) if seeds > 1 => Ok(gradient.sqr()?.flatten_from(1)?.sum(1)?),
        // A device computes each sum on one processor, so a large matrix is first summed by rows.
        Some(gradient) if gradient.rank() > 1 => Ok(gradient.sqr()?.flatten_from(1)?.sum(1)?.sum_keepdim(0)?),
        Some(gradient) => Ok(gradient.flatten_all()?.sqr()?.sum_keepdim(0)?),
        None => Err(Error::Training("a missing gradient".into())),
    };
    Ok(Tensor::cat(&parameters.iter().map(sum).collect::<Result<Vec<_>>>()?, 0)?)
}

struct Norms {
    network: f64,
    synthesizers: f64,
    non_finite_parameter: Option<String>,
}

impl Norms {
    fn of(parameters: &[usize], squares: &[f64], params: &ParamStore) -> Norms {
        let mut norms = Norms { network: 0.0, synthesizers: 0.0, non_finite_parameter: None };
        for (&index, &squares) in parameters.iter().zip(squares) {
            let parameter = params.get(index);
            if !squares.is_finite() && norms.non_finite_parameter.is_none() {
                norms.non_finite_parameter = Some(parameter.name.clone());
            }
            match parameter.part {
                Part::Synthesizer(_) => norms.synthesizers += squares,
                _ => norms.network += squares,
            }
        }
        norms
    }

    fn all(&self) -> f64 {
        (self.network + self.synthesizers).sqrt()
    }

    /// The factors on the gradients of the network and of synthesizers; `None` if a gradient is not finite.
    fn factors(&self, clip: Option<&ClipSpec>) -> Option<[f64; 2]> {
        if self.non_finite_parameter.is_some() {
            return None;
        }
        let Some(clip) = clip else { return Some([1.0; 2]) };
        let norms = match clip.scope {
            ClipScope::All => [self.all(); 2],
            ClipScope::Separate => [self.network.sqrt(), self.synthesizers.sqrt()],
        };
        Some(norms.map(|norm| (clip.norm / (norm + 1e-6)).min(1.0)))
    }
}
