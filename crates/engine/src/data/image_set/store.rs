//! A memory-mapped file with one row per image: pixels or features.
//!
//! A safetensors file with `rows` (`[images, ...]`) and `state` (`[images]`, u8). An unfinished file has a temporary name;
//! `state` records the completed rows, from which an interrupted job resumes.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use candle_core::safetensors::MmapedSafetensors;

use crate::error::{Error, Result};
use crate::files::sync_directory;

/// Rows per call of `make`.
const CHUNK: usize = 64;

/// A complete row.
const GOOD: u8 = 1;
/// A row whose image cannot be read.
const BAD: u8 = 2;

/// The source of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// Index of the image.
    pub image: usize,
    /// Index of the view.
    pub variant: usize,
}

/// Description of a store.
#[derive(Debug, Clone)]
pub struct Work {
    /// The file.
    pub path: PathBuf,
    /// Number of images.
    pub images: usize,
    /// Rows per image.
    pub variants: usize,
    /// Shape of a row.
    pub shape: Vec<usize>,
    /// Element type: `U8` or `F32`.
    pub dtype: &'static str,
}

/// Computes rows: the bytes of each, or why its image cannot be read.
pub type Make<'a> = &'a mut dyn FnMut(&[Item]) -> Result<Vec<Result<Vec<u8>, String>>>;

/// A complete store.
pub struct Store {
    file: MmapedSafetensors,
    path: PathBuf,
    row: usize,
    variants: usize,
}

impl Work {
    fn rows(&self) -> usize {
        self.images * self.variants
    }

    /// Bytes per row.
    fn row(&self) -> usize {
        self.shape.iter().product::<usize>() * if self.dtype == "U8" { 1 } else { 4 }
    }

    /// The safetensors header, in which `state` precedes `rows`.
    fn header(&self) -> Vec<u8> {
        let (rows, row) = (self.rows(), self.row());
        let shape: Vec<usize> = std::iter::once(rows).chain(self.shape.iter().copied()).collect();
        let mut header = serde_json::json!({
            "state": { "dtype": "U8", "shape": [rows], "data_offsets": [0, rows] },
            "rows": { "dtype": self.dtype, "shape": shape, "data_offsets": [rows, rows + rows * row] },
        })
        .to_string();
        // Align the rows.
        while !(8 + header.len() + rows).is_multiple_of(8) {
            header.push(' ');
        }
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes
    }

    /// Creates the store unless it exists. `make` computes rows, `progress` is called with the number done and in all,
    /// `stop` is polled between chunks. Other processes wait until the first one has finished.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Interrupted`] after `stop`, whereupon the same call resumes; the errors of `make`.
    pub fn make(&self, make: Make, stop: &dyn Fn() -> bool, progress: &dyn Fn(usize, usize)) -> Result<()> {
        if self.path.exists() {
            return Ok(());
        }
        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(Error::io("create the directory", folder))?;
        let partial = self.path.with_extension("partial");
        let failed = |error: std::io::Error| Error::io("write", &partial)(error);
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(&partial).map_err(failed)?;
        file.lock().map_err(failed)?;
        if self.path.exists() {
            // Another process finished it meanwhile; the open file was renamed, or is an empty one just created.
            if file.metadata().is_ok_and(|about| about.len() == 0) {
                let _ = std::fs::remove_file(&partial);
            }
            return Ok(());
        }
        let mut state = self.begin(&mut file).map_err(failed)?;
        let (header, rows) = (self.header().len(), self.rows());
        let todo: Vec<usize> = (0..rows).filter(|&row| state[row] == 0).collect();
        let mut done = rows - todo.len();
        for chunk in todo.chunks(CHUNK) {
            if stop() {
                return Err(Error::Interrupted);
            }
            let item = |&row: &usize| Item { image: row / self.variants, variant: row % self.variants };
            let items: Vec<Item> = chunk.iter().map(item).collect();
            let made = make(&items)?;
            for (&row, made) in chunk.iter().zip(made) {
                match made {
                    Ok(bytes) if bytes.len() == self.row() => {
                        let at = header + rows + row * self.row();
                        write_at(&mut file, at, &bytes).map_err(failed)?;
                        state[row] = GOOD;
                    }
                    Ok(bytes) => {
                        let what = format!("a row of {} bytes where {} are expected", bytes.len(), self.row());
                        return Err(Error::Training(what));
                    }
                    Err(_) => state[row] = BAD,
                }
            }
            // Rows are on the disk before they are marked as done.
            file.sync_data().map_err(failed)?;
            write_at(&mut file, header, &state).map_err(failed)?;
            done += chunk.len();
            progress(done, rows);
        }
        file.sync_all().map_err(failed)?;
        std::fs::rename(&partial, &self.path).map_err(Error::io("write", &self.path))?;
        sync_directory(folder).map_err(Error::io("write to", folder))
    }

    /// Initialises a new file, or reads the state of an unfinished one.
    fn begin(&self, file: &mut File) -> std::io::Result<Vec<u8>> {
        let (header, rows) = (self.header(), self.rows());
        let length = (header.len() + rows + rows * self.row()) as u64;
        let mut found = vec![0; header.len()];
        let mut state = vec![0; rows];
        if file.metadata()?.len() == length {
            file.seek(SeekFrom::Start(0))?;
            file.read_exact(&mut found)?;
            if found == header {
                file.read_exact(&mut state)?;
                return Ok(state);
            }
        }
        file.set_len(0)?;
        file.set_len(length)?;
        write_at(file, 0, &header)?;
        Ok(state)
    }
}

fn write_at(file: &mut File, at: usize, bytes: &[u8]) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(at as u64))?;
    file.write_all(bytes)
}

impl Store {
    /// Maps the file that [`Work::make`] wrote.
    ///
    /// # Errors
    /// [`Error::Data`] if the file is damaged or has another shape.
    pub fn open(work: &Work) -> Result<Store> {
        let damaged = |what: String| Error::data(&work.path, format!("{what}; remove the file, it is made again"));
        // SAFETY: the file is complete and never written to again; as with every mapped file, nobody may truncate it.
        let file = unsafe { MmapedSafetensors::new(&work.path) }.map_err(|error| damaged(error.to_string()))?;
        let shape: Vec<usize> = std::iter::once(work.rows()).chain(work.shape.iter().copied()).collect();
        let fits = file.get("rows").is_ok_and(|rows| rows.shape() == shape)
            && file.get("state").is_ok_and(|state| state.data().iter().all(|state| [GOOD, BAD].contains(state)));
        match fits {
            true => Ok(Store { file, path: work.path.clone(), row: work.row(), variants: work.variants }),
            false => Err(damaged("is not the store that it should be".into())),
        }
    }

    /// For each image, whether all of its rows are complete.
    ///
    /// # Errors
    /// [`Error::Data`] if the file has changed.
    pub fn good(&self) -> Result<Vec<bool>> {
        let state = self.file.get("state").map_err(|error| Error::data(&self.path, error.to_string()))?;
        Ok(state.data().chunks(self.variants.max(1)).map(|rows| rows.iter().all(|&state| state == GOOD)).collect())
    }

    /// Applies `with` to the bytes of a row.
    ///
    /// # Errors
    /// [`Error::Data`] if the file has changed; [`Error::Training`] if there is no such row.
    pub fn row<R>(&self, item: Item, with: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let rows = self.file.get("rows").map_err(|error| Error::data(&self.path, error.to_string()))?;
        let start = (item.image * self.variants + item.variant) * self.row;
        let row = rows.data().get(start..start + self.row);
        Ok(with(row.ok_or_else(|| Error::Training(format!("there is no image {}", item.image)))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(folder: &Path) -> Work {
        Work { path: folder.join("a.safetensors"), images: 100, variants: 2, shape: vec![3], dtype: "U8" }
    }

    /// Row `(p, v)` is `[p, v, 7]`; image 5 cannot be read.
    fn make(items: &[Item]) -> Result<Vec<Result<Vec<u8>, String>>> {
        let one = |item: &Item| match item.image {
            5 => Err("is broken".into()),
            image => Ok(vec![image as u8, item.variant as u8, 7]),
        };
        Ok(items.iter().map(one).collect())
    }

    #[test]
    fn an_interrupted_store_resumes_and_is_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let work = work(directory.path());
        let asked = std::cell::Cell::new(0);
        let stop = || asked.replace(asked.get() + 1) == 2;
        assert!(matches!(work.make(&mut |items| make(items), &stop, &|_, _| {}), Err(Error::Interrupted)));
        assert!(!work.path.exists());
        let mut made = 0;
        let mut counted = |items: &[Item]| {
            made += items.len();
            make(items)
        };
        work.make(&mut counted, &|| false, &|_, _| {}).unwrap();
        work.make(&mut counted, &|| false, &|_, _| {}).unwrap();
        assert_eq!(made, 200 - 2 * CHUNK);

        let store = Store::open(&work).unwrap();
        let good = store.good().unwrap();
        assert!(!good[5] && good.iter().filter(|good| **good).count() == 99);
        let row = |image, variant| store.row(Item { image, variant }, <[u8]>::to_vec);
        assert_eq!([row(99, 1).unwrap(), row(0, 0).unwrap()], [[99, 1, 7], [0, 0, 7]]);
        assert!(row(100, 0).is_err());
    }

    #[test]
    fn a_file_of_another_kind_is_replaced_or_rejected() {
        let directory = tempfile::tempdir().unwrap();
        let work = work(directory.path());
        std::fs::write(work.path.with_extension("partial"), "something else").unwrap();
        work.make(&mut |items| make(items), &|| false, &|_, _| {}).unwrap();
        assert!(Store::open(&work).is_ok());
        let other = Work { shape: vec![4], ..work.clone() };
        let error = Store::open(&other).err().unwrap();
        assert!(error.to_string().contains("remove the file") && error.exit_code() == 2, "{error}");
        std::fs::write(&work.path, "cut off").unwrap();
        assert!(Store::open(&work).is_err());
    }
}
