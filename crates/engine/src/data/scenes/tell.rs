//! Captions of a scene: true sentences from a small grammar with synonyms.

use std::ops::RangeInclusive;

use super::scene::{COLOURS, GROUNDS, Scene, Shape, Thing};
use crate::rng::Stream;

/// Words per sentence, without the period.
const WORDS: RangeInclusive<usize> = 8..=15;
/// Number of distinct candidates from which the captions are chosen.
const CANDIDATES: usize = 120;

/// Generates `count` distinct captions; lengths are sampled uniformly, as far as the candidates allow.
pub(super) fn tell(scene: &Scene, count: usize, stream: &mut Stream) -> Vec<String> {
    let mut candidates: Vec<(usize, String)> = Vec::new();
    while candidates.len() < CANDIDATES {
        let sentence = Teller { scene, stream }.sentence();
        let words = sentence.split(' ').count();
        if WORDS.contains(&words) && !candidates.iter().any(|(_, other)| *other == sentence) {
            candidates.push((words, sentence));
        }
    }
    let mut chosen = Vec::with_capacity(count);
    while chosen.len() < count.min(CANDIDATES) {
        let wanted = WORDS.start() + stream.below(WORDS.end() - WORDS.start() + 1);
        let nearest = (0..candidates.len()).min_by_key(|&at| candidates[at].0.abs_diff(wanted)).unwrap_or(0);
        chosen.push(format!("{}.", candidates.swap_remove(nearest).1));
    }
    chosen
}

/// The word after its indefinite article.
fn with_article(word: &str) -> String {
    let article = if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {word}")
}

/// Generates sentences.
struct Teller<'a> {
    scene: &'a Scene,
    stream: &'a mut Stream,
}

impl Teller<'_> {
    fn one_of(&mut self, choices: &[&'static str]) -> &'static str {
        choices[self.stream.below(choices.len())]
    }

    fn sentence(&mut self) -> String {
        match self.scene.things[..] {
            [one, other] => {
                // Either may be the subject.
                if self.stream.below(2) == 0 { self.about_two(one, other) } else { self.about_two(other, one) }
            }
            _ => self.about_one(self.scene.things[0]),
        }
    }

    fn about_one(&mut self, thing: Thing) -> String {
        let (what, place, ground) = (self.thing(thing, true), self.place(thing), self.ground());
        let image = self.one_of(&["picture", "image", "drawing"]);
        let is = self.one_of(&["is", "sits", "appears"]);
        match self.stream.below(8) {
            0 => format!("{what} {place} {ground}"),
            1 => format!("there is {what} {place}"),
            2 => format!("there is {what} {place} {ground}"),
            3 => format!("the {image} shows {what} {place}"),
            4 => format!("{what} {is} {place} of the {image}"),
            5 => format!("{} of {what} {place} {ground}", with_article(image)),
            6 => format!("{place} of the {image} there is {what}"),
            _ => format!("{ground} there is {what} {place}"),
        }
    }

    fn about_two(&mut self, one: Thing, other: Thing) -> String {
        let (first, second) = (self.thing(one, true), self.thing(other, true));
        let (relation, ground) = (self.relation(one, other), self.ground());
        let image = self.one_of(&["picture", "image", "drawing"]);
        match self.stream.below(8) {
            0 => format!("{first} is {relation} {second}"),
            1 => format!("there is {first} {relation} {second}"),
            2 => format!("{first} {relation} {second} {ground}"),
            3 => format!("{} of {first} and {second}", with_article(image)),
            4 => format!("{first} and {second} {ground}"),
            5 => format!("the {image} shows {first} {relation} {second}"),
            6 => {
                let (here, there) = (self.place(one), self.place(other));
                format!("{first} {here} and {second} {there}")
            }
            _ => {
                let (first, second) = (self.thing(one, false), self.thing(other, false));
                format!("{first} is {relation} {second} {ground}")
            }
        }
    }

    /// `a small red disc`, or `the red disc`; the size is optional.
    fn thing(&mut self, thing: Thing, any: bool) -> String {
        let size = if thing.large { &["large", "big", "huge"] } else { &["small", "little", "tiny"] };
        let size = if self.stream.below(2) > 0 { Some(self.one_of(size)) } else { None };
        let colour = COLOURS[thing.colour].0;
        let shape = self.one_of(match thing.shape {
            Shape::Circle => &["circle", "disc"],
            Shape::Square => &["square", "box"],
            Shape::Triangle => &["triangle"],
            Shape::Star => &["star"],
            Shape::Cross => &["cross", "plus"],
            Shape::Ring => &["ring", "hoop"],
        });
        let named = size.map_or(format!("{colour} {shape}"), |size| format!("{size} {colour} {shape}"));
        let article = match named.as_bytes()[0] {
            _ if !any => "the",
            b'a' | b'e' | b'i' | b'o' | b'u' => "an",
            _ => "a",
        };
        format!("{article} {named}")
    }

    fn ground(&mut self) -> String {
        let (on, colour) = (self.one_of(&["on", "against"]), GROUNDS[self.scene.ground].0);
        format!("{on} a {colour} {}", self.one_of(&["background", "ground"]))
    }

    /// The position of a shape, which ` of the image` may follow.
    fn place(&mut self, thing: Thing) -> String {
        let side = ["left", "", "right"][thing.column];
        let (top, upper) = [("top", "upper"), ("", ""), ("bottom", "lower")][thing.row];
        match (thing.column, thing.row) {
            (1, 1) => self.one_of(&["in the middle", "in the center", "at the center"]).into(),
            (1, _) => match self.stream.below(3) {
                0 => format!("at the {top}"),
                1 => format!("in the {upper} half"),
                _ => format!("near the {top}"),
            },
            (_, 1) => match self.stream.below(3) {
                0 => format!("on the {side} side"),
                1 => format!("in the {side} half"),
                _ => format!("at the {side} edge"),
            },
            _ => match self.stream.below(3) {
                0 => format!("in the {top} {side} corner"),
                1 => format!("in the {upper} {side} corner"),
                _ => format!("at the {top} {side}"),
            },
        }
    }

    /// The relation between two shapes along an axis in which they differ.
    fn relation(&mut self, one: Thing, other: Thing) -> &'static str {
        let beside = match one.column.cmp(&other.column) {
            std::cmp::Ordering::Less => Some(&["left of", "to the left of", "on the left of"]),
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some(&["right of", "to the right of", "on the right of"]),
        };
        let over = match one.row.cmp(&other.row) {
            std::cmp::Ordering::Less => Some(&["above", "over", "higher than"]),
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some(&["below", "under", "lower than"]),
        };
        match (beside, over) {
            (Some(beside), Some(over)) => {
                let choices = if self.stream.below(2) == 0 { beside } else { over };
                self.one_of(choices)
            }
            (Some(choices), None) | (None, Some(choices)) => self.one_of(choices),
            // Unreachable: two shapes are never in the same cell.
            (None, None) => "with",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shape that a word names.
    fn shape(word: &str) -> Option<Shape> {
        Some(match word.trim_end_matches('.') {
            "circle" | "disc" => Shape::Circle,
            "square" | "box" => Shape::Square,
            "triangle" => Shape::Triangle,
            "star" => Shape::Star,
            "cross" | "plus" => Shape::Cross,
            "ring" | "hoop" => Shape::Ring,
            _ => return None,
        })
    }

    #[test]
    fn every_sentence_is_true() {
        for index in 0..500 {
            let mut stream = Stream::new(1, "test", 0, index);
            let scene = Scene::draw(&mut stream);
            for sentence in tell(&scene, 5, &mut stream) {
                let words: Vec<&str> = sentence.trim_end_matches('.').split(' ').collect();
                assert!(WORDS.contains(&words.len()) && sentence.ends_with('.'), "{sentence}");
                let named: Vec<Thing> = words
                    .iter()
                    .enumerate()
                    .filter_map(|(at, word)| shape(word).map(|shape| (words[at - 1], shape)))
                    .map(|(colour, shape)| {
                        let is_it = |thing: &&Thing| thing.shape == shape && COLOURS[thing.colour].0 == colour;
                        *scene.things.iter().find(is_it).unwrap_or_else(|| panic!("{sentence}: {scene:?}"))
                    })
                    .collect();
                assert_eq!(named.len(), scene.things.len(), "{sentence}");
                let has = |what: &str| format!(" {sentence} ").contains(&format!(" {what} "));
                if let [one, other] = named[..] {
                    let relations = [
                        ("left of", one.column < other.column),
                        ("right of", one.column > other.column),
                        ("above", one.row < other.row),
                        ("over", one.row < other.row),
                        ("higher than", one.row < other.row),
                        ("below", one.row > other.row),
                        ("under", one.row > other.row),
                        ("lower than", one.row > other.row),
                    ];
                    assert!(relations.iter().all(|(words, holds)| !has(words) || *holds), "{sentence}: {scene:?}");
                } else {
                    let (column, row) = (named[0].column, named[0].row);
                    let places = [
                        ("left", column == 0),
                        ("right", column == 2),
                        ("top", row == 0),
                        ("upper", row == 0),
                        ("bottom", row == 2),
                        ("lower", row == 2),
                        ("middle", (column, row) == (1, 1)),
                    ];
                    assert!(places.iter().all(|(word, holds)| !has(word) || *holds), "{sentence}: {scene:?}");
                }
                let grounds = GROUNDS.iter().filter(|(name, _)| has(&format!("a {name}")));
                assert!(grounds.into_iter().all(|(name, _)| *name == GROUNDS[scene.ground].0), "{sentence}");
                assert!(!has("a orange") && !has("a image"), "{sentence}");
            }
        }
    }
}
