//! The update rules, in PyTorch's order of operations.
//!
//! Tensors are f32 on any device; hyper-parameters and what is computed from them alone (bias corrections, decayed
//! rates) are f64 until they meet a tensor.

use candle_core::{Result, Tensor};

use crate::spec::{AdamSpec, OptimizerSpec};

/// What a rule makes of a gradient.
struct Update {
    /// To be subtracted from the parameter.
    change: Tensor,
    /// The new content of the slots, in the order of [`slots`].
    slots: Vec<Tensor>,
}

/// What a rule keeps for each parameter, by PyTorch's names. All slots start at zero.
pub(super) fn slots(spec: &OptimizerSpec) -> &'static [&'static str] {
    match spec {
        OptimizerSpec::Adam(_) | OptimizerSpec::Adamw(_) => &["exp_avg", "exp_avg_sq"],
        OptimizerSpec::Adamax(_) => &["exp_avg", "exp_inf"],
        OptimizerSpec::Rmsprop { .. } => &["square_avg", "momentum_buffer"],
        OptimizerSpec::Sgd { .. } => &["momentum_buffer"],
        OptimizerSpec::Adagrad { .. } => &["sum"],
        OptimizerSpec::Adadelta { .. } => &["square_avg", "acc_delta"],
    }
}

/// Step number `t`, counted from 1, on gradient `g`; `slots` as after step `t - 1`. Gives the parameter and the slots
/// after it.
pub(super) fn step(
    spec: &OptimizerSpec,
    lr: f64,
    t: u64,
    p: &Tensor,
    slots: &[Tensor],
    g: &Tensor,
) -> Result<(Tensor, Vec<Tensor>)> {
    let decay = spec.weight_decay();
    let (mut p, mut g) = (p.clone(), g.clone());
    if decay != 0.0 {
        match spec {
            OptimizerSpec::Adamw(_) => p = p.affine(1.0 - lr * decay, 0.0)?,
            _ => g = (g + p.affine(decay, 0.0)?)?,
        }
    }
    let update = update(spec, lr, t, slots, &g)?;
    Ok(((p - update.change)?, update.slots))
}

/// As [`step`], for a gradient with weight decay included.
fn update(spec: &OptimizerSpec, lr: f64, t: u64, slots: &[Tensor], g: &Tensor) -> Result<Update> {
    match *spec {
        OptimizerSpec::Adam(ref spec) | OptimizerSpec::Adamw(ref spec) => adam(spec, lr, t, slots, g),
        OptimizerSpec::Adamax(ref spec) => adamax(spec, lr, t, slots, g),
        OptimizerSpec::Rmsprop { alpha, eps, momentum, .. } => {
            let v = running_mean(&slots[0], alpha, &g.sqr()?)?;
            let b = (slots[1].affine(momentum, 0.0)? + g.div(&v.sqrt()?.affine(1.0, eps)?)?)?;
            Ok(Update { change: b.affine(lr, 0.0)?, slots: vec![v, b] })
        }
        OptimizerSpec::Sgd { momentum, .. } => {
            let b = (slots[0].affine(momentum, 0.0)? + g)?;
            Ok(Update { change: b.affine(lr, 0.0)?, slots: vec![b] })
        }
        OptimizerSpec::Adagrad { lr_decay, eps, .. } => {
            let v = (&slots[0] + g.sqr()?)?;
            let rate = lr / (1.0 + lr_decay * (t - 1) as f64);
            Ok(Update { change: g.div(&v.sqrt()?.affine(1.0, eps)?)?.affine(rate, 0.0)?, slots: vec![v] })
        }
        OptimizerSpec::Adadelta { rho, eps, .. } => {
            let v = running_mean(&slots[0], rho, &g.sqr()?)?;
            let scale = slots[1].affine(1.0, eps)?.sqrt()?.div(&v.affine(1.0, eps)?.sqrt()?)?;
            let d = (scale * g)?;
            let a = running_mean(&slots[1], rho, &d.sqr()?)?;
            Ok(Update { change: d.affine(lr, 0.0)?, slots: vec![v, a] })
        }
    }
}

fn adam(spec: &AdamSpec, lr: f64, t: u64, slots: &[Tensor], g: &Tensor) -> Result<Update> {
    let [beta1, beta2] = spec.betas;
    let m = running_mean(&slots[0], beta1, g)?;
    let v = running_mean(&slots[1], beta2, &g.sqr()?)?;
    let root = v.sqrt()?.affine(1.0 / bias_correction(beta2, t).sqrt(), spec.eps)?;
    Ok(Update { change: m.div(&root)?.affine(lr / bias_correction(beta1, t), 0.0)?, slots: vec![m, v] })
}

fn adamax(spec: &AdamSpec, lr: f64, t: u64, slots: &[Tensor], g: &Tensor) -> Result<Update> {
    let [beta1, beta2] = spec.betas;
    let m = running_mean(&slots[0], beta1, g)?;
    let u = slots[1].affine(beta2, 0.0)?.maximum(&g.abs()?.affine(1.0, spec.eps)?)?;
    Ok(Update { change: m.div(&u)?.affine(lr / bias_correction(beta1, t), 0.0)?, slots: vec![m, u] })
}

/// `decay · mean + (1 − decay) · value`.
fn running_mean(mean: &Tensor, decay: f64, value: &Tensor) -> Result<Tensor> {
    mean.affine(decay, 0.0)? + value.affine(1.0 - decay, 0.0)?
}

/// What a running mean that started at zero lacks after `t` steps.
pub(super) fn bias_correction(decay: f64, t: u64) -> f64 {
    1.0 - decay.powf(t as f64)
}
