//! How good the gradients of a learning rule are: compared with the true one, of the same losses and parameters.
//!
//! A stochastic rule is drawn several times. With the draws `g₁ … gₙ`, their mean `ḡ` and the true gradient `t`:
//!
//! ```text
//! cosine = mean of gᵢ·t / (‖gᵢ‖ ‖t‖)    norm ratio = mean of ‖gᵢ‖ / ‖t‖
//! bias = ‖ḡ - t‖ / ‖t‖                  variance = Σ ‖gᵢ - ḡ‖² / ((n - 1) ‖t‖²)
//! ```
//!
//! The bias of few draws contains their scatter: for an unbiased rule it is about `√(variance / n)`.

use crate::error::Result;
use crate::model::Model;
use crate::nn::Gradients;

/// The gradient of a layer's recurrent weights for one batch.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerGradient {
    /// By the rule, once per draw.
    pub draws: Vec<Vec<f32>>,
    /// The true one.
    pub truth: Vec<f32>,
}

/// How good a gradient is; the formulas are those of this module.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// 1 for the true direction; 0 for a gradient of zeros.
    pub cosine: f64,
    /// 1 for the true length.
    pub norm_ratio: f64,
    /// Distance of the draws' mean from the true gradient, relative to its length.
    pub bias: f64,
    /// Squared distance of a draw from their mean, relative to the squared length of the true gradient; of at least two draws.
    pub variance: Option<f64>,
}

impl Quality {
    /// Its numbers by name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let numbers = [("cosine", self.cosine), ("norm_ratio", self.norm_ratio), ("bias", self.bias)];
        numbers.into_iter().chain(self.variance.map(|variance| ("variance", variance)))
    }
}

impl LayerGradient {
    /// The gradients of every layer, from those of the whole network by the rule, once per draw, and the true ones. A parameter
    /// without a gradient counts as zeros.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn of_layers(model: &Model, draws: &[Gradients], truth: &Gradients) -> Result<Vec<LayerGradient>> {
        let layer = |layer: usize| {
            let draws = draws.iter().map(|draw| joined(model, layer, draw)).collect::<Result<_>>()?;
            Ok(LayerGradient { draws, truth: joined(model, layer, truth)? })
        };
        (0..model.layers.len()).map(layer).collect()
    }

    /// How good it is; `None` if the true gradient is zero.
    pub fn quality(&self) -> Option<Quality> {
        let (n, length) = (self.draws.len() as f64, norm(&self.truth));
        if self.draws.is_empty() || length == 0.0 {
            return None;
        }
        let (mut mean, mut cosine, mut norm_ratio) = (vec![0f64; self.truth.len()], 0.0, 0.0);
        for draw in &self.draws {
            let dot: f64 = draw.iter().zip(&self.truth).map(|(g, t)| f64::from(*g) * f64::from(*t)).sum();
            let own = norm(draw);
            cosine += if own > 0.0 { dot / (own * length) } else { 0.0 };
            norm_ratio += own / length;
            mean.iter_mut().zip(draw).for_each(|(mean, g)| *mean += f64::from(*g) / n);
        }
        let square =
            |vector: &[f32]| -> f64 { vector.iter().zip(&mean).map(|(g, m)| (f64::from(*g) - m).powi(2)).sum() };
        let scatter: f64 = self.draws.iter().map(|draw| square(draw)).sum();
        Some(Quality {
            cosine: cosine / n,
            norm_ratio: norm_ratio / n,
            bias: square(&self.truth).sqrt() / length,
            variance: (n > 1.0).then(|| scatter / (n - 1.0) / length.powi(2)),
        })
    }
}

fn norm(vector: &[f32]) -> f64 {
    vector.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

/// The gradients of a layer's weights, `[weight_ih, weight_hh, bias_ih]`, in one vector. The other bias has that of `bias_ih`.
fn joined(model: &Model, layer: usize, gradients: &Gradients) -> Result<Vec<f32>> {
    let mut all = Vec::new();
    for &index in &model.layers[layer].weights[..3] {
        match gradients.get(index)? {
            Some(gradient) => all.extend(gradient.flatten_all()?.to_vec1::<f32>()?),
            None => all.resize(all.len() + model.params.get(index).value().elem_count(), 0.0),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_around_the_true_gradient_have_no_bias_and_their_variance() {
        let gradient = LayerGradient { draws: vec![vec![3.0, 5.0], vec![3.0, 3.0]], truth: vec![3.0, 4.0] };
        let quality = gradient.quality().unwrap();
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        close(quality.bias, 0.0);
        close(quality.variance.unwrap(), 2.0 / 25.0);
        close(quality.norm_ratio, (34f64.sqrt() + 18f64.sqrt()) / 10.0);
        close(quality.cosine, (29.0 / (34f64.sqrt() * 5.0) + 21.0 / (18f64.sqrt() * 5.0)) / 2.0);
    }

    #[test]
    fn one_draw_has_no_variance_and_a_gradient_of_zeros_no_direction() {
        let zero = LayerGradient { draws: vec![vec![0.0, 0.0]], truth: vec![3.0, 4.0] };
        assert_eq!(zero.quality(), Some(Quality { cosine: 0.0, norm_ratio: 0.0, bias: 1.0, variance: None }));
        let opposite = LayerGradient { draws: vec![vec![-6.0, -8.0]], truth: vec![3.0, 4.0] };
        let quality = opposite.quality().unwrap();
        assert_eq!((quality.cosine, quality.norm_ratio, quality.bias), (-1.0, 2.0, 3.0));
        assert_eq!(LayerGradient { draws: vec![vec![1.0]], truth: vec![0.0] }.quality(), None);
    }
}
