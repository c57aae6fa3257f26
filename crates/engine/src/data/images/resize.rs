//! Resizing by a whole factor.

/// Makes an image smaller by a whole factor: means over squares of `factor` pixels, three bytes per pixel.
///
/// `drawn` has `height * factor` rows of `width * factor` pixels.
pub fn mean_of_squares(drawn: &[u8], width: usize, height: usize, factor: usize) -> Vec<u8> {
    let mut pixels = Vec::with_capacity(width * height * 3);
    let mut sums = vec![0u32; width * 3];
    for rows in drawn.chunks_exact(width * factor * 3 * factor).take(height) {
        sums.fill(0);
        for row in rows.chunks_exact(width * factor * 3) {
            for (square, sum) in row.chunks_exact(factor * 3).zip(sums.chunks_exact_mut(3)) {
                for pixel in square.chunks_exact(3) {
                    sum.iter_mut().zip(pixel).for_each(|(sum, &channel)| *sum += u32::from(channel));
                }
            }
        }
        let count = (factor * factor) as u32;
        pixels.extend(sums.iter().map(|sum| ((sum + count / 2) / count) as u8));
    }
    pixels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_image_has_the_means_of_squares() {
        let drawn = [[0, 0, 0], [255, 0, 30], [255, 0, 30], [0, 0, 0]].concat();
        assert_eq!(mean_of_squares(&drawn, 1, 1, 2), [128, 0, 15]);
    }
}
