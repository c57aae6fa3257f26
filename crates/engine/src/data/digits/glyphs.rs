//! Synthetic digits: strokes through control points, bent, rotated, sheared and shifted, of varied width, blurred and noisy.
//!
//! A substitute for handwriting that needs no download. Position, slant and size vary so much that a linear classifier of
//! the whole image reaches an accuracy of only about two thirds. The same [`Glyphs`] give the same images.

use super::{CLASSES, Digits, Glyphs, PIXELS, SIDE};
use crate::rng::Stream;

/// A stroke: whether it is smooth, and its points `(x, y)` in the unit square, y downwards.
struct Stroke(bool, &'static [(f32, f32)]);

const fn curve(points: &'static [(f32, f32)]) -> Stroke {
    Stroke(true, points)
}

const fn lines(points: &'static [(f32, f32)]) -> Stroke {
    Stroke(false, points)
}

/// Variants of a digit, each a list of strokes.
type Ways = &'static [&'static [Stroke]];

/// The variants of each digit.
const DIGITS: [Ways; CLASSES] = [
    &[
        &[curve(&[
            (0.5, 0.0),
            (0.1, 0.2),
            (0.0, 0.55),
            (0.2, 0.93),
            (0.55, 1.0),
            (0.9, 0.8),
            (1.0, 0.4),
            (0.8, 0.07),
            (0.5, 0.0),
        ])],
        &[curve(&[
            (0.7, 0.05),
            (0.3, 0.08),
            (0.08, 0.5),
            (0.3, 0.95),
            (0.75, 0.9),
            (0.92, 0.5),
            (0.7, 0.05),
            (0.4, 0.12),
        ])],
    ],
    &[
        &[lines(&[(0.5, 0.0), (0.5, 1.0)])],
        &[lines(&[(0.25, 0.25), (0.55, 0.0), (0.55, 1.0)])],
        &[lines(&[(0.25, 0.25), (0.5, 0.0), (0.5, 1.0)]), lines(&[(0.2, 1.0), (0.8, 1.0)])],
    ],
    &[
        &[
            curve(&[(0.05, 0.25), (0.25, 0.03), (0.65, 0.0), (0.92, 0.25), (0.75, 0.55), (0.35, 0.82), (0.02, 1.0)]),
            lines(&[(0.02, 1.0), (1.0, 0.97)]),
        ],
        &[curve(&[
            (0.1, 0.2),
            (0.5, 0.0),
            (0.88, 0.22),
            (0.7, 0.6),
            (0.25, 0.95),
            (0.08, 0.82),
            (0.35, 0.75),
            (0.65, 0.97),
            (1.0, 0.92),
        ])],
    ],
    &[
        &[
            curve(&[(0.08, 0.12), (0.5, 0.0), (0.88, 0.2), (0.7, 0.42), (0.4, 0.48)]),
            curve(&[(0.4, 0.48), (0.8, 0.55), (0.98, 0.77), (0.6, 1.0), (0.05, 0.9)]),
        ],
        &[
            lines(&[(0.05, 0.02), (0.9, 0.02), (0.45, 0.42)]),
            curve(&[(0.45, 0.42), (0.85, 0.52), (0.95, 0.8), (0.55, 1.0), (0.05, 0.88)]),
        ],
    ],
    &[
        &[lines(&[(0.2, 0.0), (0.05, 0.6), (1.0, 0.58)]), lines(&[(0.75, 0.05), (0.7, 1.0)])],
        &[lines(&[(0.7, 1.0), (0.72, 0.0), (0.0, 0.68), (1.0, 0.68)])],
    ],
    &[
        &[
            lines(&[(0.9, 0.02), (0.2, 0.02), (0.15, 0.45)]),
            curve(&[(0.15, 0.45), (0.6, 0.37), (0.95, 0.65), (0.65, 0.98), (0.05, 0.92)]),
        ],
        &[
            curve(&[(0.15, 0.05), (0.12, 0.45), (0.55, 0.4), (0.9, 0.68), (0.6, 1.0), (0.1, 0.9)]),
            lines(&[(0.15, 0.05), (0.9, 0.0)]),
        ],
    ],
    &[
        &[curve(&[
            (0.8, 0.02),
            (0.35, 0.2),
            (0.07, 0.6),
            (0.25, 0.95),
            (0.7, 0.97),
            (0.92, 0.72),
            (0.65, 0.5),
            (0.25, 0.58),
            (0.1, 0.75),
        ])],
        &[curve(&[(0.45, 0.0), (0.12, 0.45), (0.15, 0.9), (0.55, 1.0), (0.85, 0.8), (0.65, 0.58), (0.2, 0.7)])],
    ],
    &[
        &[lines(&[(0.0, 0.03), (0.95, 0.0), (0.4, 1.0)])],
        &[lines(&[(0.0, 0.05), (0.95, 0.0), (0.4, 1.0)]), lines(&[(0.25, 0.5), (0.9, 0.48)])],
        &[curve(&[(0.05, 0.2), (0.1, 0.02), (0.5, 0.08), (0.92, 0.02), (0.6, 0.45), (0.45, 1.0)])],
    ],
    &[
        &[curve(&[
            (0.85, 0.15),
            (0.5, 0.0),
            (0.15, 0.2),
            (0.45, 0.45),
            (0.88, 0.75),
            (0.5, 1.0),
            (0.1, 0.78),
            (0.5, 0.47),
            (0.85, 0.15),
        ])],
        &[
            curve(&[(0.5, 0.0), (0.18, 0.2), (0.5, 0.45), (0.82, 0.2), (0.5, 0.0)]),
            curve(&[(0.5, 0.45), (0.08, 0.75), (0.5, 1.0), (0.92, 0.75), (0.5, 0.45)]),
        ],
    ],
    &[
        &[
            curve(&[(0.88, 0.2), (0.5, 0.0), (0.1, 0.22), (0.4, 0.48), (0.85, 0.3)]),
            lines(&[(0.88, 0.15), (0.82, 1.0)]),
        ],
        &[curve(&[
            (0.85, 0.25),
            (0.5, 0.0),
            (0.12, 0.2),
            (0.35, 0.48),
            (0.85, 0.3),
            (0.85, 0.6),
            (0.6, 0.97),
            (0.2, 0.95),
        ])],
    ],
];

/// Line segments between two points of a stroke.
const FINENESS: usize = 5;

/// Draws the images, the training images first.
pub fn draw(spec: &Glyphs) -> Digits {
    let total = spec.train + spec.test;
    let mut digits = Digits {
        pixels: Vec::with_capacity(total * PIXELS),
        side: SIDE,
        labels: Vec::with_capacity(total),
        train: spec.train,
    };
    let parts = [("data.glyphs.train", spec.train), ("data.glyphs.test", spec.test)];
    for index in parts.into_iter().flat_map(|(part, count)| (0..count).map(move |index| (part, index))) {
        let mut stream = Stream::new(spec.draw, index.0, 0, index.1);
        let class = stream.below(CLASSES);
        digits.labels.push(class as u8);
        digits.pixels.extend(image(class, &mut stream));
    }
    digits
}

/// One image of a class.
fn image(class: usize, stream: &mut Stream) -> [u8; PIXELS] {
    let ways = DIGITS[class];
    let strokes = ways[stream.below(ways.len())];
    let distortion = Distortion::new(stream);
    let pen = Pen {
        radius: stream.uniform(0.45, 1.35),
        softness: stream.uniform(0.7, 1.8),
        ink: stream.uniform(0.7, 1.0),
        grain: stream.uniform(0.0, 0.12),
    };
    let mut nearest = [f32::MAX; PIXELS];
    for Stroke(smooth, points) in strokes {
        let places: Vec<(f32, f32)> = match smooth {
            true => bend(points).map(|point| distortion.place(point)).collect(),
            // Subdivided, so that straight lines are distorted too.
            false => {
                points.windows(2).flat_map(|ends| straight(ends[0], ends[1])).map(|p| distortion.place(p)).collect()
            }
        };
        for ends in places.windows(2) {
            pen.touch(&mut nearest, ends[0], ends[1]);
        }
    }
    nearest.map(|distance| pen.shade(distance, stream))
}

/// The distortion of an image: an affine map and a slow wave.
struct Distortion {
    /// Matrix from the unit square to pixels, row by row.
    matrix: [f32; 4],
    center: (f32, f32),
    wave: [(f32, f32); 4],
}

impl Distortion {
    fn new(stream: &mut Stream) -> Distortion {
        let (width, height) = (stream.uniform(7.0, 15.0), stream.uniform(13.0, 20.0));
        let (sin, cos) = stream.uniform(-0.3, 0.3).sin_cos();
        let shear = stream.uniform(-0.3, 0.3);
        // Scale, then shear horizontally, then rotate.
        let matrix = [cos * width, (cos * shear - sin) * height, sin * width, (sin * shear + cos) * height];
        let middle = (SIDE as f32 - 1.0) / 2.0;
        let center = (middle + stream.uniform(-3.5, 3.5), middle + stream.uniform(-3.0, 3.0));
        let wave = std::array::from_fn(|_| (stream.uniform(-0.09, 0.09), stream.uniform(0.0, std::f32::consts::TAU)));
        Distortion { matrix, center, wave }
    }

    /// Maps a point of the unit square to pixels.
    fn place(&self, (x, y): (f32, f32)) -> (f32, f32) {
        let [(a, p), (b, q), (c, r), (d, s)] = self.wave;
        let u = x - 0.5 + a * (4.0 * y + p).sin() + b * (7.0 * y + 3.0 * x + q).sin();
        let v = y - 0.5 + c * (4.0 * x + r).sin() + d * (6.0 * x + 3.0 * y + s).sin();
        let [xx, xy, yx, yy] = self.matrix;
        (self.center.0 + xx * u + xy * v, self.center.1 + yx * u + yy * v)
    }
}

/// Width, blur, darkness and noise of a line; lengths in pixels.
struct Pen {
    radius: f32,
    softness: f32,
    ink: f32,
    grain: f32,
}

impl Pen {
    /// Updates the squared distance of all nearby pixels to the nearest line.
    fn touch(&self, nearest: &mut [f32; PIXELS], from: (f32, f32), to: (f32, f32)) {
        let reach = self.radius + self.softness;
        let range = |a: f32, b: f32| {
            let low = (a.min(b) - reach).ceil().max(0.0) as usize;
            let high = (a.max(b) + reach).floor().min(SIDE as f32 - 1.0);
            low..if high < 0.0 { low } else { high as usize + 1 }
        };
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let square = (dx * dx + dy * dy).max(1e-6);
        for row in range(from.1, to.1) {
            for column in range(from.0, to.0) {
                let (x, y) = (column as f32 - from.0, row as f32 - from.1);
                let along = ((x * dx + y * dy) / square).clamp(0.0, 1.0);
                let (x, y) = (x - along * dx, y - along * dy);
                let pixel = &mut nearest[row * SIDE + column];
                *pixel = pixel.min(x * x + y * y);
            }
        }
    }

    /// The noisy value of a pixel at this squared distance from the nearest line.
    fn shade(&self, distance: f32, stream: &mut Stream) -> u8 {
        let edge = ((self.radius - distance.sqrt()) / self.softness + 0.5).clamp(0.0, 1.0);
        let smooth = edge * edge * (3.0 - 2.0 * edge);
        // Triangular noise is cheaper than Gaussian.
        let noise = stream.unit() + stream.unit() - 1.0;
        ((self.ink * smooth + self.grain * noise).clamp(0.0, 1.0) * 255.0).round() as u8
    }
}

/// Points on a straight line, both ends included.
fn straight(from: (f32, f32), to: (f32, f32)) -> impl Iterator<Item = (f32, f32)> {
    (0..=FINENESS).map(move |step| {
        let way = step as f32 / FINENESS as f32;
        (from.0 + way * (to.0 - from.0), from.1 + way * (to.1 - from.1))
    })
}

/// Points on a Catmull-Rom spline through `points`, closed if the first and last coincide.
fn bend(points: &[(f32, f32)]) -> impl Iterator<Item = (f32, f32)> + '_ {
    let last = points.len() - 1;
    let closed = points[0] == points[last];
    let at = move |index: isize| {
        let index = match closed {
            true => index.rem_euclid(last as isize),
            false => index.clamp(0, last as isize),
        };
        points[index as usize]
    };
    (0..last * FINENESS + 1).map(move |step| {
        let (index, t) = ((step / FINENESS) as isize, (step % FINENESS) as f32 / FINENESS as f32);
        let around = [index - 1, index, index + 1, index + 2].map(at);
        let mix = |[a, b, c, d]: [f32; 4]| {
            b + 0.5 * t * (c - a + t * (2.0 * a - 5.0 * b + 4.0 * c - d + t * (3.0 * (b - c) + d - a)))
        };
        (mix(around.map(|point| point.0)), mix(around.map(|point| point.1)))
    })
}
