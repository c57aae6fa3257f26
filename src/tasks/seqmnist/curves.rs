//! The target curve of each class: a straight line to its point, or the digit in one stroke.

use std::f64::consts::TAU;

use super::{Ends, Mode, SeqMnist};
use crate::rng::Stream;

/// A point of the plane, y upwards.
pub type Point = [f64; 2];

/// Nodes per side of the grid.
const GRID: usize = 4;
/// Nodes of the grid.
pub(super) const NODES: usize = GRID * GRID;

/// The path of each digit over the keys of a numeric keypad on the unit square, with 7 at the upper left; `/` is halfway
/// between 4 and 8.
const STROKES: [&str; 10] = [
    "741236987",
    "/852",
    "7895123",
    "789656321",
    "74565852",
    "78987456321",
    "74123654",
    "78951",
    "753215987",
    "74569878963",
];

/// The position of a key of [`STROKES`].
fn key(key: u8) -> Point {
    match key {
        b'1'..=b'9' => {
            let index = key - b'1';
            [f64::from(index % 3) / 2.0, f64::from(index / 3) / 2.0]
        }
        _ => [0.25, 0.75],
    }
}

/// Number of control points of a digit; `None` for a class that is no digit.
pub(super) fn corners(number: u8) -> Option<usize> {
    STROKES.get(usize::from(number)).map(|stroke| stroke.len())
}

/// The curve of every class, in order: `steps` positions each.
pub(super) fn of(spec: &SeqMnist, seed: u64) -> Vec<Vec<Point>> {
    let (steps, count) = (spec.steps(), spec.numbers.len());
    match spec.mode {
        Mode::Recognise => Vec::new(),
        Mode::Lines => ends(spec.ends, spec.radius, count, seed).iter().map(|&end| line(end, steps)).collect(),
        Mode::Digits => spec.numbers.iter().map(|&number| image(number, steps)).collect(),
    }
}

/// The ends of the lines of `count` classes.
fn ends(ends: Ends, radius: f64, count: usize, seed: u64) -> Vec<Point> {
    match ends {
        // The first straight up, the others clockwise.
        Ends::Circle => (0..count)
            .map(|class| TAU * class as f64 / count as f64)
            .map(|angle| [radius * angle.sin(), radius * angle.cos()])
            .collect(),
        Ends::Grid => {
            let mut nodes = grid();
            Stream::new(seed, "data.ends", 0, 0).shuffle(&mut nodes);
            nodes.into_iter().take(count).map(|[x, y]| [radius * x, radius * y]).collect()
        }
    }
}

/// The nodes of the 4 x 4 grid on the unit square, row by row from the origin.
pub fn grid() -> Vec<Point> {
    let place = |index: usize| index as f64 / (GRID - 1) as f64;
    (0..NODES).map(|node| [place(node % GRID), place(node / GRID)]).collect()
}

/// A straight line from the origin, both ends included.
fn line(end: Point, steps: usize) -> Vec<Point> {
    (0..steps).map(|step| step as f64 / (steps - 1) as f64).map(|way| [way * end[0], way * end[1]]).collect()
}

/// A digit as a polyline with `T` steps on `q` segments, `T = d q + r`, as in the original: every segment has `d` steps. If
/// `r > 0` the first `r - 1` segments have one more, otherwise the last has one fewer. The last point closes the sequence.
fn image(number: u8, steps: usize) -> Vec<Point> {
    let corners: Vec<Point> = STROKES[usize::from(number)].bytes().map(key).collect();
    let sides = corners.len() - 1;
    let (each, left) = (steps / sides, steps % sides);
    let mut points = Vec::with_capacity(steps);
    for (side, ends) in corners.windows(2).enumerate() {
        let steps = match left {
            0 if side == sides - 1 => each - 1,
            _ => each + usize::from(side + 1 < left),
        };
        points.extend((0..steps).map(|step| {
            let way = step as f64 / steps as f64;
            [0, 1].map(|axis| ends[0][axis] + way * (ends[1][axis] - ends[0][axis]))
        }));
    }
    points.extend(corners.last());
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_takes_the_steps_it_is_given() {
        for number in 0..10 {
            for steps in corners(number).unwrap()..60 {
                let points = image(number, steps);
                assert_eq!(points.len(), steps, "{number}");
                let (first, last) = STROKES[usize::from(number)].split_at(1);
                assert_eq!(points[0], key(first.as_bytes()[0]));
                assert_eq!(points[steps - 1], key(last.as_bytes()[last.len() - 1]));
            }
        }
    }

    #[test]
    fn ends_on_the_grid_are_distinct_and_differ_between_seeds() {
        let drawn = |seed| ends(Ends::Grid, 10.0, 10, seed);
        let (one, two) = (drawn(1), drawn(2));
        assert_ne!(one, two);
        for (index, end) in one.iter().enumerate() {
            assert!(!one[..index].contains(end));
            assert!(grid().iter().any(|[x, y]| [10.0 * x, 10.0 * y] == *end));
        }
    }

    #[test]
    fn a_circle_is_divided_by_the_classes_that_take_part() {
        let three = ends(Ends::Circle, 2.0, 3, 1);
        assert_eq!(three[0], [0.0, 2.0]);
        assert!((three[1][1] + 1.0).abs() < 1e-9 && three[1][0] > 0.0, "{three:?}");
    }
}
