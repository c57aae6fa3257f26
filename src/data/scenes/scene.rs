//! What is in a scene: one or two shapes on a plain ground.

use crate::rng::Stream;

/// A name and a colour, red, green, blue.
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
/// Colours of the ground.
pub(super) const GROUNDS: [Paint; 3] = [("white", [250, 250, 250]), ("grey", [135, 135, 135]), ("black", [15, 15, 15])];

/// A shape's outline.
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

/// A shape in a image that is thought of as three columns and three rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Thing {
    pub shape: Shape,
    /// Position in [`COLOURS`].
    pub colour: usize,
    pub large: bool,
    /// 0 is left.
    pub column: usize,
    /// 0 is the top.
    pub row: usize,
}

/// A image before it is painted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scene {
    /// Position in [`GROUNDS`].
    pub ground: usize,
    /// One or two; two differ in shape or colour, and are in different places.
    pub things: Vec<Thing>,
}

impl Scene {
    /// Draws a scene.
    pub(super) fn draw(stream: &mut Stream) -> Scene {
        let ground = stream.below(GROUNDS.len());
        let first = Thing::draw(stream);
        let mut things = vec![first];
        // Two of three scenes have two things.
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
