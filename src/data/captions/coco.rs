//! The caption files of COCO: a JSON object with `images` and `annotations`.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

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

#[derive(Serialize, Deserialize)]
struct FileImage {
    id: Option<u64>,
    file_name: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Annotation {
    id: Option<u64>,
    image_id: Option<u64>,
    caption: Option<String>,
}

/// Distinguishes a split file from a COCO file: its images contain sentences.
#[derive(Deserialize)]
struct Split {
    images: Vec<karpathy::FileImage>,
}

/// Parses the content of the file `path`.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<CaptionSet> {
    let file: File = serde_json::from_slice(bytes).map_err(|error| not_json(path, &error))?;
    if file.annotations.is_none()
        && let Ok(split) = serde_json::from_slice::<Split>(bytes)
        && !split.images.is_empty()
    {
        return karpathy::read(path, split.images);
    }
    let missing = |list: &str| Error::data(path, format!("has no list `{list}`: is it a caption file of COCO?"));
    let wrong = |list: &str, item: usize, what: String| Error::data(path, format!("`{list}`, item {item}: {what}"));

    let mut set = CaptionSet::default();
    let mut places = HashMap::new();
    for (item, image) in file.images.ok_or_else(|| missing("images"))?.into_iter().enumerate() {
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
    let images: Vec<FileImage> = set
        .images
        .iter()
        .map(|image| FileImage { id: Some(image.id), file_name: Some(image.file_name.clone()) })
        .collect();
    let annotations: Vec<Annotation> = set
        .captions
        .iter()
        .map(|caption| Annotation {
            id: Some(caption.id),
            image_id: Some(set.images[caption.image].id),
            caption: Some(caption.text.clone()),
        })
        .collect();
    let file =
        serde_json::json!({ "info": { "description": description }, "images": images, "annotations": annotations });
    write_atomically(path, format!("{file}\n").as_bytes())
}
