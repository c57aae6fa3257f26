//! The source of weights, as written in a spec.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::hub::{HubFile, Kind};
use crate::error::Result;
use crate::files::at_home;

/// The default file of a repository on the hub.
const DEFAULT_FILE: &str = "model.safetensors";
/// The valid forms of a source.
pub(super) const EXPECTED: &str =
    "expected `random`, `hub:OWNER/NAME` (perhaps with `/FILE`), or the path of a file of weights";

/// Where weights come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum WeightSource {
    /// `random`: drawn from a distribution.
    Random,
    /// `hub:OWNER/NAME`, or `hub:OWNER/NAME/FILE`.
    Hub {
        /// Owner and name on the hub.
        repository: String,
        /// Path of the file in it.
        file: String,
    },
    /// A safetensors file or one written by `torch.save`, whatever its name.
    File(PathBuf),
}

impl WeightSource {
    /// The local file, downloaded if it is not in the cache; `None` for random weights.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] if the program was built without the hub or is offline; [`crate::Error::Download`].
    pub fn fetch(&self) -> Result<Option<PathBuf>> {
        match self {
            WeightSource::Random => Ok(None),
            WeightSource::File(path) => Ok(Some(path.clone())),
            WeightSource::Hub { repository, file } => {
                let wanted = HubFile { kind: Kind::Model, repository: repository.clone(), name: file.clone() };
                let otherwise = format!("without the hub, put {file} of {repository} somewhere and name its path");
                wanted.fetch(&format!("weights `{self}`"), &otherwise).map(Some)
            }
        }
    }
}

impl FromStr for WeightSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "random" {
            return Ok(WeightSource::Random);
        }
        let Some(place) = text.strip_prefix("hub:") else {
            return if text.is_empty() { Err(EXPECTED.into()) } else { Ok(WeightSource::File(at_home(text))) };
        };
        // They become part of a URL and of a path in the cache.
        let is_plain = |part: &str| {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
            !part.is_empty() && !part.starts_with('.') && !part.contains("--") && part.bytes().all(known)
        };
        let parts: Vec<&str> = place.split('/').collect();
        match parts.as_slice() {
            [owner, name, file @ ..] if parts.iter().all(|part| is_plain(part)) => {
                let file = if file.is_empty() { DEFAULT_FILE.to_owned() } else { file.join("/") };
                Ok(WeightSource::Hub { repository: format!("{owner}/{name}"), file })
            }
            _ => Err(EXPECTED.into()),
        }
    }
}

impl fmt::Display for WeightSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WeightSource::Random => write!(f, "random"),
            WeightSource::Hub { repository, file } if file == DEFAULT_FILE => write!(f, "hub:{repository}"),
            WeightSource::Hub { repository, file } => write!(f, "hub:{repository}/{file}"),
            WeightSource::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl TryFrom<String> for WeightSource {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<WeightSource> for String {
    fn from(source: WeightSource) -> String {
        source.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_parsed_and_printed() {
        let hub = |repository: &str, file: &str| WeightSource::Hub { repository: repository.into(), file: file.into() };
        for (text, source) in [
            ("random", WeightSource::Random),
            ("hub:timm/resnet18.tv_in1k", hub("timm/resnet18.tv_in1k", "model.safetensors")),
            ("hub:a/b/c/d.pth", hub("a/b", "c/d.pth")),
            ("../weights/resnet152-394f9c45.pth", WeightSource::File("../weights/resnet152-394f9c45.pth".into())),
            ("/w/m.safetensors", WeightSource::File("/w/m.safetensors".into())),
            ("model_best.pth.tar", WeightSource::File("model_best.pth.tar".into())),
            ("hub:a/b/pytorch_model.bin", hub("a/b", "pytorch_model.bin")),
        ] {
            assert_eq!(text.parse(), Ok(source.clone()));
            assert_eq!(source.to_string(), text);
        }
        assert_eq!("hub:a/b/model.safetensors".parse(), Ok(hub("a/b", "model.safetensors")));
        for bad in [
            "",
            "hub:",
            "hub:timm",
            "hub:timm/",
            "hub:../b",
            "hub:a/../c.pth",
            "hub:a/b/../c.pth",
            "hub:a/b//c.pth",
            "hub:a/b?x/c.pth",
            "hub:a--b/c",
        ] {
            let error = bad.parse::<WeightSource>().unwrap_err();
            assert!(error.contains("hub:OWNER/NAME"), "{bad}: {error}");
        }
    }

    #[test]
    #[cfg(not(feature = "hub"))]
    fn without_the_hub_the_message_says_what_to_do() {
        let error = "hub:timm/resnet18.tv_in1k".parse::<WeightSource>().unwrap().fetch().unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let error = error.to_string();
        for expected in
            ["weights `hub:timm/resnet18.tv_in1k`", "default features", "put model.safetensors of timm/resnet18"]
        {
            assert!(error.contains(expected), "should say {expected:?}: {error}");
        }
    }
}
