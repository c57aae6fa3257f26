//! Renders a scene.

use image::{Rgb, RgbImage};

use super::scene::{COLOURS, GROUNDS, Scene, Shape};
use crate::rng::Stream;

/// Samples per side of a pixel, for anti-aliasing.
const SAMPLES: usize = 4;
/// Half the width of a small and of a large shape, in image widths.
const SMALL: f32 = 0.085;
const LARGE: f32 = 0.15;
/// Maximum offset of a shape from the centre of its cell.
const SHIFT: f32 = 0.015;

/// Vertices of a five-pointed star in the unit circle, clockwise.
const STAR: [(f32, f32); 10] = [
    (0.0, -1.0),
    (0.247, -0.340),
    (0.951, -0.309),
    (0.399, 0.130),
    (0.588, 0.809),
    (0.0, 0.420),
    (-0.588, 0.809),
    (-0.399, 0.130),
    (-0.951, -0.309),
    (-0.247, -0.340),
];
/// Vertices of a triangle.
const TRIANGLE: [(f32, f32); 3] = [(0.0, -0.9), (0.95, 0.8), (-0.95, 0.8)];

/// A shape with its jittered position, size and colour.
struct Placed {
    shape: Shape,
    colour: [f32; 3],
    x: f32,
    y: f32,
    radius: f32,
}

/// Renders a scene as a square of `size` x `size` pixels.
pub(super) fn paint(scene: &Scene, size: u32, stream: &mut Stream) -> RgbImage {
    let ground = shade(GROUNDS[scene.ground].1, 5.0, stream);
    let things: Vec<Placed> = scene
        .things
        .iter()
        .map(|thing| {
            let mut middle = |cell: usize| (cell as f32 + 0.5) / 3.0 + stream.uniform(-SHIFT, SHIFT);
            let (x, y) = (middle(thing.column), middle(thing.row));
            let radius = if thing.large { LARGE } else { SMALL } * stream.uniform(0.92, 1.0);
            Placed { shape: thing.shape, colour: shade(COLOURS[thing.colour].1, 12.0, stream), x, y, radius }
        })
        .collect();
    let step = 1.0 / (size as f32 * SAMPLES as f32);
    RgbImage::from_fn(size, size, |column, row| {
        let mut sum = [0.0; 3];
        for sample in 0..SAMPLES * SAMPLES {
            let at = |cell: u32, offset: usize| (cell as f32 * SAMPLES as f32 + offset as f32 + 0.5) * step;
            let (x, y) = (at(column, sample % SAMPLES), at(row, sample / SAMPLES));
            let hit = things
                .iter()
                .rfind(|thing| thing.shape.covers((x - thing.x) / thing.radius, (y - thing.y) / thing.radius));
            let colour = hit.map_or(ground, |thing| thing.colour);
            sum.iter_mut().zip(colour).for_each(|(sum, value)| *sum += value);
        }
        Rgb(sum.map(|sum| (sum / (SAMPLES * SAMPLES) as f32).round() as u8))
    })
}

/// A colour with uniform noise of up to `by` per channel.
fn shade(colour: [u8; 3], by: f32, stream: &mut Stream) -> [f32; 3] {
    colour.map(|value| (f32::from(value) + stream.uniform(-by, by)).clamp(0.0, 255.0))
}

impl Shape {
    /// Whether the shape, in the square from -1 to 1, covers a point; y points downwards.
    fn covers(self, x: f32, y: f32) -> bool {
        let distance = x * x + y * y;
        match self {
            Shape::Circle => distance <= 1.0,
            Shape::Ring => (0.3..=1.0).contains(&distance),
            Shape::Square => x.abs() <= 0.88 && y.abs() <= 0.88,
            Shape::Cross => x.abs().max(y.abs()) <= 0.95 && x.abs().min(y.abs()) <= 0.3,
            Shape::Triangle => within(&TRIANGLE, x, y),
            Shape::Star => within(&STAR, x, y),
        }
    }
}

/// Whether a point is within a polygon, by the even-odd rule.
fn within(corners: &[(f32, f32)], x: f32, y: f32) -> bool {
    let sides = corners.iter().zip(corners.iter().cycle().skip(1));
    let crossed =
        sides.filter(|&(&(ax, ay), &(bx, by))| (ay > y) != (by > y) && x < ax + (y - ay) / (by - ay) * (bx - ax));
    crossed.count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::super::scene::{SHAPES, Thing};
    use super::*;

    #[test]
    fn a_shape_is_where_the_scene_has_it_and_in_its_colour() {
        for shape in SHAPES {
            for (column, row) in [(0, 0), (2, 1), (1, 2)] {
                let thing = Thing { shape, colour: 0, large: true, column, row };
                let scene = Scene { ground: 2, things: vec![thing] };
                let image = paint(&scene, 48, &mut Stream::new(1, "test", 0, 0));
                let red = |c: u32, r: u32| {
                    let cell = (c * 16..c * 16 + 16).flat_map(|x| (r * 16..r * 16 + 16).map(move |y| (x, y)));
                    cell.filter(|&(x, y)| image.get_pixel(x, y)[0] > 120).count()
                };
                for (c, r) in (0..3).flat_map(|c| (0..3).map(move |r| (c, r))) {
                    let here = (c as usize, r as usize) == (column, row);
                    assert_eq!(red(c, r) > 40, here, "{shape:?} at {column}, {row}: {} in {c}, {r}", red(c, r));
                }
            }
        }
    }

    #[test]
    fn shapes_are_distinct() {
        let grid = || (0..400).map(|i| ((i % 20) as f32 / 10.0 - 0.95, (i / 20) as f32 / 10.0 - 0.95));
        for (at, one) in SHAPES.iter().enumerate() {
            for other in &SHAPES[at + 1..] {
                let different = grid().filter(|&(x, y)| one.covers(x, y) != other.covers(x, y)).count();
                assert!(different >= 30, "{one:?} and {other:?} differ in {different} of 400 points");
            }
        }
    }
}
