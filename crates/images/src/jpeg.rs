//! Detects truncated JPEG files.

/// Whether the end-of-image marker follows the data. Segments are skipped by length, since an embedded thumbnail has an
/// end-of-image marker of its own.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(marker) = next_marker(bytes, &mut at) {
        match marker {
            0xd9 => return true,
            // Markers without a length: TEM, restarts, start of image.
            0x01 | 0xd0..=0xd8 => {}
            _ => match bytes.get(at..at + 2) {
                Some(length) => at += usize::from(u16::from_be_bytes([length[0], length[1]])),
                None => return false,
            },
        }
    }
    false
}

/// The next marker at or after `at`, which is advanced past it. In compressed data between markers, 0xff is followed by
/// zero.
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
    fn an_end_within_a_segment_does_not_count() {
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
