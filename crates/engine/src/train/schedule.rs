//! Responses to a plateau of the first validation metric: a lower learning rate, or early stopping.

use serde::{Deserialize, Serialize};

use crate::data::Direction;
use crate::spec::ScheduleSpec;

/// Smaller reductions of the learning rate are skipped (PyTorch's `eps`).
const SMALLEST_REDUCTION: f64 = 1e-8;

/// The best metric so far, and the epochs since: the state of both rules, kept in checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Stagnation {
    /// The best metric that counted as an improvement, if there was one.
    pub best: Option<f64>,
    /// Epochs without improvement since the last improvement or reduction of the learning rate.
    pub bad: usize,
}

impl Stagnation {
    /// Counts an epoch; `threshold` is the relative improvement required. A non-finite metric is no improvement.
    fn observe(&mut self, metric: f64, direction: Direction, threshold: f64) {
        let improved = metric.is_finite()
            && self.best.is_none_or(|best| match direction {
                Direction::Lower => metric < best * (1.0 - threshold),
                Direction::Higher => metric > best * (1.0 + threshold),
            });
        if improved {
            *self = Stagnation { best: Some(metric), bad: 0 };
        } else {
            self.bad += 1;
        }
    }
}

/// Lowers the learning rate on a plateau, by PyTorch's rule.
#[derive(Debug, Clone)]
pub struct ReduceOnPlateau {
    /// The state kept in checkpoints.
    pub state: Stagnation,
    direction: Direction,
    factor: f64,
    patience: usize,
    threshold: f64,
    min_lr: f64,
}

impl ReduceOnPlateau {
    /// A new schedule for a metric of this direction.
    pub fn new(spec: &ScheduleSpec, direction: Direction) -> Self {
        let ScheduleSpec::ReduceOnPlateau { factor, patience, threshold, min_lr } = *spec;
        ReduceOnPlateau { state: Stagnation::default(), direction, factor, patience, threshold, min_lr }
    }

    /// Takes an epoch's metric and learning rate, and returns the next epoch's learning rate.
    pub fn observe(&mut self, metric: f64, lr: f64) -> f64 {
        self.state.observe(metric, self.direction, self.threshold);
        if self.state.bad <= self.patience {
            return lr;
        }
        self.state.bad = 0;
        let reduced = (lr * self.factor).max(self.min_lr);
        if lr - reduced > SMALLEST_REDUCTION { reduced } else { lr }
    }
}

/// Stops training after `patience` consecutive epochs without improvement.
#[derive(Debug, Clone)]
pub struct EarlyStopping {
    /// The state kept in checkpoints.
    pub state: Stagnation,
    direction: Direction,
    patience: usize,
}

impl EarlyStopping {
    /// A new rule for a metric of this direction.
    pub fn new(patience: usize, direction: Direction) -> Self {
        EarlyStopping { state: Stagnation::default(), direction, patience }
    }

    /// Takes an epoch's metric and returns whether to stop.
    pub fn observe(&mut self, metric: f64) -> bool {
        self.state.observe(metric, self.direction, 0.0);
        self.state.bad >= self.patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plateau(direction: Direction) -> ReduceOnPlateau {
        let spec = ScheduleSpec::ReduceOnPlateau { factor: 0.5, patience: 1, threshold: 0.1, min_lr: 0.2 };
        ReduceOnPlateau::new(&spec, direction)
    }

    #[test]
    fn the_rate_falls_when_patience_is_exceeded_and_never_below_its_minimum() {
        let mut schedule = plateau(Direction::Lower);
        let mut lr = 1.0;
        let rates: Vec<f64> = [1.0, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95]
            .into_iter()
            .map(|metric| {
                lr = schedule.observe(metric, lr);
                lr
            })
            .collect();
        assert_eq!(rates, [1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2]);
    }

    #[test]
    fn higher_is_better_for_metrics_of_that_direction() {
        let mut schedule = plateau(Direction::Higher);
        assert_eq!([0.5, 0.6, 0.7, 0.7, 0.7].map(|metric| schedule.observe(metric, 1.0)), [1.0, 1.0, 1.0, 1.0, 0.5]);
    }

    #[test]
    fn early_stopping_respects_its_patience() {
        for (metrics, stops, why) in [
            (vec![3.0, 2.0, 1.0], vec![false, false, false], "never while it improves"),
            (vec![3.0, 3.0, 3.0], vec![false, false, true], "an equal metric is no improvement"),
            (vec![3.0, 4.0, 2.0, 3.0, 3.0], vec![false, false, false, false, true], "an improvement resets the count"),
            (vec![f64::NAN, 2.0, f64::NAN, 3.0], vec![false, false, false, true], "a NaN is no improvement"),
            (vec![f64::NAN, f64::NAN], vec![false, true], "nothing but NaN is a plateau, too"),
        ] {
            let mut rule = EarlyStopping::new(2, Direction::Lower);
            assert_eq!(metrics.into_iter().map(|metric| rule.observe(metric)).collect::<Vec<_>>(), stops, "{why}");
        }
    }

    #[test]
    fn the_state_survives_a_checkpoint() {
        let mut whole = EarlyStopping::new(2, Direction::Higher);
        whole.observe(0.1 + 0.2);
        whole.observe(0.1);
        let mut resumed = EarlyStopping::new(2, Direction::Higher);
        resumed.state = serde_json::from_str(&serde_json::to_string(&whole.state).unwrap()).unwrap();
        assert_eq!(resumed.state, whole.state);
        assert!(resumed.observe(0.1 + 0.2));
    }
}
