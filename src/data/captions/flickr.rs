//! The caption tables of Flickr8k and Flickr30k, in the three forms in which they are passed on:
//! `name.jpg#0<TAB>caption`, a CSV with the columns `image,caption`, and one with bars,
//! `image_name| comment_number| comment`.

use std::collections::HashMap;
use std::path::Path;

use super::{Caption, CaptionSet, Image, not_utf8};
use crate::error::{Error, Result};

/// Reads the bytes of the file `path`.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<CaptionSet> {
    let text = std::str::from_utf8(bytes).map_err(|error| not_utf8(path, bytes, error.valid_up_to()))?;
    let header: Vec<&str> = text.lines().next().unwrap_or_default().split([',', '|']).map(str::trim).collect();
    let mut table = Table::default();
    match header[..] {
        ["image", "caption"] => with_commas(path, text, &mut table)?,
        ["image_name", "comment_number", "comment"] => {
            for (line, row) in rows(text).skip(1) {
                let mut parts = row.splitn(3, '|').map(str::trim);
                let (Some(name), Some(number)) = (parts.next(), parts.next()) else { return Err(unfit(path, line)) };
                // One line of the published table has lost its second bar: `name| 4   A dog ...`.
                let caption = match parts.next() {
                    Some(caption) => caption,
                    None => number.split_once(' ').map(|(_, rest)| rest.trim()).ok_or_else(|| unfit(path, line))?,
                };
                table.add(name, caption);
            }
        }
        _ => {
            for (line, row) in rows(text) {
                let parts = row.split_once('\t').and_then(|(key, caption)| Some((key.rsplit_once('#')?, caption)));
                match parts {
                    Some(((name, number), caption)) if number.trim().parse::<u32>().is_ok() && !name.is_empty() => {
                        table.add(name.trim(), caption);
                    }
                    _ => return Err(unfit(path, line)),
                }
            }
        }
    }
    Ok(table.set)
}

fn with_commas(path: &Path, text: &str, table: &mut Table) -> Result<()> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
    for row in reader.records() {
        let row = row.map_err(|error| Error::data(path, error.to_string()))?;
        let line = row.position().map_or(0, csv::Position::line);
        match (row.get(0), row.iter().skip(1).collect::<Vec<_>>()) {
            // A comma in a caption that nobody quoted is still the caption's.
            (Some(name), parts) if !name.is_empty() && !parts.is_empty() => table.add(name.trim(), &parts.join(",")),
            _ => return Err(unfit(path, line as usize)),
        }
    }
    Ok(())
}

/// Lines that hold something, with their numbers from 1.
fn rows(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(at, line)| (at + 1, line)).filter(|(_, line)| !line.trim().is_empty())
}

fn unfit(path: &Path, line: usize) -> Error {
    let what = "expected `name.jpg#0<TAB>caption`, or a table `image,caption`, or COCO's JSON";
    Error::data(path, format!("line {line}: is no caption: {what}"))
}

/// A set to which captions are added by the names of their pictures.
#[derive(Default)]
struct Table {
    set: CaptionSet,
    places: HashMap<String, usize>,
}

impl Table {
    fn add(&mut self, name: &str, caption: &str) {
        let images = &mut self.set.images;
        let image = match self.places.get(name) {
            Some(&place) => place,
            None => {
                images.push(Image { id: images.len() as u64 + 1, file_name: name.to_owned() });
                self.places.insert(name.to_owned(), images.len() - 1);
                images.len() - 1
            }
        };
        let id = self.set.captions.len() as u64 + 1;
        self.set.captions.push(Caption { id, image, text: caption.to_owned() });
    }
}
