//! Images: header, pixels, resizing to a square whose side the last byte chooses.
#![no_main]

use ccdni::data::images::{decode, dimensions, resize_square};

/// Most pixels that are decoded here, for speed.
const MOST: u64 = 1 << 18;

libfuzzer_sys::fuzz_target!(
    // A decoder that panics is caught by the program, and means that the file is damaged.
    init: { std::panic::set_hook(Box::new(|_| {})); },
    |data: &[u8]| {
        let (side, bytes) = fuzz::choice(data);
        let Ok((width, height, _)) = dimensions(bytes) else { return };
        if u64::from(width) * u64::from(height) > MOST {
            return;
        }
        if let Ok((image, _)) = decode(bytes) {
            // A rotated image has its sides exchanged.
            assert_eq!(u64::from(image.width()) * u64::from(image.height()), u64::from(width) * u64::from(height));
            resize_square(&image, 1 + side as u32 % 96).expect("a square");
        }
    }
);
