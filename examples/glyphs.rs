//! The digits that the program draws, on a sheet.
//!
//! `cargo run --release --example glyphs -- glyphs.png`

use ccdni::data::digits::{CLASSES, Digits, Glyphs, SIDE, Source};

/// Images per class on the sheet.
const COLUMNS: usize = 16;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "glyphs.png".into());
    let began = std::time::Instant::now();
    let digits = Digits::open(&Source::Glyphs(Glyphs::default()))?;
    let count = digits.test().end;
    println!("{count} images drawn in {:.2} s", began.elapsed().as_secs_f64());
    sheet(&digits).save(&path)?;
    println!("some of them are in {path}");
    Ok(())
}

/// The first images of every class, one row each.
fn sheet(digits: &Digits) -> image::GrayImage {
    let mut sheet = image::GrayImage::new((COLUMNS * SIDE) as u32, (CLASSES * SIDE) as u32);
    for class in 0..CLASSES {
        let of_class = digits.train().filter(|&index| digits.label(index) == class);
        for (column, index) in of_class.take(COLUMNS).enumerate() {
            for (place, &pixel) in digits.pixels(index).iter().enumerate() {
                let (x, y) = (column * SIDE + place % SIDE, class * SIDE + place / SIDE);
                sheet.put_pixel(x as u32, y as u32, image::Luma([255 - pixel]));
            }
        }
    }
    sheet
}
