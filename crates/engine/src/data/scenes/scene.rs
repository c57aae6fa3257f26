//! The content of a scene: one or two shapes on a plain background.

use crate::rng::Stream;

/// The name of a colour and its RGB values.
pub(super) type Paint = (&'static str, [u8; 3]);

/// Colours of shapes.
pub(super) const COLOURS: [Paint; 6] = [
    ("red", [215, 35, 40]),
    ("green", [40, 160, 60]),
    ("blue", [40, 75, 215]),
    ("yellow", [240, 215, 40]),
    ("purple", [140, 50, 165]),
    ("orange", [245, 135, 25]),
];
/// Colours of the background.
pub(super) const GROUNDS: [Paint; 3] = [("white", [250, 250, 250]), ("grey", [135, 135, 135]), ("black", [15, 15, 15])];

/// The outline of a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Circle,
    Square,
    Triangle,
    Star,
    Cross,
    Ring,
}

pub(super) const SHAPES: [Shape; 6] =
    [Shape::Circle, Shape::Square, Shape::Triangle, Shape::Star, Shape::Cross, Shape::Ring];

/// A shape in a cell of a 3 x 3 grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Thing {
    pub shape: Shape,
    /// Index into [`COLOURS`].
    pub colour: usize,
    pub large: bool,
    /// 0 is left.
    pub column: usize,
    /// 0 is the top.
    pub row: usize,
}

/// The content of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scene {
    /// Index into [`GROUNDS`].
    pub ground: usize,
    /// One or two, which differ in shape or colour and are in different cells.
    pub things: Vec<Thing>,
}

impl Scene {
    /// Samples a scene.
    pub(super) fn draw(stream: &mut Stream) -> Scene {
        let ground = stream.below(GROUNDS.len());
        let first = Thing::draw(stream);
        let mut things = vec![first];
        // Two scenes in three have two shapes.
        while things.len() == 1 && stream.below(3) > 0 {
            let second = Thing::draw(stream);
            let alike = second.shape == first.shape && second.colour == first.colour;
            if !alike && (second.column, second.row) != (first.column, first.row) {
                things.push(second);
            }
        }
        Scene { ground, things }
    }
}

impl Thing {
    fn draw(stream: &mut Stream) -> Thing {
        Thing {
            shape: SHAPES[stream.below(SHAPES.len())],
            colour: stream.below(COLOURS.len()),
            large: stream.below(2) == 1,
            column: stream.below(3),
            row: stream.below(3),
        }
    }
}
