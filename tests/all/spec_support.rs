//! What the tests of the spec share: a folder of files, and tasks of every interface.

use std::path::PathBuf;

use ccdni::Problem;
use ccdni::data::Dataset;
use ccdni::plugins::Plugin;
use ccdni::spec::task_shape::{First, Input, Target, TargetKind, TaskShape, When};
use ccdni::spec::{Request, Resolved, resolve};
use ccdni::tasks::{Registry, Task};
use ccdni::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Classes at the last step of sequences of one length.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Digits {
    /// Steps.
    #[schemars(range(min = 2))]
    pub steps: Option<usize>,
    /// Standard deviation of the noise.
    #[schemars(range(min = 0.0))]
    pub noise: f64,
}

impl Plugin for Digits {
    const KIND: &'static str = "digits";
    const ABOUT: &'static str = "a class at the last step";

    fn check(&self) -> Vec<Problem> {
        let odd = self.steps.is_some_and(|steps| steps % 2 == 1);
        Vec::from_iter(odd.then(|| Problem::new("steps", "expected an even number").help("add one")))
    }
}

impl Task for Digits {
    fn shape(&self) -> TaskShape {
        TaskShape {
            input: Input::Dense { features: 28 },
            target: Target { kind: TargetKind::Classes { count: 10 }, when: When::LastStep },
            steps: Some(self.steps.unwrap_or(28)),
            validates: true,
        }
    }

    fn open(&self, _: u64) -> Result<Box<dyn Dataset>> {
        Err(Error::Usage("these tests open no data".into()))
    }
}

/// A token at every step of sequences that vary in length.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Words {}

impl Plugin for Words {
    const KIND: &'static str = "words";
    const ABOUT: &'static str = "the next token";
}

impl Task for Words {
    fn shape(&self) -> TaskShape {
        TaskShape {
            input: Input::Tokens { vocabulary: 100, first: First::Feature },
            target: Target { kind: TargetKind::Classes { count: 100 }, when: When::EveryStep },
            steps: None,
            validates: true,
        }
    }

    fn open(&self, _: u64) -> Result<Box<dyn Dataset>> {
        Err(Error::Usage("these tests open no data".into()))
    }
}

/// A spec that is complete, for [`Folder::resolve`] to lay others over.
pub const BASE: &str = "\
task: {kind: digits}
model: {layers: [{cell: lstm, hidden: 10, dni: {hidden: [20]}}]}
train: {epochs: 10, batch_size: 5}
";

/// Spec files that live as long as a test.
pub struct Folder(tempfile::TempDir);

#[allow(dead_code)] // each test program uses its own share of these
impl Folder {
    /// A folder with these files.
    pub fn new(files: &[(&str, &str)]) -> Self {
        let folder = Folder(tempfile::tempdir().unwrap());
        for (name, text) in files {
            let path = folder.path(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Resolves one of its files with `--set` flags and environment variables.
    pub fn resolve(&self, name: &str, set: &[&str], env: &[(&str, &str)]) -> Result<Resolved> {
        let request = Request {
            file: self.path(name),
            set: set.iter().map(ToString::to_string).collect(),
            env: env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        };
        resolve(&request, &registry())
    }
}

/// Digits and words.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.register_task::<Digits>();
    registry.register_task::<Words>();
    registry
}

/// Resolves [`BASE`] with flags.
#[allow(dead_code)]
pub fn base(set: &[&str]) -> Result<Resolved> {
    Folder::new(&[("s.yaml", BASE)]).resolve("s.yaml", set, &[])
}

/// The problems of a spec that must not resolve.
#[allow(dead_code)]
pub fn problems(result: Result<Resolved>) -> Vec<Problem> {
    match result {
        Err(Error::Spec(problems)) => problems.0,
        Err(error) => panic!("not a problem of the spec: {error}"),
        Ok(resolved) => panic!("resolved to {}", resolved.canonical),
    }
}
