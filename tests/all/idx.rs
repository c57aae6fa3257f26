//! The reader of IDX files holds against whatever it is given: no panic, no memory for what is only claimed.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;
use std::path::Path;

use ccdni::data::digits::idx::{read_images, read_labels};
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

/// Counts what each thread asks for.
struct Counting;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

fn note(size: usize) {
    // A thread that ends has no counter any more.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
}

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most memory that reading a small file may ask for at once: buffers, and twice what is in it.
const MODEST: usize = 1 << 19;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn images(count: u32, rows: u32, columns: u32, body: &[u8]) -> Vec<u8> {
    [0x0803, count, rows, columns].into_iter().flat_map(u32::to_be_bytes).chain(body.iter().copied()).collect()
}

fn labels(count: u32, body: &[u8]) -> Vec<u8> {
    [0x0801, count].into_iter().flat_map(u32::to_be_bytes).chain(body.iter().copied()).collect()
}

/// Labels as QMNIST has them: a row of integers each.
fn rows_of_labels(count: u32, columns: u32, body: &[u32]) -> Vec<u8> {
    [0x0c02, count, columns].into_iter().chain(body.iter().copied()).flat_map(u32::to_be_bytes).collect()
}

type Read = Result<Vec<u8>, String>;

/// Reads bytes as images and as labels, and watches the memory.
fn read(bytes: &[u8]) -> [Read; 2] {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("some-ubyte");
    std::fs::write(&path, bytes).unwrap();
    LARGEST.set(0);
    let of = |read: fn(&Path) -> ccdni::Result<Vec<u8>>| {
        read(&path).map_err(|error| {
            assert_eq!(error.exit_code(), 2);
            let text = error.to_string();
            assert!(text.contains("some-ubyte"), "{text}");
            text
        })
    };
    let outcome = [of(|path| read_images(path, 28)), of(read_labels)];
    assert!(LARGEST.get() <= MODEST, "{} bytes at once for a file of {}", LARGEST.get(), bytes.len());
    outcome
}

#[track_caller]
fn refused(read: &Read, says: &str) {
    match read {
        Ok(_) => panic!("is taken; should say {says:?}"),
        Err(text) => assert!(text.contains(says), "{text}: should say {says:?}"),
    }
}

#[test]
fn whole_files_are_read_packed_or_not() {
    let pixels: Vec<u8> = (0..3 * 784).map(|index| (index % 251) as u8).collect();
    let file = images(3, 28, 28, &pixels);
    for bytes in [file.clone(), gzip(&file)] {
        assert_eq!(read(&bytes)[0].as_ref(), Ok(&pixels));
    }
    for bytes in [labels(4, &[0, 9, 5, 5]), gzip(&labels(4, &[0, 9, 5, 5]))] {
        assert_eq!(read(&bytes)[1].as_ref(), Ok(&vec![0, 9, 5, 5]));
    }
    let rows = rows_of_labels(2, 3, &[7, 1, 2000, 0, 4, 500]);
    for bytes in [rows.clone(), gzip(&rows)] {
        assert_eq!(read(&bytes)[1].as_ref(), Ok(&vec![7, 0]));
    }
}

#[test]
fn what_is_wrong_is_said() {
    let one = vec![7; 784];
    for (file, says) in [
        (Vec::new(), "within its header: it is cut off"),
        (vec![0, 0, 8], "within its header: it is cut off"),
        (labels(1, &[1]), "begins with 0x00000801, not with 0x00000803: it is no IDX file of images"),
        (images(0, 28, 28, &[]), "holds no images"),
        (images(1, 28, 27, &one), "holds images of 28 x 27 pixels; they must be square"),
        (images(1, 32, 32, &[0; 1024]), "`task.source.side` is 28; set it to 32"),
        (gzip(&images((1 << 22) + 1, 28, 28, &[0; 8 << 20])), "too small"),
        (images(2, 28, 28, &one), "too small"),
        (images(u32::MAX, 28, 28, &one), "too small"),
        (images(1, 28, 28, &[one.clone(), vec![0]].concat()), "more than the 1 images"),
        (gzip(&images(2, 28, 28, &one)), "ends after 1 of 2 images: it is cut off"),
        (gzip(&images(u32::MAX, 28, 28, &one)), "too small"),
        (gzip(&images(1, 28, 28, &vec![0; 5_000_000])), "more than the 1 images"),
    ] {
        refused(&read(&file)[0], says);
    }
    for (file, says) in [
        (images(1, 28, 28, &one), "it is no IDX file of labels"),
        (labels(0, &[]), "holds no labels"),
        (labels((1 << 22) + 1, &[0; (1 << 22) + 1]), "at most 4194304 are read"),
        (rows_of_labels(2, 8, &[5; 15]), "ends after 1 of 2 labels: it is cut off"),
        (rows_of_labels(2, 8, &[256; 16]), "label 0 is 256; labels are from 0 to 255"),
        (rows_of_labels(1, 0, &[]), "labels of 0 numbers"),
        (labels(3, &[1, 2]), "too small"),
    ] {
        refused(&read(&file)[1], says);
    }
    // A packed file that was cut off, and one whose checksum is wrong.
    let packed = gzip(&labels(4, &[1, 2, 3, 4]));
    for length in [1, 2, 10, 15, packed.len() - 5, packed.len() - 1] {
        assert!(read(&packed[..length])[1].is_err(), "{length} of {}", packed.len());
    }
    let mut damaged = packed.clone();
    let checksum = damaged.len() - 6;
    damaged[checksum] ^= 1;
    refused(&read(&damaged)[1], "at the end, after the 4 labels");
    let junk = [packed, b"junk".to_vec()].concat();
    assert!(read(&junk)[1].is_err(), "what follows the packed data is no part of it");
}

/// A file that begins as an IDX file does, with claims of any size.
fn claims() -> impl Strategy<Value = Vec<u8>> {
    let count = prop_oneof![0u32..4, any::<u32>()];
    let side = prop_oneof![Just(28u32), any::<u32>()];
    let body = proptest::collection::vec(any::<u8>(), 0..2000);
    (any::<bool>(), count, side.clone(), side, body).prop_map(|(of_images, count, rows, columns, body)| {
        if of_images { images(count, rows, columns, &body) } else { labels(count, &body) }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = read(&bytes);
        let _ = read(&[&[0x1f, 0x8b, 8, 0], bytes.as_slice()].concat());
        let _ = read(&gzip(&bytes));
    }

    #[test]
    fn what_is_claimed_must_be_there_exactly(bytes in claims()) {
        let plain = read(&bytes);
        let packed = read(&gzip(&bytes));
        prop_assert_eq!(plain.clone().map(Result::ok), packed.map(Result::ok));
        let [images, labels] = plain;
        if let Ok(pixels) = images {
            prop_assert!(!pixels.is_empty() && pixels.len() + 16 == bytes.len());
        }
        if let Ok(labels) = labels {
            prop_assert!(!labels.is_empty() && labels.len() + 8 == bytes.len());
        }
    }

    #[test]
    fn a_packed_file_with_a_fault_is_never_taken_for_another(at in 0usize..4000, flip in 1u8..=255, cut in any::<bool>()) {
        let body: Vec<u8> = (0..4 * 784).map(|index| (index * index % 253) as u8).collect();
        let mut bytes = gzip(&images(4, 28, 28, &body));
        let at = at % bytes.len();
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= flip;
        }
        if let Ok(pixels) = &read(&bytes)[0] {
            prop_assert_eq!(pixels, &body);
        }
    }
}
