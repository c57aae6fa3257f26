//! The type of a file, by its first bytes: its name may be anything (`.pth.tar`, `.ckpt`, `.bin`).

use std::fs::File;
use std::io::{Read, Result, Seek};

/// The type of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    Safetensors,
    /// A zip or a pickle.
    Torch,
    /// A type that is often mistaken for weights, with advice.
    Other(&'static str),
    Unknown,
}

/// First bytes of other types, with their description.
const OTHERS: [(&[u8], &str); 7] = [
    (
        b"version https://git-lfs",
        "a pointer file of Git LFS in place of the weights; get the weights themselves (`git lfs pull`)",
    ),
    (b"\x1f\x8b", "compressed with gzip; unpack it first (`gunzip`)"),
    (b"\xfd7zXZ", "compressed with xz; unpack it first (`unxz`)"),
    (b"BZh", "compressed with bzip2; unpack it first (`bunzip2`)"),
    (b"\x89HDF", "an HDF5 file, as Keras writes it; save the tensors with PyTorch's names as safetensors"),
    (b"\x93NUMPY", "an array of NumPy; save the tensors by their names as safetensors"),
    (b"<", "a page of HTML or XML in place of the weights; open its address in a browser to see why"),
];

impl Content {
    /// Reads the first bytes and rewinds the file.
    pub(super) fn of(file: &mut File) -> Result<Content> {
        let mut start = Vec::new();
        file.by_ref().take(512).read_to_end(&mut start)?;
        file.rewind()?;
        Ok(Content::from(start.as_slice()))
    }

    fn from(start: &[u8]) -> Content {
        let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
        // A safetensors file begins with the length of its header in eight bytes, then the header in JSON.
        if start.get(8) == Some(&b'{') {
            Content::Safetensors
        } else if start.starts_with(b"PK\x03\x04") || start.first() == Some(&0x80) {
            Content::Torch
        } else if let Some((_, what)) = OTHERS.iter().find(|(begins, _)| text.starts_with(begins)) {
            Content::Other(what)
        } else if start.get(257..262) == Some(b"ustar") {
            Content::Other("a tar archive; unpack it and name the file of weights in it")
        } else {
            Content::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_recognised_by_content() {
        assert_eq!(Content::from(b"\x02\0\0\0\0\0\0\0{}"), Content::Safetensors);
        assert_eq!(Content::from(b"PK\x03\x04"), Content::Torch);
        assert_eq!(Content::from(b"\x80\x02\x8a\x0a"), Content::Torch);
        assert_eq!(Content::from(b"hello, I am a text"), Content::Unknown);
        let tar = [&[b'a'; 257][..], b"ustar\0"].concat();
        for (start, expected) in [
            (&b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"[..], "Git LFS"),
            (b"\n<!DOCTYPE html>", "HTML"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"\x89HDF\r\n", "HDF5"),
            (&tar, "tar archive"),
        ] {
            let Content::Other(what) = Content::from(start) else { panic!("{expected}") };
            assert!(what.contains(expected), "{what}");
        }
    }
}
