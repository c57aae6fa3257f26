//! Line styles, distinguishable by colour, by lightness (in greyscale print) and by dashes.

use plotters::coord::CoordTranslate;
use plotters::element::DashedPathElement;
use plotters::prelude::*;

use super::figure::{Drawn, INK, Pen};

/// A line style.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Style {
    pub color: RGBColor,
    /// Lengths of dash and gap; `None` for a solid line.
    pub dash: Option<(f64, f64)>,
    pub width: f64,
}

/// Colours of networks with a synthesizer, and of labels that are not networks. Neighbours differ in lightness.
const COLORS: [RGBColor; 6] = [
    RGBColor(224, 123, 0),
    RGBColor(0, 55, 120),
    RGBColor(60, 180, 140),
    RGBColor(140, 30, 90),
    RGBColor(135, 200, 250),
    RGBColor(110, 100, 20),
];
/// Greys for networks without a synthesizer beside networks with one.
const GREYS: [RGBColor; 3] = [RGBColor(105, 105, 105), RGBColor(40, 40, 40), RGBColor(165, 165, 165)];
const DASHES: [Option<(f64, f64)>; 5] = [None, Some((8.0, 3.5)), Some((2.5, 2.5)), Some((14.0, 3.0)), Some((5.0, 5.0))];

impl Style {
    /// The style of line `index`.
    pub fn color(index: usize) -> Self {
        Style::nth(&COLORS, index)
    }

    /// The style of line `index` among networks without a synthesizer.
    pub fn grey(index: usize) -> Self {
        Style::nth(&GREYS, index)
    }

    /// The style of the reference.
    pub fn reference() -> Self {
        Style { color: INK, dash: Some((5.0, 4.0)), width: 1.6 }
    }

    /// Cycles through colours and dashes; after each round of colours the dashes are shifted by one.
    fn nth(colors: &[RGBColor], index: usize) -> Self {
        let (round, place) = (index / colors.len(), index % colors.len());
        Style { color: colors[place], dash: DASHES[(place + round) % DASHES.len()], width: 2.2 }
    }

    /// Draws a line through points of an area.
    pub fn draw<DB: DrawingBackend, CT: CoordTranslate>(
        self,
        area: &DrawingArea<DB, CT>,
        pen: Pen,
        points: Vec<CT::From>,
    ) -> Drawn<DB>
    where
        CT::From: Clone + 'static,
    {
        let line = pen.line(self.color, self.width);
        match self.dash {
            None => area.draw(&PathElement::new(points, line)),
            Some((dash, gap)) => area.draw(&DashedPathElement::new(points, pen.px(dash), pen.px(gap), line)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rec. 709 luminance to CIE lightness, 0 to 100.
    fn lightness(RGBColor(r, g, b): RGBColor) -> f64 {
        let linear = |channel: u8| {
            let x = f64::from(channel) / 255.0;
            if x <= 0.04045 { x / 12.92 } else { ((x + 0.055) / 1.055).powf(2.4) }
        };
        let y = 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
        if y > 0.008856 { 116.0 * y.cbrt() - 16.0 } else { 903.3 * y }
    }

    #[test]
    fn lines_are_distinguishable_in_greyscale_print() {
        for styles in [(0..12).map(Style::color).collect::<Vec<_>>(), (0..6).map(Style::grey).collect()] {
            for (index, a) in styles.iter().enumerate() {
                for b in &styles[..index] {
                    let distance = (lightness(a.color) - lightness(b.color)).abs();
                    assert!(distance > 15.0 || a.dash != b.dash, "{a:?} {b:?}: {distance}");
                }
            }
        }
        let neighbours = (0..5).map(|i| (lightness(COLORS[i]) - lightness(COLORS[i + 1])).abs());
        assert!(neighbours.into_iter().all(|distance| distance > 15.0));
    }
}
