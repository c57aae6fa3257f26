//! Metrics: a name, a unit, a direction, and a function of a batch.

use std::borrow::Cow;

use candle_core::{D, DType, Tensor};
use serde::{Deserialize, Serialize};

use super::Targets;
use crate::error::{Error, Result};
use crate::nn::Numbers;

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Smaller is better.
    Lower,
    /// Larger is better.
    Higher,
}

impl Direction {
    /// Whether `a` is strictly better than `b`; false if either is NaN.
    pub fn better(self, a: f64, b: f64) -> bool {
        match self {
            Direction::Lower => a < b,
            Direction::Higher => a > b,
        }
    }
}

/// A sum over a batch and its weight. The metric is the sum over all batches divided by the total weight.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Sum of the quantity: a scalar that may still be on the device.
    pub(crate) sum: Numbers,
    /// Number of summands (sequences times steps).
    pub weight: f64,
}

impl Measured {
    /// From the sum over a batch, a scalar, and the number of summands.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn new(sum: &Tensor, weight: usize) -> Result<Measured> {
        Ok(Measured { sum: Numbers::of(sum.to_dtype(DType::F32)?.reshape(1)?)?, weight: weight as f64 })
    }

    /// A sum of weight zero.
    pub fn nothing() -> Measured {
        Measured { sum: Numbers::Read(vec![0.0]), weight: 0.0 }
    }

    /// The sum; waits for the device if necessary.
    ///
    /// # Errors
    /// Fails on a device error.
    pub fn sum(&self) -> Result<f64> {
        Ok(self.sum.read()?.iter().sum())
    }
}

/// Compares outputs (`[batch, time, width]`, or `[batch, width]` for a target at the last step) with targets.
pub type Measure = fn(&Tensor, &Targets) -> Result<Measured>;

/// A metric for validation and test.
#[derive(Debug, Clone)]
pub struct Metric {
    /// Short name; the column is `val_<name>`.
    pub name: Cow<'static, str>,
    /// Unit, for axes.
    pub unit: &'static str,
    /// Which way is better.
    pub direction: Direction,
    /// Its value on a batch.
    pub measure: Measure,
    /// The only step measured, for targets at every step; all steps if absent.
    pub step: Option<usize>,
    /// Applied to the mean over all batches.
    pub finish: fn(f64) -> f64,
}

impl Metric {
    /// A metric over all steps.
    pub fn new(name: &'static str, unit: &'static str, direction: Direction, measure: Measure) -> Metric {
        Metric { name: name.into(), unit, direction, measure, step: None, finish: |mean| mean }
    }

    /// Squared Euclidean distance between output and target, mean over sequences and steps.
    pub fn squared_distance() -> Metric {
        Metric::new("mse", "squared distance", Direction::Lower, squared_distance)
    }

    /// Negative log-likelihood of the target class, mean over sequences and steps, in nats.
    pub fn nll() -> Metric {
        Metric::new("nll", "nats", Direction::Lower, nll)
    }

    /// Binary cross-entropy of logits for bits, mean over sequences, steps and bits, in bits.
    pub fn bits() -> Metric {
        let finish = |nats: f64| nats / std::f64::consts::LN_2;
        Metric { finish, ..Metric::new("bits", "bits", Direction::Lower, bits) }
    }

    /// Fraction of sequences (and steps) whose largest logit is the target class.
    pub fn accuracy() -> Metric {
        Metric::new("accuracy", "share", Direction::Higher, accuracy)
    }

    /// Mean of the largest softmax probability.
    pub fn certainty() -> Metric {
        Metric::new("certainty", "probability", Direction::Higher, certainty)
    }

    /// Perplexity: the exponential of [`Self::nll`].
    pub fn perplexity() -> Metric {
        Metric { finish: f64::exp, ..Metric::new("perplexity", "words", Direction::Lower, nll) }
    }

    /// Bits per character: [`Self::nll`] in bits, where a token is a character.
    pub fn bits_per_character() -> Metric {
        let finish = |nats: f64| nats / std::f64::consts::LN_2;
        Metric { finish, ..Metric::new("bits_per_character", "bits", Direction::Lower, nll) }
    }

    /// The same metric at one step only, counted from 0; the suffix of its name counts from 1.
    pub fn at_step(self, step: usize) -> Metric {
        Metric { name: format!("{}_{:02}", self.name, step + 1).into(), step: Some(step), ..self }
    }

    /// Measures a batch; weight zero if its sequences do not reach [`Metric::step`]. Of outputs at more steps than there are targets
    /// for, the last ones count.
    ///
    /// # Errors
    /// Fails if the metric does not support this kind of targets.
    pub fn on(&self, outputs: &Tensor, targets: &Targets) -> Result<Measured> {
        let steps = outputs.dim(1)?;
        let outputs = &match targets.first_of(steps)? {
            0 => outputs.clone(),
            first => outputs.narrow(1, first, steps - first)?.contiguous()?,
        };
        let Some(step) = self.step else { return (self.measure)(outputs, targets) };
        if step >= outputs.dim(1)? {
            return Ok(Measured::nothing());
        }
        let at = |tensor: &Tensor| -> Result<Tensor> { Ok(tensor.narrow(1, step, 1)?.contiguous()?) };
        let targets = match targets {
            Targets::Values(t) => Targets::Values(at(t)?),
            Targets::Classes(t) => Targets::Classes(at(t)?),
            _ => return Err(Error::Usage("a metric of one step needs targets at every step".into())),
        };
        (self.measure)(&at(outputs)?, &targets)
    }
}

fn classes(targets: &Targets) -> Result<&Tensor> {
    match targets {
        Targets::Classes(t) | Targets::FinalClass(t) => Ok(t),
        _ => Err(Error::Usage("this metric needs targets that are classes".into())),
    }
}

fn squared_distance(outputs: &Tensor, targets: &Targets) -> Result<Measured> {
    let target = match targets {
        Targets::Values(t) | Targets::FinalValues(t) => t,
        _ => return Err(Error::Usage("the squared distance needs targets that are numbers".into())),
    };
    let points = target.elem_count() / target.dim(D::Minus1)?.max(1);
    Measured::new(&(outputs - target)?.sqr()?.sum_all()?, points)
}

/// The binary cross-entropy of logits for bits, and its gradient at the logits, all of one shape:
/// `max(z, 0) - z y + ln(1 + e^-|z|)` and `σ(z) - y`.
pub fn binary_cross_entropy(logits: &Tensor, bits: &Tensor) -> Result<(Tensor, Tensor)> {
    let softplus = (logits.abs()?.neg()?.exp()? + 1.0)?.log()?;
    let losses = ((logits.relu()? - (logits * bits)?)? + softplus)?;
    Ok((losses, (candle_nn::ops::sigmoid(logits)? - bits)?))
}

fn bits(outputs: &Tensor, targets: &Targets) -> Result<Measured> {
    let target = match targets {
        Targets::Values(t) | Targets::FinalValues(t) => t,
        _ => return Err(Error::Usage("the binary cross-entropy needs targets that are bits".into())),
    };
    Measured::new(&binary_cross_entropy(outputs, target)?.0.sum_all()?, target.elem_count())
}

fn nll(outputs: &Tensor, targets: &Targets) -> Result<Measured> {
    let target = classes(targets)?;
    let log_p = candle_nn::ops::log_softmax(outputs, D::Minus1)?;
    let picked = log_p.gather(&target.unsqueeze(D::Minus1)?.contiguous()?, D::Minus1)?;
    Measured::new(&picked.sum_all()?.neg()?, target.elem_count())
}

fn accuracy(outputs: &Tensor, targets: &Targets) -> Result<Measured> {
    let target = classes(targets)?;
    let right = outputs.argmax(D::Minus1)?.eq(target)?.to_dtype(DType::F32)?;
    Measured::new(&right.sum_all()?, target.elem_count())
}

fn certainty(outputs: &Tensor, targets: &Targets) -> Result<Measured> {
    let count = classes(targets)?.elem_count();
    let p = candle_nn::ops::softmax(outputs, D::Minus1)?;
    Measured::new(&p.max(D::Minus1)?.sum_all()?, count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn squared_distance_sums_coordinates_and_counts_points() -> Result<()> {
        let outputs = Tensor::new(&[[[1f32, 2.], [0., 0.]]], &Device::Cpu)?;
        let targets = Targets::Values(Tensor::new(&[[[0f32, 0.], [3., 4.]]], &Device::Cpu)?);
        let measured = squared_distance(&outputs, &targets)?;
        assert_eq!((measured.sum()?, measured.weight), (30.0, 2.0));
        Ok(())
    }

    #[test]
    fn class_metrics_of_two_sequences() -> Result<()> {
        let outputs = Tensor::new(&[[0f32, 0.], [0., 3f32.ln()]], &Device::Cpu)?;
        let targets = Targets::FinalClass(Tensor::new(&[0u32, 1], &Device::Cpu)?);
        assert!((nll(&outputs, &targets)?.sum()? - (2f64.ln() + (4f64 / 3.).ln())).abs() < 1e-6);
        assert_eq!(accuracy(&outputs, &targets)?.sum()?, 2.0);
        assert!((certainty(&outputs, &targets)?.sum()? - 1.25).abs() < 1e-6);
        Ok(())
    }

    #[test]
    fn a_metric_at_one_step_ignores_the_others() -> Result<()> {
        let outputs = Tensor::new(&[[[0f32, 0.], [0., 3f32.ln()]]], &Device::Cpu)?;
        let targets = Targets::Classes(Tensor::new(&[[0u32, 1]], &Device::Cpu)?);
        let metric = Metric::nll().at_step(1);
        assert_eq!(metric.name, "nll_02");
        let measured = metric.on(&outputs, &targets)?;
        assert!((measured.sum()? - (4f64 / 3.).ln()).abs() < 1e-6 && measured.weight == 1.0);
        assert_eq!(Metric::nll().at_step(2).on(&outputs, &targets)?.weight, 0.0);
        let perplexity = Metric::perplexity();
        let measured = perplexity.on(&outputs, &targets)?;
        assert!(((perplexity.finish)(measured.sum()? / measured.weight) - (8f64 / 3.).sqrt()).abs() < 1e-6);
        Ok(())
    }

    #[test]
    fn bits_are_measured_at_the_last_steps_alone() -> Result<()> {
        let outputs = Tensor::new(&[[[9f32], [0.], [3f32.ln()], [-1e3]]], &Device::Cpu)?;
        let targets = Targets::Values(Tensor::new(&[[[1f32], [0.], [0.]]], &Device::Cpu)?);
        let measured = Metric::bits().on(&outputs, &targets)?;
        let bits = (Metric::bits().finish)(measured.sum()? / measured.weight);
        assert!((bits - (1.0 + 2.0 + 0.0) / 3.0).abs() < 1e-6, "{bits}");
        assert_eq!(targets.first_of(4)?, 1);
        Ok(())
    }

    #[test]
    fn a_nan_is_never_better() {
        assert!(!Direction::Lower.better(f64::NAN, 1.0) && !Direction::Higher.better(f64::NAN, 1.0));
    }
}
