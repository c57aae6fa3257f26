//! Whether a JPEG file is all there.

/// Whether the end of the image comes after its data: segments are skipped by their lengths, compressed data by looking
/// for the next marker. A thumbnail within a segment has an end of its own, so that looking for one would not do.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(marker) = next_marker(bytes, &mut at) {
        match marker {
            0xd9 => return true,
            // Without a length: restarts within compressed data, and a start.
            0x01 | 0xd0..=0xd8 => {}
            _ => match bytes.get(at..at + 2) {
                Some(length) => at += usize::from(u16::from_be_bytes([length[0], length[1]])),
                None => return false,
            },
        }
    }
    false
}

/// The marker at or after a place, which moves behind it. Bytes between markers are compressed data, in which a 0xff is
/// followed by a zero.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    while let [first, second, ..] = bytes.get(*at..)? {
        if *first != 0xff || *second == 0xff {
            *at += 1;
        } else {
            *at += 2;
            if *second != 0 {
                return Some(*second);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_within_a_segment_is_none() {
        let start = [0xff, 0xd8];
        let thumbnail = [0xff, 0xe1, 0, 6, 1, 2, 0xff, 0xd9];
        let data = [0xff, 0xda, 0, 3, 0, 0x12, 0xff, 0, 0xff, 0xd0, 0x34];
        let end = [0xff, 0xff, 0xd9];
        assert!(is_whole(&[&start[..], &thumbnail, &data, &end].concat()));
        assert!(is_whole(&[&start[..], &data, &end, b"more"].concat()));
        assert!(!is_whole(&[&start[..], &thumbnail, &data].concat()));
        assert!(!is_whole(&[&start[..], &[0xff, 0xe1, 0xff]].concat()));
        assert!(!is_whole(&start));
    }
}
