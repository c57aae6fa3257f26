//! The caption files of COCO: a JSON object with `images` and `annotations`.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Caption, CaptionSet, Image, karpathy, not_json};
use crate::error::{Error, Result};
use crate::files::write_atomically;

// All keys are optional, so that errors can name a missing one with its position. Unused keys are skipped.
#[derive(Deserialize)]
#[serde(expecting = "expected an object with `images` and `annotations`")]
struct File {
    images: Option<Vec<FileImage>>,
    annotations: Option<Vec<Annotation>>,
}

/// An image, also of a split file, where it has other keys and contains its sentences.
#[derive(Deserialize)]
pub(super) struct FileImage {
    id: Option<u64>,
    file_name: Option<String>,
    pub(super) imgid: Option<u64>,
    pub(super) cocoid: Option<u64>,
    pub(super) filename: Option<String>,
    pub(super) filepath: Option<String>,
    pub(super) split: Option<String>,
    pub(super) sentences: Option<Vec<karpathy::Sentence>>,
}

#[derive(Deserialize)]
struct Annotation {
    id: Option<u64>,
    image_id: Option<u64>,
    caption: Option<String>,
}

/// Parses the content of the file `path`.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<CaptionSet> {
    let file: File = serde_json::from_slice(bytes).map_err(|error| not_json(path, &error))?;
    let missing = |list: &str| Error::data(path, format!("has no list `{list}`: is it a caption file of COCO?"));
    let images = file.images.ok_or_else(|| missing("images"))?;
    if file.annotations.is_none() && images.iter().any(|image| image.sentences.is_some()) {
        return karpathy::read(path, images);
    }
    let wrong = |list: &str, item: usize, what: String| Error::data(path, format!("`{list}`, item {item}: {what}"));

    let mut set = CaptionSet::default();
    let mut places = HashMap::new();
    for (item, image) in images.into_iter().enumerate() {
        let lacks = |key: &str| wrong("images", item, format!("has no `{key}`"));
        let id = image.id.ok_or_else(|| lacks("id"))?;
        let file_name = image.file_name.ok_or_else(|| lacks("file_name"))?;
        if places.insert(id, item).is_some() {
            return Err(wrong("images", item, format!("the id {id} is there twice")));
        }
        set.images.push(Image { id, file_name, split: None });
    }
    let annotations = file.annotations.ok_or_else(|| missing("annotations"))?;
    let mut ids = std::collections::HashSet::with_capacity(annotations.len());
    for (item, annotation) in annotations.into_iter().enumerate() {
        let lacks = |key: &str| wrong("annotations", item, format!("has no `{key}`"));
        let id = annotation.id.ok_or_else(|| lacks("id"))?;
        let image = annotation.image_id.ok_or_else(|| lacks("image_id"))?;
        let text = annotation.caption.ok_or_else(|| lacks("caption"))?;
        if !ids.insert(id) {
            return Err(wrong("annotations", item, format!("the id {id} is there twice")));
        }
        let Some(&image) = places.get(&image) else {
            return Err(wrong("annotations", item, format!("there is no image {image} in `images`")));
        };
        set.captions.push(Caption { id, image, text });
    }
    Ok(set)
}

/// Writes a set in COCO's format, atomically.
///
/// # Errors
/// [`Error::Io`].
pub fn write(path: &Path, description: &str, set: &CaptionSet) -> Result<()> {
    let image = |image: &Image| json!({ "id": image.id, "file_name": image.file_name });
    let annotation = |caption: &Caption| json!({ "id": caption.id, "image_id": set.images[caption.image].id, "caption": caption.text });
    let images: Vec<Value> = set.images.iter().map(image).collect();
    let annotations: Vec<Value> = set.captions.iter().map(annotation).collect();
    let file = json!({ "info": { "description": description }, "images": images, "annotations": annotations });
    write_atomically(path, format!("{file}\n").as_bytes())
}
