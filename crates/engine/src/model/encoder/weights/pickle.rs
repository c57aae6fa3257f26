//! The subset of Python's pickle format used by files of weights.
//!
//! A pickle is a program for a stack machine that may call any function. This machine calls none: it interprets PyTorch's
//! pickles of tensors and replaces any other object by a placeholder. Objects are in one list and refer to each other by
//! index, texts included, so that neither deep nesting nor repeated references can exhaust stack or memory.

use std::collections::HashMap;
use std::io::{BufRead, Read};

/// Limits of a pickle; that of a ResNet-152 has 150 kB and 13,000 objects.
const MAX_BYTES: u64 = 16 << 20;
const MAX_OBJECTS: usize = 1 << 20;
/// Most arguments of a call and axes of a tensor.
const MAX_ITEMS: usize = 8;

/// Index of an object.
pub(super) type Id = usize;

/// An object of a pickle.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Object {
    Number(i128),
    Text(String),
    /// A Python global, such as `torch.FloatStorage`: its module and its name.
    Global(Id, Id),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Storage(Storage),
    Tensor(View),
    /// Anything not related to weights.
    Other,
}

/// A storage: values elsewhere in the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Storage {
    /// `FloatStorage`
    pub(super) kind: Id,
    pub(super) key: Id,
    /// Number of elements.
    pub(super) count: u64,
}

/// A tensor: a view of a storage.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct View {
    pub(super) storage: Id,
    pub(super) offset: u64,
    pub(super) dims: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// All objects of a file's pickles.
#[derive(Debug, Default)]
pub(super) struct Objects(Vec<Object>);

impl Objects {
    pub(super) fn get(&self, id: Id) -> &Object {
        self.0.get(id).unwrap_or(&Object::Other)
    }

    /// A text; `None` for any other object.
    pub(super) fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Object::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn storages(&self) -> impl Iterator<Item = &Storage> {
        self.iter().filter_map(|object| match object {
            Object::Storage(storage) => Some(storage),
            _ => None,
        })
    }

    /// Every object, in the order of creation.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Object> {
        self.0.iter()
    }

    fn add(&mut self, object: Object) -> Result<Id, String> {
        if self.0.len() >= MAX_OBJECTS {
            return Err(format!("its pickle creates more than {MAX_OBJECTS} objects"));
        }
        self.0.push(object);
        Ok(self.0.len() - 1)
    }

    /// Reads exactly one pickle and returns its object.
    ///
    /// # Errors
    /// A description of the problem.
    pub(super) fn read(&mut self, reader: &mut impl BufRead) -> Result<Id, String> {
        let reader = reader.by_ref().take(MAX_BYTES);
        Machine { objects: self, reader, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() }.run()
    }
}

struct Machine<'a, R> {
    objects: &'a mut Objects,
    reader: std::io::Take<R>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl<R: BufRead> Machine<'_, R> {
    fn run(mut self) -> Result<Id, String> {
        loop {
            let operation = self.bytes::<1>()?[0];
            if operation == b'.' {
                return self.pop();
            }
            self.step(operation)?;
        }
    }

    fn step(&mut self, operation: u8) -> Result<(), String> {
        match operation {
            // Protocol version and frame length.
            0x80 => self.bytes::<1>().map(drop),
            0x95 => self.bytes::<8>().map(drop),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'N' | 0x88 | 0x89 => self.push(Object::Other),
            b'J' => {
                let number = i32::from_le_bytes(self.bytes()?);
                self.push(Object::Number(number.into()))
            }
            b'K' => {
                let [number] = self.bytes()?;
                self.push(Object::Number(number.into()))
            }
            b'M' => {
                let number = u16::from_le_bytes(self.bytes()?);
                self.push(Object::Number(number.into()))
            }
            0x8a => self.long(),
            b'G' => {
                self.bytes::<8>()?;
                self.push(Object::Other)
            }
            b'X' | b'T' | b'B' => {
                let length = u32::from_le_bytes(self.bytes()?);
                self.text(length.into())
            }
            0x8c | b'U' | b'C' => {
                let [length] = self.bytes()?;
                self.text(length.into())
            }
            0x8d | 0x8e => {
                let length = u64::from_le_bytes(self.bytes()?);
                self.text(length)
            }
            b')' => self.push(Object::Tuple(Vec::new())),
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(operation - 0x84))?;
                self.push(Object::Tuple(items))
            }
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Object::Tuple(items))
            }
            b']' => self.push(Object::List(Vec::new())),
            b'}' => self.push(Object::Dict(Vec::new())),
            b'a' | b'e' => {
                let items = if operation == b'a' { self.pop_many(1)? } else { self.pop_to_mark()? };
                self.extend(items)
            }
            b's' | b'u' => {
                let items = if operation == b's' { self.pop_many(2)? } else { self.pop_to_mark()? };
                self.insert(&items)
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Object::Global(module, name))
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                self.push(Object::Global(module, name))
            }
            b'R' | 0x81 => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                self.reduce(callable, arguments)
            }
            // BUILD: the state of an object is not needed.
            b'b' => self.pop().map(drop),
            b'Q' => {
                let id = self.pop()?;
                let object = self.storage(id).map_or(Object::Other, Object::Storage);
                self.push(object)
            }
            b'0' => self.pop().map(drop),
            b'q' | b'r' | 0x94 => {
                let key = match operation {
                    b'q' => self.bytes::<1>()?[0].into(),
                    b'r' => u32::from_le_bytes(self.bytes()?).into(),
                    _ => self.memo.len() as u64,
                };
                let top = *self.stack.last().ok_or("its pickle memoises from an empty stack")?;
                self.memo.insert(key, top);
                Ok(())
            }
            b'h' | b'j' => {
                let key = match operation {
                    b'h' => self.bytes::<1>()?[0].into(),
                    _ => u32::from_le_bytes(self.bytes()?).into(),
                };
                let id = *self.memo.get(&key).ok_or("its pickle reads an unset memo entry")?;
                self.stack.push(id);
                Ok(())
            }
            other => Err(format!(
                "its pickle has the opcode {other:#04x}, which files of weights do not use; {}",
                super::torch::INSTEAD
            )),
        }
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        match self.reader.read_exact(&mut bytes) {
            Ok(()) => Ok(bytes),
            Err(_) if self.reader.limit() < N as u64 => Err(format!("its pickle is longer than {MAX_BYTES} bytes")),
            Err(error) => Err(format!("its pickle cannot be read to its end ({error})")),
        }
    }

    fn text(&mut self, length: u64) -> Result<(), String> {
        let mut bytes = Vec::new();
        // Allocates what is there, not what is claimed.
        let read = self.reader.by_ref().take(length).read_to_end(&mut bytes);
        if read.is_err() || bytes.len() as u64 != length {
            return Err("its pickle ends within a string".into());
        }
        self.push(String::from_utf8(bytes).map_or(Object::Other, Object::Text))
    }

    /// The text up to the end of the line.
    fn line(&mut self) -> Result<Id, String> {
        let mut line = Vec::new();
        let read = self.reader.read_until(b'\n', &mut line);
        if read.is_err() || line.pop() != Some(b'\n') {
            return Err("its pickle ends within a name".into());
        }
        let line = String::from_utf8(line).map_err(|_| "its pickle has a name that is not UTF-8")?;
        self.objects.add(Object::Text(line))
    }

    fn long(&mut self) -> Result<(), String> {
        let [length] = self.bytes()?;
        let mut bytes = vec![0; length.into()];
        self.reader.read_exact(&mut bytes).map_err(|_| "its pickle ends within a number")?;
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut number = [if negative { 0xff } else { 0 }; 16];
        match number.get_mut(..bytes.len()) {
            Some(low) => {
                low.copy_from_slice(&bytes);
                self.push(Object::Number(i128::from_le_bytes(number)))
            }
            None => self.push(Object::Other),
        }
    }

    fn push(&mut self, object: Object) -> Result<(), String> {
        let id = self.objects.add(object)?;
        self.stack.push(id);
        Ok(())
    }

    fn pop(&mut self) -> Result<Id, String> {
        self.stack.pop().ok_or_else(|| "its pickle pops from an empty stack".into())
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>, String> {
        let from = self.stack.len().checked_sub(count).ok_or("its pickle pops from an empty stack")?;
        Ok(self.stack.split_off(from))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or("its pickle pops to a mark that was never set")?;
        if mark > self.stack.len() {
            return Err("its pickle popped past a mark".into());
        }
        Ok(self.stack.split_off(mark))
    }

    fn top(&mut self) -> Result<&mut Object, String> {
        let id = *self.stack.last().ok_or("its pickle appends to an empty stack")?;
        self.objects.0.get_mut(id).ok_or_else(|| "its pickle appends to an empty stack".into())
    }

    fn extend(&mut self, items: Vec<Id>) -> Result<(), String> {
        if let Object::List(list) = self.top()? {
            list.extend(items);
        }
        Ok(())
    }

    fn insert(&mut self, items: &[Id]) -> Result<(), String> {
        if let Object::Dict(entries) = self.top()? {
            entries.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
        }
        Ok(())
    }

    /// The result of a call, if it is one that builds tensors.
    fn reduce(&mut self, callable: Id, arguments: Id) -> Result<(), String> {
        let arguments = match self.objects.get(arguments) {
            Object::Tuple(items) => items.iter().copied().take(MAX_ITEMS).collect(),
            _ => Vec::new(),
        };
        let object = match (self.global(callable), arguments.as_slice()) {
            (Some(("collections", "OrderedDict")), _) => Object::Dict(Vec::new()),
            (Some(("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor")), items) => {
                self.view(items).map_or(Object::Other, Object::Tensor)
            }
            (Some(("torch._utils", "_rebuild_parameter")), [tensor, ..]) => {
                self.stack.push(*tensor);
                return Ok(());
            }
            _ => Object::Other,
        };
        self.push(object)
    }

    /// `(storage, offset, dims, strides, ..)`
    fn view(&self, arguments: &[Id]) -> Option<View> {
        let [storage, offset, dims, strides, ..] = *arguments else { return None };
        let Object::Storage(_) = self.objects.get(storage) else { return None };
        let sizes = |id: Id| match self.objects.get(id) {
            Object::Tuple(items) if items.len() <= MAX_ITEMS => {
                items.iter().map(|&id| self.number(id)?.try_into().ok()).collect()
            }
            _ => None,
        };
        let (dims, strides): (Vec<usize>, Vec<usize>) = (sizes(dims)?, sizes(strides)?);
        let offset = self.number(offset)?.try_into().ok()?;
        (dims.len() == strides.len()).then_some(View { storage, offset, dims, strides })
    }

    /// `('storage', kind, key, location, count, ..)`
    fn storage(&self, id: Id) -> Option<Storage> {
        let Object::Tuple(items) = self.objects.get(id) else { return None };
        let [_, kind, key, _, count, ..] = *items.as_slice() else { return None };
        let Object::Global(_, name) = *self.objects.get(kind) else { return None };
        let is_storage = self.global(kind)?.0 == "torch" && self.objects.text(key).is_some();
        let count = self.number(count)?.try_into().ok()?;
        is_storage.then_some(Storage { kind: name, key, count })
    }

    /// Module and name of a global.
    fn global(&self, id: Id) -> Option<(&str, &str)> {
        match *self.objects.get(id) {
            Object::Global(module, name) => Some((self.objects.text(module)?, self.objects.text(name)?)),
            _ => None,
        }
    }

    fn number(&self, id: Id) -> Option<i128> {
        match self.objects.get(id) {
            Object::Number(number) => Some(*number),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of all texts of the objects of a pickle.
    fn bytes_of_texts(pickle: &[u8]) -> usize {
        let mut objects = Objects::default();
        objects.read(&mut &*pickle).unwrap();
        (0..objects.0.len()).filter_map(|id| objects.text(id)).map(str::len).sum()
    }

    #[test]
    fn a_text_is_kept_once_however_often_it_is_used() {
        let text = "x".repeat(100_000);
        let mut pickle = [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes(), b"q\x00"].concat();
        // The text as module and name of globals, and as the key of storages.
        pickle.extend(b"h\x00h\x00\x93".repeat(1000));
        pickle.extend(b"(h\x00ctorch\nFloatStorage\nh\x00h\x00K\x01tq\x01");
        pickle.extend(b"h\x01Q".repeat(1000));
        pickle.push(b'.');
        assert!(bytes_of_texts(&pickle) < pickle.len());
    }
}
