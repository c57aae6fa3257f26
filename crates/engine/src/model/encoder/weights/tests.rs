use std::io::{Cursor, Write};

use candle_core::DType;
use zip::write::SimpleFileOptions;

use super::*;
use crate::nn::backbone::{Block, ConvNet, Resnet};

fn backbone() -> Backbone {
    Backbone::Resnet(Resnet::new(Block::Basic, [1, 1, 1, 1], 2, [2, 2, 4, 4], 64))
}

fn drawn(backbone: &Backbone) -> Vec<(String, Tensor)> {
    let loaded = load(backbone, &WeightSource::Random, 7, &Device::Cpu).unwrap();
    assert!(loaded.digest.is_none() && loaded.file.is_none());
    backbone.tensors().into_iter().map(|tensor| tensor.name).zip(loaded.tensors).collect()
}

/// A temporary folder, and a file in it.
fn written(name: &str, bytes: &[u8]) -> (tempfile::TempDir, WeightSource) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (folder, path.to_str().unwrap().parse().unwrap())
}

fn loaded(name: &str, bytes: &[u8]) -> Result<Loaded> {
    let (_folder, source) = written(name, bytes);
    load(&backbone(), &source, 0, &Device::Cpu)
}

#[track_caller]
fn is_drawn(loaded: &Loaded, off: f32) {
    for (tensor, (name, expected)) in loaded.tensors.iter().zip(drawn(&backbone())) {
        assert_eq!((tensor.dims(), tensor.dtype()), (expected.dims(), DType::F32), "{name}");
        let largest = (tensor - expected).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(largest <= off, "{name}: {largest}");
    }
}

#[track_caller]
fn fails(name: &str, bytes: &[u8], expected: &str) {
    let error = loaded(name, bytes).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let error = error.to_string();
    assert!(error.contains(name) && error.contains(expected), "should say {expected:?}: {error}");
}

fn safetensors(tensors: &[(String, Tensor)]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    candle_core::safetensors::save(&tensors.iter().cloned().collect(), &path).unwrap();
    std::fs::read(path).unwrap()
}

fn prefixed(prefix: &str, tensors: &[(String, Tensor)]) -> Vec<(String, Tensor)> {
    tensors.iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor.clone())).collect()
}

/// Writes pickles: a dictionary of tensors as PyTorch pickles it, one storage per tensor.
struct Pickle(Vec<u8>);

impl Pickle {
    fn new() -> Pickle {
        Pickle(b"\x80\x02".to_vec())
    }

    fn raw(mut self, bytes: &[u8]) -> Pickle {
        self.0.extend(bytes);
        self
    }

    fn text(self, text: &str) -> Pickle {
        self.raw(b"X").raw(&(text.len() as u32).to_le_bytes()).raw(text.as_bytes())
    }

    fn int(self, number: usize) -> Pickle {
        self.raw(b"J").raw(&(number as i32).to_le_bytes())
    }

    fn ints(self, numbers: &[usize]) -> Pickle {
        numbers.iter().fold(self.raw(b"("), |pickle, &number| pickle.int(number)).raw(b"t")
    }

    fn tensor(self, kind: &str, key: usize, count: usize, dims: &[usize], strides: &[usize]) -> Pickle {
        let pickle = self.raw(b"ctorch._utils\n_rebuild_tensor_v2\n((").text("storage");
        let pickle = pickle.raw(format!("ctorch\n{kind}\n").as_bytes()).text(&key.to_string()).text("cpu").int(count);
        pickle.raw(b"tQK\x00").ints(dims).ints(strides).raw(b"\x89ccollections\nOrderedDict\n)Rq\x05tR")
    }

    fn dict(self, tensors: &[(String, Tensor)]) -> Pickle {
        let mut pickle = self.raw(b"ccollections\nOrderedDict\n)R(");
        for (key, (name, tensor)) in tensors.iter().enumerate() {
            let dims = tensor.dims();
            pickle = pickle.text(name).tensor("FloatStorage", key, tensor.elem_count(), dims, &stored::dense(dims));
        }
        // A number, and an object of an unknown class.
        pickle.text("epoch").int(3).text("config").raw(b"cargparse\nNamespace\n)\x81}b").raw(b"u")
    }
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn zipped(pickle: &[u8], storages: &[Vec<u8>]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut put = |name: &str, bytes: &[u8]| {
        zip.start_file(name, options).unwrap();
        zip.write_all(bytes).unwrap();
    };
    put("archive/data.pkl", pickle);
    put("archive/byteorder", b"little");
    for (key, storage) in storages.iter().enumerate() {
        put(&format!("archive/data/{key}"), storage);
    }
    put("archive/version", b"3\n");
    zip.finish().unwrap().into_inner()
}

fn pth(tensors: &[(String, Tensor)]) -> Vec<u8> {
    let storages: Vec<Vec<u8>> = tensors.iter().map(|(_, tensor)| bytes(tensor)).collect();
    zipped(&Pickle::new().dict(tensors).raw(b".").0, &storages)
}

/// The format of PyTorch before 1.6.
fn old_pth(tensors: &[(String, Tensor)]) -> Vec<u8> {
    let mut file = Pickle::new().raw(b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.").0;
    file.extend(Pickle::new().raw(b"M\xe9\x03.").0);
    file.extend(Pickle::new().raw(b"}q\x00(").text("little_endian").raw(b"\x88u.").0);
    file.extend(Pickle::new().dict(tensors).raw(b".").0);
    let keys = (0..tensors.len()).fold(Pickle::new().raw(b"]("), |pickle, key| pickle.text(&key.to_string()));
    file.extend(keys.raw(b"e.").0);
    for (_, tensor) in tensors {
        file.extend((tensor.elem_count() as u64).to_le_bytes());
        file.extend(bytes(tensor));
    }
    file
}

#[test]
fn every_format_and_naming_scheme_is_read() {
    let plain = drawn(&backbone());
    let encoder: Vec<(String, Tensor)> =
        plain.iter().map(|(name, tensor)| (to_encoder_name(name).unwrap(), tensor.clone())).collect();
    let more = || Tensor::zeros((3, 5), DType::F32, &Device::Cpu).unwrap();
    for (tensors, prefix) in
        [(&plain, ""), (&plain, "module."), (&plain, "state_dict.model."), (&encoder, ""), (&encoder, "encoder.")]
    {
        let mut tensors = prefixed(prefix, tensors);
        tensors.push((format!("{prefix}fc.weight"), more()));
        if !prefix.is_empty() {
            tensors.push(("aaa.conv1.weight".to_owned(), more()));
        }
        tensors.push((format!("{prefix}bn1.num_batches_tracked"), Tensor::new(5i64, &Device::Cpu).unwrap()));
        let bytes = safetensors(&tensors);
        let loaded = loaded("m.safetensors", &bytes).unwrap();
        is_drawn(&loaded, 0.0);
        assert_eq!(loaded.digest, Some(blake3::hash(&bytes).to_hex().to_string()));
        tensors.pop();
        is_drawn(&super::tests::loaded("m.pth", &pth(&tensors)).unwrap(), 0.0);
        is_drawn(&super::tests::loaded("m.pt", &old_pth(&tensors)).unwrap(), 0.0);
    }
}

#[test]
fn a_dictionary_within_another_is_found() {
    let plain = drawn(&backbone());
    let storages: Vec<Vec<u8>> = plain.iter().map(|(_, tensor)| bytes(tensor)).collect();
    let pickle = Pickle::new().raw(b"}").text("state_dict").dict(&plain).raw(b"s.");
    is_drawn(&loaded("m.pth", &zipped(&pickle.0, &storages)).unwrap(), 0.0);
}

#[test]
fn other_dtypes_become_f32() {
    for (dtype, off) in [(DType::F16, 1e-3), (DType::BF16, 1e-2), (DType::F64, 0.0)] {
        let tensors: Vec<(String, Tensor)> =
            drawn(&backbone()).into_iter().map(|(name, tensor)| (name, tensor.to_dtype(dtype).unwrap())).collect();
        is_drawn(&loaded("m.safetensors", &safetensors(&tensors)).unwrap(), off);
    }
    let mut tensors = drawn(&backbone());
    tensors[1].1 = tensors[1].1.to_dtype(DType::I64).unwrap();
    fails("m.safetensors", &safetensors(&tensors), "`bn1.weight` has an unsupported dtype");
}

#[test]
fn views_of_a_storage_are_read_by_their_strides() {
    let net = Backbone::Conv(ConvNet::new(8, &[2]));
    // Weights [2, 3, 3, 3] with the channels last, and a bias that is every third number from the second on.
    let numbers: Vec<f32> = (0..54).map(|i| i as f32).collect();
    let storage: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let pickle = Pickle::new().raw(b"}(").text("conv.0.weight");
    let pickle = pickle.tensor("FloatStorage", 0, 54, &[2, 3, 3, 3], &[27, 1, 9, 3]).text("conv.0.bias");
    let pickle = pickle.tensor("FloatStorage", 0, 54, &[2], &[3]).raw(b"u.").0;
    let read = |pickle: &[u8]| {
        let (_folder, source) = written("m.pth", &zipped(pickle, std::slice::from_ref(&storage)));
        load(&net, &source, 0, &Device::Cpu)
    };
    let loaded = read(&pickle).unwrap();
    let expected = Tensor::from_vec(numbers, (2, 3, 3, 3), &Device::Cpu).unwrap().permute((0, 3, 1, 2)).unwrap();
    let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(flat(&loaded.tensors[0]), flat(&expected));
    assert_eq!(flat(&loaded.tensors[1]), [0.0, 3.0]);
    // A stride that leads out of the storage.
    let at = pickle.windows(10).rposition(|bytes| bytes == b"(J\x03\0\0\0t\x89cc").unwrap();
    let beyond = [&pickle[..at + 2], &[60], &pickle[at + 3..]].concat();
    assert!(read(&beyond).unwrap_err().to_string().contains("`conv.0.bias` extends beyond its storage"));
}

#[test]
fn what_is_missing_or_has_another_shape_is_named() {
    let mut tensors = drawn(&backbone());
    let (_, weight) = tensors.remove(5);
    let one = "lacks 1 of 60 tensors of the network: `layer1.0.conv1.weight` (it holds 59";
    fails("m.safetensors", &safetensors(&tensors), one);
    fails("m.pth", &pth(&tensors), one);
    fails("m.pth", &pth(&prefixed("module.", &tensors)), "`module.layer1.0.conv1.weight`");
    tensors.insert(5, ("layer1.0.conv1.weight".into(), weight.narrow(0, 0, 1).unwrap().contiguous().unwrap()));
    let shape = "another network: `layer1.0.conv1.weight` has shape [1, 2, 3, 3], not [2, 2, 3, 3]";
    fails("m.safetensors", &safetensors(&tensors), shape);
    fails("m.pth", &pth(&tensors), shape);
    fails(
        "m.safetensors",
        &safetensors(&drawn(&Backbone::Conv(ConvNet::new(8, &[2])))),
        "the first of which is `conv.0.bias`",
    );
    fails("m.safetensors", b"\x02\0\0\0\0\0\0\0{}", "it holds no tensors");
}

#[test]
fn a_larger_network_is_refused_and_its_depth_is_named() {
    // As many blocks as the standard networks, with few channels.
    let resnet = |block, layers| Backbone::Resnet(Resnet::new(block, layers, 2, [2, 2, 4, 4], 64));
    let [shallow, deep] = [[2, 2, 2, 2], [3, 4, 6, 3]].map(|layers| resnet(Block::Basic, layers));
    let read = |backbone: &Backbone, name: &str, bytes: &[u8]| {
        let (_folder, source) = written(name, bytes);
        load(backbone, &source, 0, &Device::Cpu)
    };
    let deeper = drawn(&deep);
    let as_encoder: Vec<_> =
        deeper.iter().map(|(name, tensor)| (to_encoder_name(name).unwrap(), tensor.clone())).collect();
    for tensors in [prefixed("module.", &deeper), as_encoder] {
        for (name, bytes) in [("m.safetensors", safetensors(&tensors)), ("m.pth", pth(&tensors))] {
            let error = read(&shallow, name, &bytes).unwrap_err().to_string();
            for expected in [".2.bn1.bias`", " and 77 more would be left over", "ResNet-34 (`depth: 34`)"] {
                assert!(error.contains(expected), "{expected}: {error}");
            }
            read(&deep, name, &bytes).unwrap();
        }
    }
    let error = read(&resnet(Block::Bottleneck, [3, 4, 6, 3]), "m.pth", &pth(&deeper)).unwrap_err().to_string();
    assert!(error.contains("lacks") && error.contains("`depth: 34`"), "{error}");
    // Any other tensor of the backbone would change what it computes.
    let mut tensors = drawn(&backbone());
    tensors.push(("layer1.0.se.fc1.weight".into(), Tensor::zeros(4, DType::F32, &Device::Cpu).unwrap()));
    fails("m.safetensors", &safetensors(&tensors), "larger network: `layer1.0.se.fc1.weight` would be left over");
}

#[test]
fn several_networks_in_one_file_are_refused() {
    let plain = drawn(&backbone());
    let other: Vec<(String, Tensor)> =
        plain.iter().map(|(name, tensor)| (name.clone(), (tensor * 0.5).unwrap())).collect();
    for (one, two) in [("encoder_q.", "encoder_k."), ("", "ema."), ("student.", "teacher.encoder.")] {
        let mut tensors = [prefixed(one, &plain), prefixed(two, &other)].concat();
        tensors.push((format!("{two}fc.weight"), Tensor::zeros((3, 5), DType::F32, &Device::Cpu).unwrap()));
        for (name, bytes) in [("m.safetensors", safetensors(&tensors)), ("m.pth", pth(&tensors))] {
            fails(name, &bytes, "holds 2 networks that fit");
            fails(name, &bytes, &format!("`{one}conv1.weight`"));
            fails(name, &bytes, &format!("`{two}conv1.weight`"));
        }
    }
    // One module under two names: both refer to the same storages.
    let storages: Vec<Vec<u8>> = plain.iter().map(|(_, tensor)| bytes(tensor)).collect();
    let pickle = Pickle::new().raw(b"}(").text("net").dict(&plain).text("backbone").dict(&plain).raw(b"u.");
    is_drawn(&loaded("m.pth", &zipped(&pickle.0, &storages)).unwrap(), 0.0);
}

#[test]
fn any_file_name_is_accepted_and_other_types_are_named() {
    let tensors = drawn(&backbone());
    for name in ["checkpoint.pth.tar", "last.ckpt", "pytorch_model.bin", "weights"] {
        is_drawn(&loaded(name, &pth(&tensors)).unwrap(), 0.0);
        is_drawn(&loaded(name, &old_pth(&tensors)).unwrap(), 0.0);
        is_drawn(&loaded(name, &safetensors(&tensors)).unwrap(), 0.0);
    }
    let module = Pickle::new().raw(b"ctorchvision.models.resnet\nResNet\n)\x81}").text("training").raw(b"\x89sb.");
    fails("m.pth", &zipped(&module.0, &[]), "torch.save(module.state_dict()");
    let inside = Pickle::new().raw(b"}").text("model").raw(b"ctorchvision.models.resnet\nResNet\n)\x81s.");
    fails("m.ckpt", &zipped(&inside.0, &[]), "torch.save(module.state_dict()");
    let mut script = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for name in ["m/data.pkl", "m/constants.pkl"] {
        script
            .start_file(name, SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored))
            .unwrap();
        script.write_all(b"\x80\x02}.").unwrap();
    }
    fails("m.pt", &script.finish().unwrap().into_inner(), "TorchScript");
    fails("m.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5\n", "pointer file of Git LFS");
    fails("m.safetensors", b"<!DOCTYPE html>\n<html>", "a page of HTML");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    for (path, expected) in [("none.pth", "cannot be read"), ("folder.pt", "is not a file")] {
        std::fs::create_dir_all(folder.path().join("folder.pt")).unwrap();
        let source = WeightSource::File(folder.path().join(path));
        let error = load(&backbone(), &source, 0, &Device::Cpu).unwrap_err().to_string();
        assert!(error.contains(path) && error.contains(expected), "{error}");
    }
}

#[test]
fn hostile_safetensors_are_refused() {
    let good = safetensors(&drawn(&backbone()));
    for (bytes, expected) in [
        (Vec::new(), "within its first 8 bytes"),
        (b"hello, I am a text".to_vec(), "its header claims"),
        (u64::MAX.to_le_bytes().to_vec(), "18446744073709551615 bytes, and the file has 8"),
        (good[..200].to_vec(), "its header claims"),
        (good[..good.len() - 1].to_vec(), "the file may be truncated"),
        ([&3u64.to_le_bytes()[..], b"[1]"].concat(), "not valid JSON"),
        ([&15u64.to_le_bytes()[..], b"{\"conv1\": true}"].concat(), "`conv1`"),
    ] {
        fails("m.safetensors", &bytes, expected);
    }
    let mut giant = (5u64 << 20).to_le_bytes().to_vec();
    giant.resize(6 << 20, b' ');
    fails("m.safetensors", &giant, "more than 4194304");
    let header = br#"{"x": {"dtype": "F32", "shape": [18446744073709551615, 9], "data_offsets": [0, 0]}}"#;
    fails("m.safetensors", &[&(header.len() as u64).to_le_bytes()[..], header].concat(), "lacks 60");
}

#[test]
fn hostile_pickles_are_refused() {
    let in_zip = |pickle: Pickle| zipped(&pickle.0, &[]);
    // Sixty thousand nested tuples, and one that is doubled forty times.
    let deep = Pickle::new().raw(b")").raw(&b"\x85".repeat(60_000)).raw(b".");
    let double = b"q\x01h\x01\x86".repeat(40);
    for (bytes, expected) in [
        (b"PK".to_vec(), "within its first 4 bytes"),
        (b"PK\x03\x04 and nothing else".to_vec(), "zip file"),
        (b"hello, I am a text".to_vec(), "not a file of PyTorch weights"),
        (in_zip(deep), "does not hold a dictionary"),
        (in_zip(Pickle::new().raw(b")").raw(&double).raw(b".")), "does not hold a dictionary"),
        (in_zip(Pickle::new().raw(b"cos\nsystem\n").text("echo").raw(b"\x85R.")), "does not hold a dictionary"),
        (in_zip(Pickle::new().raw(b"}q\x01").text("x").raw(b"h\x01s.")), "it holds no tensors"),
        (in_zip(Pickle::new().raw(b"X\xff\xff\xff\xff")), "ends within a string"),
        (in_zip(Pickle::new().raw(b"R.")), "pops from an empty stack"),
        (in_zip(Pickle::new().raw(b"h\x07.")), "unset memo entry"),
        (in_zip(Pickle::new().raw(b"u.")), "never set"),
        (in_zip(Pickle::new().raw(b"i.")), "opcode 0x69"),
        (in_zip(Pickle::new()), "to its end"),
        (in_zip(Pickle::new().raw(&b")".repeat((1 << 20) + 1))), "more than 1048576 objects"),
        (in_zip(Pickle::new().raw(b")").raw(&b"q\x01".repeat(8 << 20))), "longer than 16777216 bytes"),
        (zipped(&Pickle::new().dict(&drawn(&backbone())).raw(b".").0, &[]), "the data of `conv1.weight` are missing"),
        (Pickle::new().raw(b"K\x01.").0, "does not start with the magic number"),
    ] {
        fails("m.pth", &bytes, expected);
    }
}

#[test]
fn damaged_files_never_panic() {
    let mut stream = Stream::new(1, "test", 0, 0);
    let tensors = drawn(&backbone());
    for (name, good) in
        [("m.safetensors", safetensors(&tensors)), ("m.pth", pth(&tensors)), ("m.pth", old_pth(&tensors))]
    {
        for _ in 0..400 {
            let mut bytes = good.clone();
            // Most of the damage in the header.
            for _ in 0..=stream.below(3) {
                let length = if stream.below(4) == 0 { bytes.len() } else { bytes.len().min(3000) };
                bytes[stream.below(length)] = stream.below(256) as u8;
            }
            if stream.below(4) == 0 {
                bytes.truncate(stream.below(good.len()));
            }
            if let Ok(loaded) = loaded(name, &bytes) {
                assert_eq!(loaded.tensors.len(), tensors.len());
            }
        }
    }
}
