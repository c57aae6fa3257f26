//! A value axis, linear or logarithmic.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::Ranged;

use super::figure::tick;

/// A value axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    log: bool,
}

impl Axis {
    /// A linear axis that includes these values and zero, the natural lower bound of an error.
    pub fn linear(values: impl IntoIterator<Item = f64>) -> Self {
        let finite = values.into_iter().filter(|value| value.is_finite());
        let (low, high) = finite.fold((0.0, f64::MIN), |(low, high), x| (x.min(low), x.max(high)));
        let high = if high > low { high } else { low + 1.0 };
        let margin = 0.04 * (high - low);
        // A lower end of zero needs no margin.
        Axis { low: if low < 0.0 { low - margin } else { 0.0 }, high: high + margin, log: false }
    }

    /// A logarithmic axis that includes the positive values; linear if there are none.
    pub fn logarithmic(values: impl IntoIterator<Item = f64>) -> Self {
        let positive = values.into_iter().filter(|value| value.is_finite() && *value > 0.0);
        let (low, high) = positive.fold((f64::MAX, 0.0), |(low, high), x| (x.min(low), x.max(high)));
        if high == 0.0 {
            return Axis::linear([]);
        }
        // At least a fifth of the value around a constant, with margins above and below.
        let margin = (high / low).powf(0.05).max(1.1);
        Axis { low: (low / margin).max(f64::MIN_POSITIVE), high: (high * margin).min(f64::MAX), log: true }
    }

    /// Whether a value can be shown.
    pub fn shows(&self, value: f64) -> bool {
        value.is_finite() && (!self.log || value > 0.0)
    }

    /// The value, clamped to the axis.
    pub fn clamp(&self, value: f64) -> f64 {
        value.clamp(self.low, self.high)
    }

    /// Both ends.
    pub fn ends(&self) -> (f64, f64) {
        (self.low, self.high)
    }

    /// Relative position of a value between both ends, 0 to 1.
    fn place(&self, value: f64) -> f64 {
        if self.log {
            (value.max(f64::MIN_POSITIVE) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    /// Ticks at 1, 2 and 5 times powers of ten, at 1 and 3 times, or at powers alone: no more than `most`.
    fn log_ticks(&self, most: usize) -> Vec<f64> {
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let ticks = |steps: &[f64], every: usize| -> Vec<f64> {
            let powers = (first..=last).filter(|power| power.rem_euclid(every as i32) == 0);
            // Division gives the number closest to 0.3 for 3e-1.
            let scaled = |step: f64, power: i32| {
                if power < 0 { step / 10f64.powi(-power) } else { step * 10f64.powi(power) }
            };
            let all = powers.flat_map(|power| steps.iter().map(move |&step| scaled(step, power)));
            all.filter(|tick| (self.low..=self.high).contains(tick)).collect()
        };
        let mut chosen = ticks(&[1.0, 2.0, 5.0], 1);
        if chosen.len() < 2 {
            // Less than an octave: ticks of a linear axis.
            return RangedCoordf64::from(self.low..self.high).key_points(most);
        }
        if chosen.len() > most {
            chosen = ticks(&[1.0, 3.0], 1);
        }
        for every in 1.. {
            if chosen.len() <= most {
                break;
            }
            chosen = ticks(&[1.0], every);
        }
        chosen
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        first + (self.place(*value) * f64::from(last - first)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if self.log {
            return self.log_ticks(hint.max_num_points());
        }
        // Ticks are sums of steps: a sum that should be zero may have a rounding error.
        let dust = 1e-9 * (self.high - self.low);
        let ticks = RangedCoordf64::from(self.range()).key_points(hint);
        ticks.into_iter().map(|tick| if tick.abs() < dust { 0.0 } else { tick }).collect()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        tick(*value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_axis_starts_at_zero() {
        assert_eq!(Axis::linear([1.0, 4.0, f64::NAN]).ends(), (0.0, 4.16));
        let (low, high) = Axis::linear([-1.0, 1.0]).ends();
        assert!((low + 1.08).abs() < 1e-12 && (high - 1.08).abs() < 1e-12);
        assert_eq!(Axis::linear([]).ends(), (0.0, 1.04));
        let ticks = Axis::linear([-0.12, 0.13]).key_points(6);
        assert!(ticks.contains(&0.0), "{ticks:?}");
    }

    #[test]
    fn a_logarithmic_axis_has_round_ticks_and_even_decades() {
        let axis = Axis::logarithmic([0.0, -1.0, 0.02, 30.0, f64::NAN]);
        assert_eq!(axis.key_points(20), [0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0]);
        assert_eq!(axis.key_points(7), [0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0]);
        assert_eq!(axis.key_points(5), [0.1, 1.0, 10.0]);
        assert_eq!(axis.key_points(2), [1.0]);
        let at = |value| axis.map(&value, (1000, 0));
        assert!((at(0.1) - at(1.0) - (at(1.0) - at(10.0))).abs() <= 1);
        assert!(!axis.shows(0.0) && axis.shows(1e-300) && !axis.shows(f64::NAN));
        assert!(!Axis::logarithmic([0.0]).log);
    }

    #[test]
    fn a_logarithmic_axis_over_a_narrow_or_an_extreme_span_has_ticks() {
        for values in [[3.0, 3.1], [7.0, 7.0], [1e-300, 1e300], [f64::MIN_POSITIVE, f64::MAX]] {
            let axis = Axis::logarithmic(values);
            let ticks = axis.key_points(6);
            assert!(!ticks.is_empty() && ticks.len() <= 8, "{values:?}: {ticks:?}");
            assert!(ticks.iter().all(|tick| axis.range().contains(tick)), "{values:?}: {ticks:?}");
        }
    }
}
