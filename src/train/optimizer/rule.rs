//! What an update rule is, and how it is carried out: in place on slices, or by tensor operations.

use std::ops::{Add, Div, Mul, Sub};

use candle_core::Tensor;
use pulp::Arch;

use crate::error::Result;

/// The arithmetic that a rule is written in: a number on the CPU, a tensor of any shape elsewhere. Constants are f64 until they
/// meet a number, which is an f32.
pub trait Number:
    Clone + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> + Sized
{
    /// `factor · self`
    fn scale(&self, factor: f64) -> Self;
    /// `factor · self + offset`, which a device may round once.
    fn affine(&self, factor: f64, offset: f64) -> Self;
    /// `self²`
    fn square(&self) -> Self;
    /// `√self`
    fn sqrt(&self) -> Self;
    /// `|self|`
    fn abs(&self) -> Self;
    /// The larger of the two.
    fn maximum(&self, other: Self) -> Self;

    /// `self + offset`
    fn plus(&self, offset: f64) -> Self {
        self.affine(1.0, offset)
    }

    /// `decay · self + (1 − decay) · value`
    fn running_mean(&self, decay: f64, value: Self) -> Self {
        self.scale(decay) + value.scale(1.0 - decay)
    }

    /// A gradient with the weight decay of its parameter `p` included: `self + decay · p`.
    fn with_decay(self, decay: f64, p: &Self) -> Self {
        // A zero decay adds nothing, not even a negative zero.
        if decay == 0.0 { self } else { self + p.scale(decay) }
    }
}

/// As many things as a rule has slots: `[T; N]`.
pub trait Slots<T>: AsRef<[T]> + AsMut<[T]> + IntoIterator<Item = T> {
    /// One for each slot.
    fn each(of: impl FnMut(usize) -> T) -> Self;
}

impl<T, const N: usize> Slots<T> for [T; N] {
    #[inline(always)]
    fn each(of: impl FnMut(usize) -> T) -> Self {
        std::array::from_fn(of)
    }
}

/// An update rule, written once for numbers of any kind: what a step does with one parameter, its gradient and what the rule
/// keeps of earlier steps. Implement it for a [`Plugin`](crate::plugins::Plugin) that has the key `lr`.
pub trait UpdateRule: Send + Sync + 'static {
    /// What is kept for each parameter: `[T; N]` for N slots, all of which start at zero.
    type Slots<T>: Slots<T>;

    /// The slots' names in a checkpoint, by which no two of them may be confused.
    const SLOTS: Self::Slots<&'static str>;

    /// The initial learning rate.
    fn lr(&self) -> f64;

    /// What step number `t`, counted from 1, does at the learning rate `lr`: a function from parameter, gradient and slots to the
    /// new parameter and slots. What depends on `lr` and `t` alone is computed before, outside the function.
    fn step<N: Number>(&self, lr: f64, t: u64) -> impl Fn(N, N, Self::Slots<N>) -> (N, Self::Slots<N>) + Copy;
}

/// One step of adjacent parameters that are at the same step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// The learning rate.
    pub lr: f64,
    /// Number of the step, counted from 1.
    pub t: u64,
    /// Factor on the gradient (clipping).
    pub coefficient: f64,
}

/// An [`UpdateRule`] whose type is not known.
pub trait OptimizerRule: Send + Sync {
    /// The initial learning rate.
    fn initial_lr(&self) -> f64;

    /// The names of the slots.
    fn slot_names(&self) -> Vec<&'static str>;

    /// Changes parameters and slots in place. All slices are of the same length.
    fn step_in_place(&self, step: Step, p: &mut [f32], gradient: &[f32], slots: Vec<&mut [f32]>);

    /// The new parameters and slots; all tensors are of the same shape.
    ///
    /// # Errors
    /// Fails on a tensor error.
    fn step_by_tensors(
        &self,
        step: Step,
        p: &Tensor,
        gradient: &Tensor,
        slots: &[Tensor],
    ) -> Result<(Tensor, Vec<Tensor>)>;
}

impl<R: UpdateRule> OptimizerRule for R {
    fn initial_lr(&self) -> f64 {
        self.lr()
    }

    fn slot_names(&self) -> Vec<&'static str> {
        R::SLOTS.into_iter().collect()
    }

    fn step_in_place(&self, step: Step, p: &mut [f32], gradient: &[f32], slots: Vec<&mut [f32]>) {
        let rule = self.step::<f32>(step.lr, step.t);
        let (coefficient, mut slots) = (step.coefficient as f32, slots.into_iter());
        let slots = <R::Slots<&mut [f32]>>::each(|_| slots.next().unwrap_or_default());
        Arch::new().dispatch(
            #[inline(always)]
            move || {
                // A copy of its own: of numbers that lie in memory the compiler could not know that no parameter lies there.
                let rule = rule;
                pass::<R>(p, gradient, slots, |p, g, slots| rule(p, g * coefficient, slots));
            },
        );
    }

    fn step_by_tensors(
        &self,
        step: Step,
        p: &Tensor,
        gradient: &Tensor,
        slots: &[Tensor],
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let value = |tensor: &Tensor| Traced(Ok(tensor.clone()));
        let slots = <R::Slots<Traced>>::each(|slot| value(&slots[slot]));
        let rule = self.step::<Traced>(step.lr, step.t);
        let (p, slots) = rule(value(p), value(gradient).scale(step.coefficient), slots);
        Ok((p.tensor()?, slots.into_iter().map(Traced::tensor).collect::<Result<_>>()?))
    }
}

/// One pass over parameters, gradients and slots.
#[inline(always)]
fn pass<'a, R: UpdateRule>(
    p: &mut [f32],
    gradient: &[f32],
    slots: R::Slots<&'a mut [f32]>,
    rule: impl Fn(f32, f32, R::Slots<f32>) -> (f32, R::Slots<f32>),
) {
    let (count, mut slots) = (p.len(), slots.into_iter());
    // Lengths that the compiler sees to be equal need no check for each number.
    let gradient = &gradient[..count];
    let mut slots = <R::Slots<&'a mut [f32]>>::each(|_| match slots.next() {
        Some(slot) => &mut slot[..count],
        None => &mut [],
    });
    for at in 0..count {
        let (new, kept) = rule(p[at], gradient[at], <R::Slots<f32>>::each(|slot| slots.as_ref()[slot][at]));
        p[at] = new;
        for (slot, kept) in slots.as_mut().iter_mut().zip(kept) {
            slot[at] = kept;
        }
    }
}

impl Number for f32 {
    #[inline(always)]
    fn scale(&self, factor: f64) -> f32 {
        self * factor as f32
    }
    #[inline(always)]
    fn affine(&self, factor: f64, offset: f64) -> f32 {
        self * factor as f32 + offset as f32
    }
    #[inline(always)]
    fn square(&self) -> f32 {
        self * self
    }
    #[inline(always)]
    fn sqrt(&self) -> f32 {
        f32::sqrt(*self)
    }
    #[inline(always)]
    fn abs(&self) -> f32 {
        f32::abs(*self)
    }
    #[inline(always)]
    fn maximum(&self, other: f32) -> f32 {
        if *self > other { *self } else { other }
    }
}

/// A tensor, or why there is none: an operation's operands may have failed before.
#[derive(Clone)]
struct Traced(std::result::Result<Tensor, String>);

impl Traced {
    fn map(&self, operation: impl FnOnce(&Tensor) -> candle_core::Result<Tensor>) -> Traced {
        let done = |tensor| operation(tensor).map_err(|error| error.to_string());
        Traced(self.0.as_ref().map_err(String::clone).and_then(done))
    }

    fn with(self, other: Traced, operation: fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>) -> Traced {
        match other.0 {
            Ok(other) => self.map(|tensor| operation(tensor, &other)),
            failed => Traced(failed),
        }
    }

    fn tensor(self) -> Result<Tensor> {
        Ok(self.0.map_err(candle_core::Error::Msg)?)
    }
}

macro_rules! operators {
    ($($operator:ident :: $function:ident),*) => {$(
        impl $operator for Traced {
            type Output = Traced;
            fn $function(self, other: Traced) -> Traced {
                self.with(other, |a, b| a.$function(b))
            }
        }
    )*};
}

operators!(Add::add, Sub::sub, Mul::mul, Div::div);

impl Number for Traced {
    fn scale(&self, factor: f64) -> Traced {
        self.affine(factor, 0.0)
    }
    fn affine(&self, factor: f64, offset: f64) -> Traced {
        self.map(|tensor| tensor.affine(factor, offset))
    }
    fn square(&self) -> Traced {
        self.map(Tensor::sqr)
    }
    fn sqrt(&self) -> Traced {
        self.map(Tensor::sqrt)
    }
    fn abs(&self) -> Traced {
        self.map(Tensor::abs)
    }
    fn maximum(&self, other: Traced) -> Traced {
        self.clone().with(other, |a, b| a.maximum(b))
    }
}
