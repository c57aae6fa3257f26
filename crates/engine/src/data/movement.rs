//! Measures of drawn movements: how far they stray from the path of the target, and how smooth they are.
//!
//! With `x(t)` the output at step `t` and the path the polygon through the target's points (for a straight line: the line from its
//! start to its end):
//!
//! - `dysmetria`: mean distance of `x(t)` from the nearest point of the path, over steps and sequences.
//! - `sparc`: spectral arc length of the speed profile (Balasubramanian, Melendez-Calderon, Roby-Brami and Burdet, J.
//!   NeuroEngineering Rehabil. 12:112, 2015): `−∫ √((1/ω_c)² + (dV̂/dω)²) dω` up to ω_c, the last frequency at which the
//!   amplitude spectrum, normalised by its value at zero, is 5 % or more. There, ω_c is also at most 10 Hz; steps have no
//!   duration, so here that limit is the Nyquist frequency. Never positive; nearer to zero is smoother.
//! - `jerk`: normalised jerk (Teulings, Contreras-Vidal, Stelmach and Adler, Exp. Neurol. 146:159, 1997), `√(½ ∫ |x‴|² dt · D⁵/L²)`
//!   with the duration D and the length L of the drawn path: independent of both.
//!
//! Smoothness is measured where the target moves. An output that rests has no speed and counts as 0.

use candle_core::Tensor;

use super::{Direction, Measured, Metric, Targets};
use crate::error::{Error, Problem, Result};

/// Least number of points of a movement with a jerk, which is a third difference.
const FEWEST_STEPS: usize = 4;

/// The problem of a task that asks for these measures of sequences which are too short.
pub fn too_short(asked: bool, steps: usize) -> Option<Problem> {
    let message = format!("sequences of {steps} steps are too short for the jerk of a movement, a third difference");
    (asked && steps < FEWEST_STEPS).then(|| {
        Problem::new("movement", message).help(format!("leave it out, or draw in at least {FEWEST_STEPS} steps"))
    })
}

/// A point, `[coordinates]`.
type Point = Vec<f32>;
/// The points of a sequence.
type Movement = Vec<Point>;

/// Whether a metric is one of these measures, which need whole movements.
pub fn is_movement(name: &str) -> bool {
    ["dysmetria", "sparc", "jerk"].contains(&name)
}

/// The measures as metrics of outputs `[batch, time, coordinates]`.
pub fn metrics() -> [Metric; 3] {
    [
        Metric::new("dysmetria", "distance", Direction::Lower, |outputs, targets| {
            let [outputs, targets] = movements(outputs, targets)?;
            mean(outputs.iter().zip(&targets).flat_map(|(drawn, path)| drawn.iter().map(|x| distance(x, path))))
        }),
        Metric::new("sparc", "", Direction::Higher, |outputs, targets| smoothness(outputs, targets, sparc)),
        Metric::new("jerk", "", Direction::Lower, |outputs, targets| smoothness(outputs, targets, normalised_jerk)),
    ]
}

fn movements(outputs: &Tensor, targets: &Targets) -> Result<[Vec<Movement>; 2]> {
    match targets {
        Targets::Values(targets) => Ok([outputs.to_vec3()?, targets.to_vec3()?]),
        _ => Err(Error::Usage("movements need targets that are numbers, at every step".into())),
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Result<Measured> {
    let (mut sum, mut count) = (0.0, 0);
    values.for_each(|value| (sum, count) = (sum + value, count + 1));
    Measured::new(&Tensor::new(sum, &candle_core::Device::Cpu)?, count)
}

/// A measure of the outputs whose targets move.
fn smoothness(outputs: &Tensor, targets: &Targets, measure: fn(&[Point]) -> f64) -> Result<Measured> {
    let [outputs, targets] = movements(outputs, targets)?;
    let moving = outputs.iter().zip(&targets).filter(|(_, target)| length(target) > 0.0);
    mean(moving.map(|(drawn, _)| measure(drawn)))
}

fn between(a: &[f32], b: &[f32]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| f64::from(*b) - f64::from(*a)).collect()
}

fn norm(vector: &[f64]) -> f64 {
    vector.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Distance of a point from the nearest point of a polygonal path.
fn distance(point: &[f32], path: &[Point]) -> f64 {
    let from_segment = |ends: &[Point]| {
        let (along, to) = (between(&ends[0], &ends[1]), between(&ends[0], point));
        let square: f64 = along.iter().map(|x| x * x).sum();
        let dot: f64 = along.iter().zip(&to).map(|(a, b)| a * b).sum();
        // A segment without length is a point.
        let way = if square > 0.0 { (dot / square).clamp(0.0, 1.0) } else { 0.0 };
        norm(&to.iter().zip(&along).map(|(to, along)| to - way * along).collect::<Vec<_>>())
    };
    path.windows(2).map(from_segment).fold(f64::INFINITY, f64::min)
}

/// Distances between successive points: the speed, per step.
fn speeds(path: &[Point]) -> Vec<f64> {
    path.windows(2).map(|ends| norm(&between(&ends[0], &ends[1]))).collect()
}

fn length(path: &[Point]) -> f64 {
    speeds(path).iter().sum()
}

/// Amplitude, relative to that at zero, below which a spectrum ends.
const THRESHOLD: f64 = 0.05;
/// The spectrum is sampled at 2^4 times the frequencies that the number of points, rounded up to a power of two, gives.
const PADDING: u32 = 4;

/// The spectral arc length of a movement's speed.
fn sparc(drawn: &[Point]) -> f64 {
    let speed = speeds(drawn);
    let total: f64 = speed.iter().sum();
    if total == 0.0 {
        return 0.0;
    }
    let samples = speed.len().next_power_of_two() << PADDING;
    let angle = |index: usize| std::f64::consts::TAU * (index % samples) as f64 / samples as f64;
    let turns: Vec<(f64, f64)> = (0..samples).map(|index| angle(index).sin_cos()).collect();
    let amplitude = |frequency: usize| {
        let add = |(sine, cosine): (f64, f64), (step, speed): (usize, &f64)| {
            let (sin, cos) = turns[frequency * step % samples];
            (sine + speed * sin, cosine + speed * cos)
        };
        let (sine, cosine) = speed.iter().enumerate().fold((0.0, 0.0), add);
        sine.hypot(cosine) / total
    };
    // Up to the Nyquist frequency.
    let spectrum: Vec<f64> = (0..=samples / 2).map(amplitude).collect();
    let last = spectrum.iter().rposition(|amplitude| *amplitude >= THRESHOLD).unwrap_or(0);
    let step = 1.0 / last.max(1) as f64;
    -spectrum[..=last].windows(2).map(|pair| step.hypot(pair[1] - pair[0])).sum::<f64>()
}

/// The normalised jerk of a movement.
fn normalised_jerk(drawn: &[Point]) -> f64 {
    let length = length(drawn);
    if length == 0.0 {
        return 0.0;
    }
    let third = |points: &[Point]| -> f64 {
        let of = |axis: usize| {
            let at = |index: usize| f64::from(points[index][axis]);
            (at(3) - 3.0 * at(2) + 3.0 * at(1) - at(0)).powi(2)
        };
        (0..points[0].len()).map(of).sum()
    };
    let squares: f64 = drawn.windows(FEWEST_STEPS).map(third).sum();
    (0.5 * squares * ((drawn.len() - 1) as f64).powi(5)).sqrt() / length
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Steps of a movement along a line of this length: `way` is the share of it that is done at a share of the time.
    fn along(steps: usize, length: f64, way: impl Fn(f64) -> f64) -> Vec<Point> {
        let point = |step: usize| {
            let at = length * way(step as f64 / (steps - 1) as f64);
            vec![(0.6 * at) as f32, (0.8 * at) as f32]
        };
        (0..steps).map(point).collect()
    }

    /// The smoothest movement (Flash and Hogan, J. Neurosci. 5:1688, 1985).
    fn minimum_jerk(t: f64) -> f64 {
        t.powi(3) * (10.0 - 15.0 * t + 6.0 * t * t)
    }

    #[test]
    fn jerk_of_the_smoothest_movement_is_the_known_one_whatever_its_size_and_duration() {
        // ∫ (60 − 360 t + 360 t²)² dt = 720 over a unit of time and length.
        // More steps would bring third differences down to the rounding of single precision.
        for (steps, length) in [(101, 1.0), (101, 50.0), (201, 1.0)] {
            let jerk = normalised_jerk(&along(steps, length, minimum_jerk));
            assert!((jerk / 360f64.sqrt() - 1.0).abs() < 0.05, "{steps} {length}: {jerk}");
        }
        assert_eq!(normalised_jerk(&along(9, 8.0, |t| t)).round(), 0.0);
        let stuttering =
            along(81, 1.0, |t| 0.5 * (minimum_jerk((2.0 * t).min(1.0)) + minimum_jerk((2.0 * t - 1.0).max(0.0))));
        // Two movements of half the length in half the time each: 2 · (1/2)² / (1/2)⁵ = 4² times the integral.
        let jerk = normalised_jerk(&stuttering);
        assert!((jerk / (4.0 * 360f64.sqrt()) - 1.0).abs() < 0.1, "{jerk}");
    }

    /// The expected values are those of the published algorithm in Python, with its limit at the Nyquist frequency.
    #[test]
    fn spectral_arc_length_of_a_smooth_movement_is_that_of_the_reference_and_pauses_lengthen_it() {
        let smooth = |steps: usize, length: f64| sparc(&along(steps, length, minimum_jerk));
        assert!((smooth(101, 1.0) - -1.405_85).abs() < 5e-4, "{}", smooth(101, 1.0));
        assert!((smooth(101, 1.0) - smooth(101, 40.0)).abs() < 1e-3, "independent of size");
        assert!((smooth(101, 1.0) - smooth(201, 1.0)).abs() < 2e-2, "and of duration");
        let pause = |t: f64| 0.5 * (minimum_jerk((2.5 * t).min(1.0)) + minimum_jerk((2.5 * t - 1.5).clamp(0.0, 1.0)));
        let halting = sparc(&along(101, 1.0, pause));
        assert!((halting - -3.169_63).abs() < 5e-4 && halting < smooth(101, 1.0) - 0.5, "{halting}");
        assert_eq!(sparc(&along(10, 0.0, |t| t)), 0.0, "rest");
    }

    #[test]
    fn distances_are_from_the_nearest_point_of_the_path() {
        let corner: Vec<Point> = vec![vec![0.0, 0.0], vec![10.0, 0.0], vec![10.0, 10.0]];
        for (point, expected) in [([5.0, -3.0], 3.0), ([-3.0, 4.0], 5.0), ([12.0, 5.0], 2.0), ([10.0, 4.0], 0.0)] {
            assert!((distance(&point, &corner) - expected).abs() < 1e-12, "{point:?}");
        }
        let stay: Vec<Point> = vec![vec![1.0, 1.0]; 4];
        assert!((distance(&[4.0, 5.0], &stay) - 5.0).abs() < 1e-12);
    }

    #[test]
    fn lagging_along_the_path_is_no_dysmetria_and_resting_targets_have_no_smoothness() -> Result<()> {
        let steps = |x: [f32; 5], y: f32| -> Vec<Vec<f32>> { x.iter().map(|&x| vec![x, y]).collect() };
        let outputs = Tensor::new(vec![steps([0., 0., 0.5, 1., 1.5], 0.0), steps([0.; 5], 2.0)], &Device::Cpu)?;
        let targets = Tensor::new(vec![steps([0., 1., 2., 3., 4.], 0.0), steps([0.; 5], 0.0)], &Device::Cpu)?;
        let [dysmetria, sparc, jerk] = metrics();
        let measured = |metric: &Metric| metric.on(&outputs, &Targets::Values(targets.clone()));
        let mean = |measured: Measured| Ok::<_, Error>(measured.sum()? / measured.weight);
        assert_eq!(mean(measured(&dysmetria)?)?, 1.0, "the second is 2 away at each of its steps");
        assert_eq!((measured(&sparc)?.weight, measured(&jerk)?.weight), (1.0, 1.0));
        assert!(sparc.on(&outputs, &Targets::FinalClass(targets.clone())).is_err());
        Ok(())
    }
}
