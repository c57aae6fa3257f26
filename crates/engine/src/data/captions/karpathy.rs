//! The split files of Karpathy and Fei-Fei (2015), such as `dataset_coco.json`: `images`, each with `sentences` and a
//! `split`; and lists of `image` and `caption` derived from them.

use std::collections::HashSet;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::coco::FileImage;
use super::flickr::Table;
use super::{Caption, CaptionSet, Image};
use crate::error::{Error, Result};

#[derive(Deserialize)]
pub(super) struct Sentence {
    sentid: Option<u64>,
    raw: Option<String>,
    tokens: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Row {
    image: Option<String>,
    caption: Option<Value>,
}

/// Converts the images of a split file; COCO's id of an image takes precedence over the file's.
pub(super) fn read(path: &Path, images: Vec<FileImage>) -> Result<CaptionSet> {
    let mut set = CaptionSet::default();
    let (mut ids, mut sentences) = (HashSet::new(), HashSet::new());
    for (item, image) in images.into_iter().enumerate() {
        let wrong = |what: String| Error::data(path, format!("`images`, item {item}: {what}"));
        let lacks = |key: &str| wrong(format!("has no `{key}`"));
        let id = image.cocoid.or(image.imgid).ok_or_else(|| lacks("imgid"))?;
        if !ids.insert(id) {
            return Err(wrong(format!("the id {id} is there twice")));
        }
        let name = image.filename.ok_or_else(|| lacks("filename"))?;
        let folder = image.filepath.filter(|folder| !folder.is_empty());
        let file_name =
            folder.map_or_else(|| name.clone(), |folder| format!("{}/{name}", folder.trim_end_matches('/')));
        for sentence in image.sentences.ok_or_else(|| lacks("sentences"))? {
            let tokens = || sentence.tokens.map(|tokens| tokens.join(" "));
            let text = sentence.raw.or_else(tokens).ok_or_else(|| lacks("sentences[].raw"))?;
            if let Some(id) = sentence.sentid.filter(|id| !sentences.insert(*id)) {
                return Err(wrong(format!("the `sentid` {id} is there twice")));
            }
            let id = sentence.sentid.unwrap_or(set.captions.len() as u64);
            set.captions.push(Caption { id, image: set.images.len(), text });
        }
        set.images.push(Image { id, file_name, split: image.split });
    }
    Ok(set)
}

/// Parses a list of `image` and `caption`, a string or a list of strings.
pub(super) fn read_list(path: &Path, bytes: &[u8]) -> Result<CaptionSet> {
    let rows: Vec<Row> = serde_json::from_slice(bytes).map_err(|error| super::not_json(path, &error))?;
    let mut table = Table::default();
    for (item, row) in rows.into_iter().enumerate() {
        let lacks = |key: &str| {
            let what = format!("item {item}: has no `{key}`; expected COCO's JSON, or a list of `image` and `caption`");
            Error::data(path, what)
        };
        let image = row.image.ok_or_else(|| lacks("image"))?;
        let captions = match row.caption {
            Some(Value::String(caption)) => vec![caption],
            Some(Value::Array(captions)) => captions
                .into_iter()
                .map(|caption| caption.as_str().map(str::to_owned).ok_or_else(|| lacks("caption")))
                .collect::<Result<_>>()?,
            _ => return Err(lacks("caption")),
        };
        for caption in &captions {
            table.add(&image, None, caption);
        }
    }
    Ok(table.set)
}
