//! Parquet files of images: a column `image` with PNG `bytes`, and a column `label`.

use std::fs::File;
use std::io::Cursor;
use std::path::Path;

use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::data_type::DataType;
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use image::codecs::png::PngDecoder;
use image::{DynamicImage, ImageDecoder};

use crate::data::digits::{CLASSES, SIDE};
use crate::error::{Error, Result};

/// Rows read at a time.
const ROWS: usize = 1024;

/// Reads a file: pixels `[images, 784]` and labels `[images]`.
///
/// # Errors
/// [`Error::Data`] naming the file and, where known, the row.
pub(super) fn read(path: &Path) -> Result<(Vec<u8>, Vec<u8>)> {
    let file = File::open(path).map_err(|error| Error::data(path, format!("cannot be read: {error}")))?;
    contents(file).map_err(|what| Error::data(path, format!("{what}; it is not the data set that was looked for")))
}

fn contents(file: File) -> Result<(Vec<u8>, Vec<u8>), String> {
    let broken = |error: ParquetError| format!("cannot be read as Parquet: {error}");
    let reader = SerializedFileReader::new(file).map_err(broken)?;
    let columns = reader.metadata().file_metadata().schema_descr_ptr();
    let column = |name: &str| {
        let found = columns.columns().iter().position(|column| column.path().string() == name);
        found.ok_or_else(|| format!("has no column `{name}`"))
    };
    let (image, label) = (column("image.bytes")?, column("label")?);
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).map_err(broken)?;
        read_labels(group.as_ref(), label, &mut labels)?;
        match group.get_column_reader(image).map_err(broken)? {
            ColumnReader::ByteArrayColumnReader(column) => each(column, "image", |index, bytes| {
                decode(bytes.data(), &mut pixels).map_err(|what| format!("image {index} {what}"))
            })?,
            _ => return Err("has a column `image.bytes` that holds no bytes".into()),
        }
    }
    match labels.len() {
        0 => Err("holds no images".into()),
        count if count * SIDE * SIDE != pixels.len() => Err("has not one label for each image".into()),
        _ => Ok((pixels, labels)),
    }
}

fn read_labels(group: &dyn RowGroupReader, column: usize, labels: &mut Vec<u8>) -> Result<(), String> {
    let mut push = |index: usize, label: i64| match u8::try_from(label) {
        Ok(label) if usize::from(label) < CLASSES => {
            labels.push(label);
            Ok(())
        }
        _ => Err(format!("label {index} is {label}; labels are from 0 to {}", CLASSES - 1)),
    };
    match group.get_column_reader(column).map_err(|error| format!("cannot be read as Parquet: {error}"))? {
        ColumnReader::Int64ColumnReader(column) => each(column, "label", |index, &label| push(index, label)),
        ColumnReader::Int32ColumnReader(column) => each(column, "label", |index, &label| push(index, label.into())),
        _ => Err("has a column `label` that holds no whole numbers".into()),
    }
}

/// Calls `take` with every value of a column of a row group and its index within the group.
fn each<T: DataType>(
    mut column: ColumnReaderImpl<T>,
    name: &str,
    mut take: impl FnMut(usize, &T::T) -> Result<(), String>,
) -> Result<(), String> {
    let mut index = 0;
    loop {
        let (mut values, mut levels) = (Vec::with_capacity(ROWS), Vec::new());
        let read = column.read_records(ROWS, Some(&mut levels), None, &mut values);
        let (rows, present, _) = read.map_err(|error| format!("cannot be read as Parquet: {error}"))?;
        if rows == 0 {
            return Ok(());
        }
        if rows != present {
            return Err(format!("has a row without {name} between {index} and {}", index + rows));
        }
        for value in &values {
            take(index, value)?;
            index += 1;
        }
    }
}

/// Appends the pixels of a PNG; its size is checked before decoding.
fn decode(bytes: &[u8], pixels: &mut Vec<u8>) -> Result<(), String> {
    let broken = |error: image::ImageError| format!("cannot be read as PNG: {error}");
    let decoder = PngDecoder::new(Cursor::new(bytes)).map_err(broken)?;
    let (width, height) = decoder.dimensions();
    if (width, height) != (SIDE as u32, SIDE as u32) {
        return Err(format!("has {width} x {height} pixels; it must have {SIDE} x {SIDE}"));
    }
    pixels.extend(DynamicImage::from_decoder(decoder).map_err(broken)?.into_luma8().into_raw());
    Ok(())
}
