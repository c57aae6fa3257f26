//! plotters' bitmap backend with two corrections, so that a PNG looks like the SVG.

use plotters::prelude::*;
use plotters_backend::text_anchor::VPos;
use plotters_backend::{BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingErrorKind, FontTransform};

/// Draws round joins, where plotters' mitres become long spikes at sharp angles, and centres text vertically.
pub(super) struct SmoothBitmap<'a>(pub BitMapBackend<'a>);

type Outcome<'a> = Result<(), DrawingErrorKind<<BitMapBackend<'a> as DrawingBackend>::ErrorType>>;

impl<'a> DrawingBackend for SmoothBitmap<'a> {
    type ErrorType = <BitMapBackend<'a> as DrawingBackend>::ErrorType;

    fn get_size(&self) -> (u32, u32) {
        self.0.get_size()
    }

    fn ensure_prepared(&mut self) -> Outcome<'a> {
        self.0.ensure_prepared()
    }

    fn present(&mut self) -> Outcome<'a> {
        self.0.present()
    }

    fn draw_pixel(&mut self, point: BackendCoord, color: BackendColor) -> Outcome<'a> {
        self.0.draw_pixel(point, color)
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Outcome<'a> {
        self.0.draw_line(from, to, style)
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        upper_left: BackendCoord,
        bottom_right: BackendCoord,
        style: &S,
        fill: bool,
    ) -> Outcome<'a> {
        self.0.draw_rect(upper_left, bottom_right, style, fill)
    }

    /// Draws segment by segment, with a disc on every joint: correct for opaque colours only.
    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, path: I, style: &S) -> Outcome<'a> {
        let mut points: Vec<BackendCoord> = path.into_iter().collect();
        points.dedup();
        for (index, segment) in points.windows(2).enumerate() {
            self.0.draw_path([segment[0], segment[1]], style)?;
            if index > 0 {
                self.0.draw_circle(segment[0], style.stroke_width() / 2, style, true)?;
            }
        }
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, (x, y): BackendCoord) -> Outcome<'a> {
        // plotters underestimates the height of letters. For rotated text the shift would be horizontal.
        let share = match style.anchor().v_pos {
            VPos::Top => 0.1,
            VPos::Center => 0.2,
            VPos::Bottom => 0.08,
        };
        let upright = matches!(style.transform(), FontTransform::None);
        let shift = if upright { (share * style.size()).round() as i32 } else { 0 };
        self.0.draw_text(text, style, (x, y + shift))
    }
}
