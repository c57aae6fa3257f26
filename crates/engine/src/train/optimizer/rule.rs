//! Update rules, and their application: in place on slices, or by tensor operations.

use std::ops::{Add, Div, Mul, Sub};

use candle_core::Tensor;
use pulp::Arch;

use crate::error::Result;

/// The arithmetic that a rule is written in: a number on the CPU, a tensor of any shape elsewhere. Constants are f64 until
/// they are combined with a number, which is an f32.
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
    #[inline(always)]
    fn plus(&self, offset: f64) -> Self {
        self.affine(1.0, offset)
    }

    /// `decay · self + (1 − decay) · value`
    #[inline(always)]
    fn running_mean(&self, decay: f64, value: Self) -> Self {
        self.scale(decay) + value.scale(1.0 - decay)
    }

    /// A gradient with the weight decay of its parameter `p` included: `self + decay · p`.
    #[inline(always)]
    fn with_decay(self, decay: f64, p: &Self) -> Self {
        // A zero decay adds nothing, not even a negative zero.
        if decay == 0.0 { self } else { self + p.scale(decay) }
    }
}

/// An array with one element per slot of a rule: `[T; N]`, N up to 3.
pub trait Slots<T>: AsRef<[T]> + IntoIterator<Item = T> + Sized {
    /// One element per slot.
    fn each(of: impl FnMut(usize) -> T) -> Self;

    /// Applies the rule in one pass over parameters, gradients and slots, all of the same length.
    fn pass(p: &mut [T], gradient: &[T], slots: Vec<&mut [T]>, rule: impl Fn(T, T, Self) -> (T, Self))
    where
        T: Copy;
}

// One loop over zipped slices per number of slots: the compiler does not vectorise a loop over an array of slices.
macro_rules! slots {
    ($count:literal, $p:ident, $gradient:ident, [$($slot:ident),*], $zipped:pat) => {
        impl<T> Slots<T> for [T; $count] {
            fn each(of: impl FnMut(usize) -> T) -> Self {
                std::array::from_fn(of)
            }

            #[inline(always)]
            fn pass($p: &mut [T], $gradient: &[T], slots: Vec<&mut [T]>, rule: impl Fn(T, T, Self) -> (T, Self))
            where
                T: Copy,
            {
                let Ok([$($slot),*]) = <[&mut [T]; $count]>::try_from(slots) else { return };
                for $zipped in $p.iter_mut().zip($gradient)$(.zip($slot))* {
                    let (new, kept) = rule(*$p, *$gradient, [$(*$slot),*]);
                    *$p = new;
                    [$(*$slot),*] = kept;
                }
            }
        }
    };
}

slots!(0, p, g, [], (p, g));
slots!(1, p, g, [a], ((p, g), a));
slots!(2, p, g, [a, b], (((p, g), a), b));
slots!(3, p, g, [a, b, c], ((((p, g), a), b), c));

/// An update rule, written once for any [`Number`]: a step of one parameter, given its gradient and the rule's state.
/// Implement it for a [`Plugin`](crate::plugins::Plugin) that has the key `lr`.
pub trait UpdateRule: Send + Sync + 'static {
    /// The state per parameter: `[T; N]` for N slots, initially zero.
    type Slots<T>: Slots<T>;

    /// The slots' distinct names in a checkpoint.
    const SLOTS: Self::Slots<&'static str>;

    /// The initial learning rate.
    fn lr(&self) -> f64;

    /// Step number `t`, counted from 1, at the learning rate `lr`: a function from parameter, gradient and slots to the new
    /// parameter and slots. Whatever depends on `lr` and `t` alone is computed outside the function.
    fn step<N: Number>(&self, lr: f64, t: u64) -> impl Fn(N, N, Self::Slots<N>) -> (N, Self::Slots<N>) + Copy;
}

/// One step of adjacent parameters with the same step count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// The learning rate.
    pub lr: f64,
    /// Number of the step, counted from 1.
    pub t: u64,
    /// Factor on the gradient (clipping).
    pub coefficient: f64,
}

/// A type-erased [`UpdateRule`].
pub trait OptimizerRule: Send + Sync {
    /// The initial learning rate.
    fn initial_lr(&self) -> f64;

    /// The names of the slots.
    fn slot_names(&self) -> Vec<&'static str>;

    /// Updates parameters and slots in place. All slices have the same length.
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
        let coefficient = step.coefficient as f32;
        Arch::new().dispatch(
            #[inline(always)]
            move || {
                // A local copy: behind a reference, the compiler could not rule out aliasing with the parameters.
                let rule = rule;
                <R::Slots<f32>>::pass(p, gradient, slots, |p, g, slots| rule(p, g * coefficient, slots));
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

/// A tensor, or the error of the first operation that failed.
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
