//! Tables of captions: lines `name.jpg#0<TAB>caption`, or columns separated by commas, semicolons, tabs or bars, with a
//! header that names them.

use std::collections::HashMap;
use std::path::Path;

use super::records::{Records, fields};
use super::{Caption, CaptionSet, Image, not_utf8};
use crate::error::{Error, Result};

/// Accepted headers of the columns of images and captions, ignoring case and spaces.
const IMAGES: [&str; 8] = ["image", "image_name", "filename", "file_name", "file", "image_path", "filepath", "img"];
const CAPTIONS: [&str; 6] = ["caption", "captions", "comment", "sentence", "text", "description"];

/// Accepted header of the column of splits.
const SPLITS: [&str; 1] = ["split"];
/// Longest header, in bytes.
const MAX_HEADER: usize = 1 << 16;

/// The columns of a table.
struct Columns {
    delimiter: char,
    count: usize,
    image: usize,
    caption: usize,
    split: Option<usize>,
}

/// What a row says.
struct Row<'a> {
    image: &'a str,
    caption: String,
    split: Option<&'a str>,
}

impl Columns {
    fn of(header: &str) -> Option<Columns> {
        if header.len() > MAX_HEADER {
            return None;
        }
        [',', ';', '\t', '|'].into_iter().find_map(|delimiter| {
            let names: Vec<String> =
                fields(header, delimiter).iter().map(|name| name.trim().to_lowercase().replace(' ', "_")).collect();
            let find = |wanted: &[&str]| names.iter().position(|name| wanted.contains(&name.as_str()));
            let (image, caption) = (find(&IMAGES)?, find(&CAPTIONS)?);
            Some(Columns { delimiter, count: names.len(), image, caption, split: find(&SPLITS) })
        })
    }

    /// `None` if a row has too few columns, or no image.
    fn read<'a>(&self, row: &'a [String]) -> Option<Row<'a>> {
        // Unquoted delimiters within a caption belong to it.
        let Some(more) = row.len().checked_sub(self.count) else {
            // One line of a published table lacks its second bar: `name| 4   A dog ...`.
            let [name, rest] = row else { return None };
            let (number, caption) = rest.trim().split_once(' ')?;
            let lost = self.delimiter == '|' && self.count == 3 && number.parse::<u32>().is_ok();
            return lost.then(|| Row { image: name.trim(), caption: caption.trim().to_owned(), split: None });
        };
        let at = |column: usize| row[column + if column > self.caption { more } else { 0 }].trim();
        let caption = row[self.caption..=self.caption + more].join(&self.delimiter.to_string());
        let caption = if self.delimiter == '|' { caption.trim().to_owned() } else { caption };
        let split = self.split.map(at).filter(|split| !split.is_empty());
        Some(Row { image: at(self.image), caption, split }).filter(|row| !row.image.is_empty())
    }
}

/// Parses the content of the file `path`.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<CaptionSet> {
    let text = std::str::from_utf8(bytes).map_err(|error| not_utf8(path, bytes, error.valid_up_to()))?;
    let header = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let mut table = Table::default();
    let Some(columns) = Columns::of(header) else {
        for (line, row) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let parts = row.split_once('\t').and_then(|(key, caption)| Some((key.rsplit_once('#')?, caption)));
            match parts {
                Some(((name, number), caption)) if number.trim().parse::<u32>().is_ok() && !name.is_empty() => {
                    table.add(name.trim(), None, caption);
                }
                _ if row == header => return Err(no_header(path, line + 1, header)),
                _ => return Err(unfit(path, line + 1, "`name.jpg#0<TAB>caption`, as the lines before it are")),
            }
        }
        return Ok(table.set);
    };
    for (index, record) in Records::new(text, columns.delimiter).enumerate() {
        let (line, row) = record.map_err(|(line, what)| Error::data(path, format!("line {line}: {what}")))?;
        if index == 0 {
            continue;
        }
        let expected = || format!("{} columns, as the header has: `{}`", columns.count, start(header));
        let Row { image, caption, split } = columns.read(&row).ok_or_else(|| unfit(path, line, &expected()))?;
        if table.add(image, split, &caption).split.as_deref() != split {
            return Err(Error::data(path, format!("line {line}: `{image}` is in another split in a line before")));
        }
    }
    Ok(table.set)
}

fn unfit(path: &Path, line: usize, expected: &str) -> Error {
    Error::data(path, format!("line {line}: is no caption: expected {expected}"))
}

fn no_header(path: &Path, line: usize, header: &str) -> Error {
    let shown = start(header);
    let what = format!(
        "line {line}: `{shown}` is neither a caption (`name.jpg#0<TAB>caption`) nor a header that names a column of images \
         ({}) and one of captions ({}); COCO's JSON is read, too",
        IMAGES.join(", "),
        CAPTIONS.join(", ")
    );
    Error::data(path, what)
}

/// The start of a line, for a message.
fn start(line: &str) -> String {
    const SHOWN: usize = 80;
    line.trim().chars().take(SHOWN).collect()
}

/// A set under construction; captions are added by file name.
#[derive(Default)]
pub(super) struct Table {
    pub(super) set: CaptionSet,
    places: HashMap<String, usize>,
}

impl Table {
    /// Adds a caption, and its image if it is the first; returns the image.
    pub(super) fn add(&mut self, name: &str, split: Option<&str>, caption: &str) -> &Image {
        let images = &mut self.set.images;
        let image = match self.places.get(name) {
            Some(&place) => place,
            None => {
                let split = split.map(str::to_owned);
                images.push(Image { id: images.len() as u64 + 1, file_name: name.to_owned(), split });
                self.places.insert(name.to_owned(), images.len() - 1);
                images.len() - 1
            }
        };
        let id = self.set.captions.len() as u64 + 1;
        self.set.captions.push(Caption { id, image, text: caption.to_owned() });
        &self.set.images[image]
    }
}
