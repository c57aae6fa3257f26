//! Text files, read line by line in bounded memory.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use crate::error::{Error, Result};

/// The files of a text: training, validation, test.
pub const FILES: [&str; 3] = ["train.txt", "valid.txt", "test.txt"];

/// Most bytes of a line: a file without line breaks is no text of sentences.
pub(super) const LONGEST_LINE: usize = 1 << 20;

/// Gives every line of a file, without its end, to `each`; a last line without a line break counts.
///
/// # Errors
/// [`Error::Io`]; [`Error::Data`] naming the line that is too long, is not UTF-8 or has a NUL byte, or with the message of `each`.
pub fn read_lines(path: &Path, mut each: impl FnMut(&str) -> Result<(), String>) -> Result<()> {
    let mut file = BufReader::new(File::open(path).map_err(Error::io("open", path))?);
    let mut line = Vec::new();
    for number in 1usize.. {
        line.clear();
        let mut limited = std::io::Read::take(&mut file, LONGEST_LINE as u64 + 1);
        limited.read_until(b'\n', &mut line).map_err(Error::io("read", path))?;
        if line.is_empty() {
            return Ok(());
        }
        let refused = |what: &str| Err(Error::data(path, format!("line {number}: {what}")));
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if line.len() > LONGEST_LINE {
            return refused("more than 1048576 bytes without a line break; one sentence per line is expected");
        }
        if line.contains(&0) {
            return refused("a NUL byte; this is not a text file");
        }
        match std::str::from_utf8(&line) {
            Ok(text) => each(text).or_else(|what| refused(&what))?,
            Err(_) => return refused("not UTF-8; convert the file"),
        }
    }
    Ok(())
}
