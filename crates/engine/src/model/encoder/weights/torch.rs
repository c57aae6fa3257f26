//! The formats of `torch.save`: a zip of a pickle and storages (since PyTorch 1.6), or pickles followed by storages.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use zip::{CompressionMethod, ZipArchive};

use super::pickle::{Id, Object, Objects, Storage};
use super::stored::{Stored, dtype};

/// The magic number of the older format.
const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
/// Deepest nesting of dictionaries that are searched, and most entries of all of them.
const MAX_DEPTH: usize = 4;
const MAX_ENTRIES: usize = 1 << 17;
/// Advice for a file that holds more than tensors.
pub(super) const INSTEAD: &str =
    "if it is a whole module, save its tensors instead: `torch.save(module.state_dict(), \"weights.pth\")`";
/// Longest name of a tensor.
const MAX_NAME: usize = 256;

/// The byte ranges of storages, by key.
type Places = HashMap<String, (u64, u64)>;

/// The tensors of a file of `length` bytes. Names in nested dictionaries are joined: `state_dict.conv1.weight`.
///
/// # Errors
/// A description of the problem, without the file's name.
pub(super) fn open(file: &mut File, length: u64) -> Result<BTreeMap<String, Stored>, String> {
    let no = |why: String| format!("is not a file of PyTorch weights, or is damaged: {why}");
    let mut start = [0; 4];
    let read = file.read_exact(&mut start).and_then(|()| file.seek(SeekFrom::Start(0)));
    read.map_err(|_| no("it ends within its first 4 bytes".into()))?;
    let mut objects = Objects::default();
    let (root, places) = match &start {
        b"PK\x03\x04" => zipped(file, length, &mut objects),
        _ => plain(file, length, &mut objects),
    }
    .map_err(no)?;
    let mut stored = BTreeMap::new();
    let mut left = MAX_ENTRIES;
    collect(&objects, &places, root, "", MAX_DEPTH, &mut left, &mut stored).map_err(no)?;
    Ok(stored)
}

/// `NAME/data.pkl` and the storages `NAME/data/KEY`, none of them compressed.
fn zipped(file: &mut File, length: u64, objects: &mut Objects) -> Result<(Id, Places), String> {
    let broken = |error: zip::result::ZipError| format!("it cannot be read as a zip file ({error})");
    let mut archive = ZipArchive::new(BufReader::new(&mut *file)).map_err(broken)?;
    let mut entries = HashMap::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(broken)?;
        let end = entry.data_start().and_then(|start| start.checked_add(entry.size()));
        if let (Some(start), Some(end)) = (entry.data_start(), end.filter(|&end| end <= length)) {
            let is_stored = entry.compression() == CompressionMethod::Stored && !entry.encrypted();
            entries.insert(entry.name().map_err(broken)?.into_owned(), (start, end, is_stored));
        }
    }
    drop(archive);
    if entries.keys().any(|name| name == "constants.pkl" || name.ends_with("/constants.pkl")) {
        return Err("it is a TorchScript archive; save its tensors: \
                    `torch.save(torch.jit.load(FILE).state_dict(), \"weights.pth\")`"
            .into());
    }
    let pickle =
        entries.keys().filter(|name| *name == "data.pkl" || name.ends_with("/data.pkl")).min_by_key(|n| n.len());
    let root = pickle.and_then(|name| name.strip_suffix("data.pkl")).ok_or("it holds no data.pkl")?.to_owned();
    if entries.iter().any(|(name, (.., is_stored))| name.starts_with(&root) && !is_stored) {
        return Err("its entries are compressed, which PyTorch never does".into());
    }
    if let Some((from, to, _)) = entries.get(&format!("{root}byteorder")) {
        let mut order = String::new();
        part(file, *from, *to)?.take(16).read_to_string(&mut order).map_err(|error| error.to_string())?;
        if order != "little" {
            return Err(format!("its byte order is `{order}`, not `little`"));
        }
    }
    let (from, to, _) = entries.get(&format!("{root}data.pkl")).ok_or("it holds no data.pkl")?;
    let object = objects.read(&mut part(file, *from, *to)?)?;
    let data = format!("{root}data/");
    let places = entries
        .into_iter()
        .filter_map(|(name, (from, to, _))| Some((name.strip_prefix(&data)?.to_owned(), (from, to))));
    Ok((object, places.collect()))
}

/// A reader of a byte range of a file.
fn part(file: &mut File, from: u64, to: u64) -> Result<BufReader<std::io::Take<&mut File>>, String> {
    file.seek(SeekFrom::Start(from)).map_err(|error| error.to_string())?;
    Ok(BufReader::new(file.take(to - from)))
}

/// Pickles of the magic number, a version, the machine, the object and the keys of the storages; then the storages.
fn plain(file: &mut File, length: u64, objects: &mut Objects) -> Result<(Id, Places), String> {
    let mut reader = BufReader::new(file);
    let magic = objects.read(&mut reader)?;
    if *objects.get(magic) != Object::Number(MAGIC) {
        return Err("it does not start with the magic number".into());
    }
    for _ in 0..2 {
        objects.read(&mut reader)?;
    }
    let object = objects.read(&mut reader)?;
    let keys = objects.read(&mut reader)?;
    let Object::List(keys) = objects.get(keys) else { return Err("it has no list of its storages".into()) };
    let size = |storage: &Storage| Some((objects.text(storage.key)?, (objects.text(storage.kind)?, storage.count)));
    let sizes: HashMap<&str, (&str, u64)> = objects.storages().filter_map(size).collect();
    let mut at = reader.stream_position().map_err(|error| error.to_string())?;
    let mut places = Places::new();
    for key in keys {
        let key = objects.text(*key).ok_or("it has a storage without a key")?;
        let (kind, count) = sizes.get(key).ok_or("it has a storage that no tensor uses")?;
        let mut stored_count = [0; 8];
        let read = reader.seek(SeekFrom::Start(at)).and_then(|_| reader.read_exact(&mut stored_count));
        read.map_err(|_| "it is truncated")?;
        let size = number_size(kind).ok_or_else(|| format!("it has a storage of unknown type `{kind}`"))?;
        let from = at + 8;
        at = match count.checked_mul(size).and_then(|bytes| from.checked_add(bytes)) {
            Some(end) if u64::from_le_bytes(stored_count) == *count && end <= length => end,
            _ => return Err("it is truncated, or its storages do not have the declared sizes".into()),
        };
        places.insert(key.to_owned(), (from, at));
    }
    Ok((object, places))
}

/// Bytes per element of a storage.
fn number_size(kind: &str) -> Option<u64> {
    match kind {
        "DoubleStorage" | "LongStorage" => Some(8),
        "FloatStorage" | "IntStorage" => Some(4),
        "HalfStorage" | "BFloat16Storage" | "ShortStorage" => Some(2),
        "ByteStorage" | "CharStorage" | "BoolStorage" => Some(1),
        _ => None,
    }
}

/// Collects the tensors of a dictionary and of nested ones.
fn collect(
    objects: &Objects,
    places: &Places,
    id: Id,
    prefix: &str,
    depth: usize,
    left: &mut usize,
    stored: &mut BTreeMap<String, Stored>,
) -> Result<(), String> {
    let Object::Dict(entries) = objects.get(id) else {
        return if depth == MAX_DEPTH {
            Err(format!("it does not hold a dictionary of tensors; {INSTEAD}"))
        } else {
            Ok(())
        };
    };
    for (key, value) in entries {
        *left = left.checked_sub(1).ok_or("its dictionaries have too many entries")?;
        let Some(key) = objects.text(*key).filter(|key| key.len() <= MAX_NAME) else { continue };
        let name = format!("{prefix}{key}");
        match objects.get(*value) {
            Object::Tensor(view) => {
                let Object::Storage(storage) = objects.get(view.storage) else { continue };
                let dtype = objects.text(storage.kind).and_then(dtype);
                let size = dtype.map_or(1, |dtype| dtype.size_in_bytes() as u64);
                let Some(&(from, to)) = objects.text(storage.key).and_then(|key| places.get(key)) else {
                    return Err(format!("the data of `{name}` are missing"));
                };
                // A tensor that starts beyond its storage is an error only if it is required.
                let start = view.offset.checked_mul(size).and_then(|skip| from.checked_add(skip)).unwrap_or(to);
                let (dims, strides) = (view.dims.clone(), view.strides.clone());
                stored.insert(name, Stored { dtype, dims, strides, start, end: to });
            }
            Object::Dict(_) if depth > 1 => {
                collect(objects, places, *value, &format!("{name}."), depth - 1, left, stored)?;
            }
            _ => {}
        }
    }
    Ok(())
}
