//! Weights of a backbone from the hub, end to end: a server that behaves like the hub, and processes of their own that load from
//! it, since the cache and the hub's address belong to a process.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::{Device, Tensor};
use ccdni::model::encoder::{WeightSource, load};
use ccdni::nn::backbone::{Backbone, Block, Resnet};

use super::server::{Faults, Hub};

/// Names the source for a process that is to load weights.
const LOAD: &str = "CCDNI_TEST_LOAD_WEIGHTS";
const SOURCE: &str = "hub:someone/tiny.in1k";
const FILE: &str = "someone/tiny.in1k/model.safetensors";

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

fn backbone(stem: usize) -> Backbone {
    Backbone::Resnet(Resnet::new(Block::Basic, [1, 1, 1, 1], stem, [4, 4, 8, 8], 64))
}

/// Loads weights as a command would, and prints which they are.
#[test]
#[ignore = "the others start it in processes of their own"]
fn loads() {
    let Ok(source) = std::env::var(LOAD) else { return };
    let loaded = source.parse::<WeightSource>().map_err(|error| (2, error)).and_then(|source| {
        load(&backbone(4), &source, 0, &Device::Cpu).map_err(|error| (error.exit_code(), error.to_string()))
    });
    let code = match loaded {
        Ok(loaded) => {
            let sizes: usize = loaded.tensors.iter().map(Tensor::elem_count).sum();
            println!("{sizes} numbers of {}", loaded.digest.unwrap_or_default());
            0
        }
        Err((code, error)) => {
            println!("{error}");
            code
        }
    };
    std::process::exit(code.into());
}

/// Loads weights in a process of its own; gives exit code and what was said.
fn run(folder: &Path, endpoint: &str, offline: bool, source: &str) -> Result<(i32, String)> {
    let mut command = Command::new(std::env::current_exe()?);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HF_") || name.ends_with("_proxy")) {
        command.env_remove(name);
    }
    if offline {
        command.env("HF_HUB_OFFLINE", "1");
    }
    command.args(["--exact", "hub::weights::loads", "--ignored", "--nocapture"]).env(LOAD, source);
    let output = command.current_dir(folder).env("HF_ENDPOINT", endpoint).output()?;
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Ok((output.status.code().unwrap_or(-1), said))
}

/// The file as the hub has it, and what is said of it when it is loaded.
fn weights(stem: usize) -> Result<(Vec<u8>, String)> {
    let backbone = backbone(stem);
    let tensors = load(&backbone, &WeightSource::Random, 1, &Device::Cpu)?.tensors;
    let sizes: usize = tensors.iter().map(Tensor::elem_count).sum();
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("x");
    candle_core::safetensors::save(&backbone.tensors().into_iter().map(|t| t.name).zip(tensors).collect(), &path)?;
    let bytes = std::fs::read(path)?;
    let says = format!("{sizes} numbers of {}", blake3::hash(&bytes).to_hex());
    Ok((bytes, says))
}

fn says(what: &(i32, String), code: i32, all: &[&str]) -> Result {
    match all.iter().find(|text| !what.1.contains(**text)) {
        _ if what.0 != code => Err(format!("ended with {}, not {code}: {}", what.0, what.1).into()),
        Some(text) => Err(format!("does not say {text:?}: {}", what.1).into()),
        None => Ok(()),
    }
}

#[test]
fn weights_are_downloaded_once_and_then_used_without_a_network() -> Result {
    let (bytes, expected) = weights(4)?;
    let (hub, folder) = (Hub::new([(FILE.to_owned(), bytes)]), tempfile::tempdir()?);
    hub.faults(Faults { cuts: 1, ..Faults::default() });
    let said = run(folder.path(), &hub.endpoint, false, SOURCE)?;
    says(&said, 0, &[&expected, "downloading model.safetensors", "trying again"])?;
    if hub.requests().iter().all(|path| !path.starts_with("/someone/tiny.in1k/resolve/main/")) {
        return Err("a model is asked for at another address".into());
    }
    for offline in [false, true] {
        let said = run(folder.path(), &hub.endpoint, offline, SOURCE)?;
        says(&said, 0, &[&expected])?;
        if said.1.contains("downloading") || !hub.requests().is_empty() {
            return Err("it was asked for again".into());
        }
    }
    Ok(())
}

#[test]
fn a_file_that_is_not_there_is_named() -> Result {
    let (hub, folder) = (Hub::new([]), tempfile::tempdir()?);
    let said = run(folder.path(), &hub.endpoint, false, &format!("{SOURCE}/other/w.pth"))?;
    says(&said, 1, &["other/w.pth of someone/tiny.in1k", "404", &hub.endpoint, "name its path"])
}

#[test]
fn without_a_network_the_message_says_what_to_do() -> Result {
    let folder = tempfile::tempdir()?;
    let said = run(folder.path(), "http://127.0.0.1:9", true, SOURCE)?;
    says(&said, 2, &["HF_HUB_OFFLINE", "datasets/hub", "model.safetensors of someone/tiny.in1k", "name its path"])?;
    let said = run(folder.path(), "http://127.0.0.1:9", false, SOURCE)?;
    says(&said, 1, &["cannot get", "HF_ENDPOINT", "name its path"])
}

#[test]
fn a_damaged_cache_is_mended_or_named() -> Result {
    let (bytes, expected) = weights(4)?;
    let (hub, folder) = (Hub::new([(FILE.to_owned(), bytes)]), tempfile::tempdir()?);
    says(&run(folder.path(), &hub.endpoint, false, SOURCE)?, 0, &[&expected])?;
    let blobs = std::fs::read_dir(folder.path().join("datasets/hub/models--someone--tiny.in1k/blobs"))?;
    let blobs: Vec<PathBuf> = blobs.filter_map(|entry| Some(entry.ok()?.path())).collect();
    let blob = blobs.iter().find(|path| path.extension().is_none()).ok_or("there is no file in the cache")?;
    let mut content = std::fs::read(blob)?;
    let last = content.len() - 1;
    content[last] ^= 1;
    std::fs::write(blob, content)?;
    says(&run(folder.path(), &hub.endpoint, true, SOURCE)?, 2, &["its SHA-256 is", "HF_HUB_OFFLINE"])?;
    says(&run(folder.path(), &hub.endpoint, false, SOURCE)?, 0, &["downloading it again", &expected])
}

#[test]
fn weights_of_another_network_are_named() -> Result {
    let (hub, folder) = (Hub::new([(FILE.to_owned(), weights(6)?.0)]), tempfile::tempdir()?);
    let said = run(folder.path(), &hub.endpoint, false, SOURCE)?;
    says(&said, 2, &["model.safetensors", "larger network", "`layer1.0.downsample.0.weight`"])
}
