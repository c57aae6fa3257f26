//! The layers of a spec (defaults, files, environment, flags), each a figment provider with its origin.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use figment::value::{Dict, Map, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider, Source};
use serde_json::Value as Json;

use super::Request;
use super::forms::order;
use super::locate::Positions;
use super::merge::Merge;
use super::yaml::{self, line, parse};
use crate::error::Problem;
use crate::files::at_home;

/// Prefix of environment variables that set spec keys.
pub const ENV_PREFIX: &str = "CCDNI__";

/// Blocks in a file besides the spec. They are not merged key by key: the strongest file with a block defines all of it, and
/// `null` removes it.
pub(super) const BLOCKS: [&str; 5] = ["sweep", "figure", "launcher", "claims", "quick"];

/// Prefix of top-level keys that are ignored, and not hashed.
pub(super) const FOR_PEOPLE: &str = "x-";

/// Upper limit of a spec file's size: a path such as `/dev/zero` has no end.
const LARGEST_FILE: u64 = 1 << 20;

/// Most files of a spec: files that each extend the next one twice would be read 2^n times.
const MOST_FILES: usize = 256;

/// Most bytes of a word for which a similar one is looked for, which takes time and memory with its length.
const LONGEST_WORD: usize = 100;

/// Most levels of a path.
const DEEPEST: usize = 32;

/// One layer. All are kept in one [`Figment`], each under its own profile, so that figment keeps their values and origins while
/// [`Merge`] merges them by the rules of a spec.
struct Layer {
    profile: Profile,
    metadata: Metadata,
    data: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        self.metadata.clone()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(self.profile.clone(), self.data.clone())]))
    }
}

/// All layers of a request, weakest first.
#[derive(Default, Clone)]
pub(super) struct Layers {
    figment: Figment,
    profiles: Vec<Profile>,
    /// Number of profiles, blocks included.
    kept: usize,
    /// Paths set by variables and flags, with their origins.
    pub assigned: Vec<(String, String)>,
    positions: Arc<BTreeMap<PathBuf, Positions>>,
    /// The profile of the effective block of each name.
    blocks: BTreeMap<&'static str, Profile>,
    /// Paths removed by a `null`, with the tag of its layer.
    removed: BTreeMap<String, Tag>,
    /// Problems with the layers themselves.
    pub problems: Vec<Problem>,
    /// Whether a file could not be read, so that its values are unknown.
    pub incomplete: bool,
    /// Number of files read.
    files: usize,
}

impl Layers {
    /// Reads the defaults and every layer of a request.
    pub fn read(request: &Request, defaults: Dict) -> Self {
        let mut layers = Layers::default();
        layers.push(Metadata::named("defaults"), defaults);
        layers.file(&request.file, None, &mut Vec::new());
        layers.environment(&request.env);
        for flag in &request.set {
            layers.flag(flag);
        }
        layers
    }

    /// Merges the layers of a value with this schema.
    pub fn merge(&mut self, schema: &Json) -> Value {
        let mut data = self.figment.data().unwrap_or_default();
        let mut layers = self.profiles.iter().map(|profile| Value::from(data.remove(profile).unwrap_or_default()));
        let defaults = layers.next().unwrap_or_else(|| Dict::new().into());
        let mut merge = Merge::new(schema, &defaults);
        let merged = layers.fold(defaults.clone(), |base, over| merge.layer(base, over));
        for (mut problem, tag) in merge.problems {
            problem.origin = self.place(tag, &problem.key);
            self.problems.push(problem);
        }
        self.removed = merge.removed;
        merged
    }

    /// The layer whose `null` removed this path, or its innermost removed ancestor.
    pub fn remover(&self, path: &str) -> Option<Tag> {
        let around = path.rmatch_indices('.').map(|(end, _)| &path[..end]);
        std::iter::once(path).chain(around).find_map(|path| self.removed.get(path).copied())
    }

    /// Where the value with this tag and path was set: `file:line:column`, a variable or a flag; `None` for a default.
    pub fn place(&self, tag: Tag, path: &str) -> Option<String> {
        match self.figment.get_metadata(tag)?.source.as_ref()? {
            Source::File(file) => Some(match self.positions.get(file).and_then(|positions| positions.find(path)) {
                Some((line, column)) => format!("{}:{line}:{column}", file.display()),
                None => file.display().to_string(),
            }),
            Source::Custom(name) => Some(name.clone()),
            _ => None,
        }
    }

    fn push(&mut self, metadata: Metadata, data: Dict) {
        let profile = self.keep(metadata, data);
        self.profiles.push(profile);
    }

    /// Stores values with their origin in the figment, under a new profile.
    fn keep(&mut self, metadata: Metadata, data: Dict) -> Profile {
        let profile = Profile::from(format!("layer {}", self.kept));
        self.kept += 1;
        self.figment = std::mem::take(&mut self.figment).merge(Layer { profile: profile.clone(), metadata, data });
        profile
    }

    /// The blocks besides the spec, by name.
    pub fn blocks(&self) -> Dict {
        let mut data = self.figment.data().unwrap_or_default();
        self.blocks.values().filter_map(|profile| data.remove(profile)).flatten().collect()
    }

    /// Whether a file has this block.
    pub fn has_block(&self, name: &str) -> bool {
        self.blocks.contains_key(name)
    }

    /// Adds a layer with one value at a path; `origin` is where it was set.
    pub fn lay(&mut self, origin: &str, path: &str, value: Value) {
        if path.split('.').count() > DEEPEST {
            // No key is so deep, and tables within tables are visited recursively.
            let begin = path.split('.').take(DEEPEST).collect::<Vec<_>>().join(".");
            let problem = Problem::new(begin, format!("begins a key of more than {DEEPEST} levels"));
            self.problems.push(Problem { origin: Some(origin.to_owned()), ..problem });
            return;
        }
        let nested = path.rsplit('.').fold(value, |value, key| Dict::from([(key.to_owned(), value)]).into());
        if let Value::Dict(_, data) = nested {
            self.push(Metadata::from("assignment", Source::Custom(origin.to_owned())), data);
        }
    }

    /// Reads a file after those that it extends. `on_failure` is the problem to report if the file cannot be read, with the place
    /// that names it.
    fn file(&mut self, path: &Path, on_failure: Option<Problem>, open: &mut Vec<PathBuf>) {
        self.files += 1;
        let read = match self.files {
            // The problem is reported once.
            files if files > MOST_FILES + 1 => return,
            files if files > MOST_FILES => Err(format!("with what it extends there are more than {MOST_FILES} files")),
            _ => read(path),
        };
        let text = match read {
            Ok(text) => text,
            Err(why) => {
                self.incomplete = true;
                let mut problem = on_failure.unwrap_or_else(|| Problem::new("", ""));
                problem.message = format!("cannot read the spec `{}`: {why}", path.display());
                problem.help = nearest_file(path)
                    .or(problem.help)
                    .or_else(|| Some("name a YAML file, such as `experiments/linedraw_dni.yaml`".into()));
                self.problems.push(problem);
                return;
            }
        };
        let identity = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        if open.contains(&identity) {
            self.incomplete = true;
            let mut problem = on_failure.unwrap_or_else(|| Problem::new("", ""));
            problem.message = "`extends` goes round in a circle: this file is being read already".into();
            problem.help = Some("let one of the files stand on its own, or move what they share into a third".into());
            self.problems.push(problem);
            return;
        }
        let mut table = match parse(&text) {
            Ok(Value::Dict(_, table)) => table,
            Ok(Value::Empty(..)) => Dict::new(),
            Ok(other) => {
                self.incomplete = true;
                let mut problem =
                    Problem::new("", format!("a spec is a table of keys, and this is `{}`", line(&other)));
                problem.origin = Some(path.display().to_string());
                self.problems.push(problem.help("begin with lines such as `task:` and `model:`; see `ccdni schema`"));
                return;
            }
            Err(bad) => {
                self.incomplete = true;
                let mut problem = Problem::new("", format!("not valid YAML: {}", bad.message));
                problem.origin = Some(match bad.place {
                    Some((line, column)) => format!("{}:{line}:{column}", path.display()),
                    None => path.display().to_string(),
                });
                self.problems.push(problem.help("check the indentation, brackets and colons around this place"));
                return;
            }
        };
        // Ignored keys, for example anchors that several parts of the spec refer to.
        table.retain(|key, _| !key.starts_with(FOR_PEOPLE));
        Arc::make_mut(&mut self.positions).insert(path.to_path_buf(), Positions::of(&text));
        open.push(identity);
        if let Some(extends) = table.remove("extends") {
            self.extends(path, extends, open);
        }
        open.pop();
        for name in BLOCKS {
            match table.remove(name) {
                None => {}
                Some(Value::Empty(..)) => drop(self.blocks.remove(name)),
                Some(block) => {
                    let profile = self.keep(Metadata::from("file", path), Dict::from([(name.to_owned(), block)]));
                    self.blocks.insert(name, profile);
                }
            }
        }
        self.push(Metadata::from("file", path), table);
    }

    fn extends(&mut self, path: &Path, extends: Value, open: &mut Vec<PathBuf>) {
        let place = |layers: &Self, key: &str| {
            let found = layers.positions.get(path).and_then(|positions| positions.find(key));
            found.map(|(line, column)| format!("{}:{line}:{column}", path.display()))
        };
        let names: Vec<(String, Value)> = match extends {
            Value::Empty(..) => Vec::new(),
            Value::Array(_, items) => {
                items.into_iter().enumerate().map(|(index, item)| (format!("extends.{index}"), item)).collect()
            }
            one => vec![("extends".into(), one)],
        };
        for (key, name) in names {
            let mut problem = Problem::new(key.clone(), "expected the path of a spec file, relative to this one");
            problem.origin = place(self, &key);
            problem.value = Some(line(&name));
            problem.help = Some("paths in `extends` are relative to the file that says them".into());
            match name.as_str().filter(|name| !name.is_empty()) {
                Some(name) => {
                    let file = path.parent().unwrap_or(Path::new("")).join(at_home(name));
                    self.file(&file, Some(problem), open);
                }
                None => {
                    self.incomplete = true;
                    self.problems.push(problem);
                }
            }
        }
    }

    fn environment(&mut self, variables: &[(String, String)]) {
        // The environment is unordered.
        let mut assigned: BTreeMap<Vec<String>, (&str, &str)> = BTreeMap::new();
        for (name, value) in variables {
            let Some(path) = name.strip_prefix(ENV_PREFIX) else { continue };
            let keys = path.to_lowercase().split("__").map(str::to_owned).collect();
            if let Some((other, _)) = assigned.insert(keys, (name, value)) {
                let problem = Problem::new("", format!("the variables `{other}` and `{name}` name the same key"));
                self.problems.push(problem.help("unset one of them"));
            }
        }
        let mut assigned: Vec<_> = assigned.into_iter().map(|(keys, set)| (keys.join("."), set)).collect();
        assigned.sort_by_key(|(path, _)| order(path));
        for (path, (name, value)) in assigned {
            let grammar = "two underscores stand between levels: `CCDNI__TRAIN__BPTT=5`";
            self.assignment(name, &path, value, grammar);
        }
    }

    fn flag(&mut self, flag: &str) {
        let origin = format!("--set {}", flag.replace('\n', " "));
        match flag.split_once('=') {
            Some((path, value)) => {
                self.assignment(&origin, path.trim(), value, "dots stand between levels: `--set train.bptt=5`");
            }
            None => {
                let mut problem = Problem::new(flag.trim(), "expected `path=value`");
                problem.origin = Some(origin);
                self.problems
                    .push(problem.help("for example `--set train.bptt=5`, or `--set model.layers.0.dni=null`"));
            }
        }
    }

    /// Adds the layer of a variable or a flag.
    fn assignment(&mut self, origin: &str, path: &str, text: &str, grammar: &str) {
        let mut problem = Problem::new(path, "");
        problem.origin = Some(origin.to_owned());
        let keys: Vec<&str> = path.split('.').collect();
        if keys.iter().any(|key| key.is_empty()) {
            problem.message = "a key on the way is empty".into();
            self.problems.push(problem.help(grammar));
            return;
        }
        if keys[0] == "extends" {
            problem.message = "`extends` is for files only".into();
            self.problems.push(problem.help("write a small file that extends others, and run that"));
            return;
        }
        if BLOCKS.contains(&keys[0]) {
            problem.message = format!("`{}` is for files only", keys[0]);
            self.problems
                .push(problem.help("on the command line, `ccdni sweep FILE --grid 'train.bptt=[1, 2]'` makes a grid"));
            return;
        }
        match parse(text) {
            Ok(value) => {
                self.assigned.push((path.to_owned(), origin.to_owned()));
                self.lay(origin, path, value);
            }
            Err(bad) => {
                problem.value = Some(text.to_owned());
                problem.message = format!("the value is not valid YAML: {}", bad.message);
                self.problems.push(problem.help("put the whole assignment in quotes if the shell takes it apart"));
            }
        }
    }
}

/// Reads a text file; the error is a phrase for a message.
fn read(path: &Path) -> Result<String, String> {
    if path.is_dir() {
        return Err("it is a directory".into());
    }
    let file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".into(),
        _ => error.to_string(),
    })?;
    let mut bytes = Vec::new();
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err("it has more than 1 MiB, which is far too large for a spec".into());
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is not a text file (UTF-8)")?;
    // A byte order mark would become part of the first key.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Help for a path that is not a spec: the spec in a directory, or, if nothing has that name, a file with a similar name.
fn nearest_file(path: &Path) -> Option<String> {
    if path.is_dir() {
        let inside = path.join("spec.yaml");
        return inside.is_file().then(|| format!("did you mean `{}`?", inside.display()));
    }
    if path.symlink_metadata().is_ok() {
        return None;
    }
    let folder = path.parent()?;
    let wanted = path.file_name()?.to_str()?;
    let folder_to_list = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let names =
        std::fs::read_dir(folder_to_list).ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let names: Vec<String> = names.filter(|name| name.ends_with(".yaml") || name.ends_with(".yml")).collect();
    let nearest = nearest(wanted, names.iter().map(String::as_str))?;
    Some(format!("did you mean `{}`?", folder.join(nearest).display()))
}

/// The candidate most similar to `written`, if any is similar enough.
pub(crate) fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if written.len() > LONGEST_WORD {
        return None;
    }
    let candidates: Vec<&str> = candidates.into_iter().collect();
    let edits = |candidate: &str| strsim::damerau_levenshtein(written, candidate);
    let fewest = candidates.iter().copied().min_by_key(|candidate| edits(candidate))?;
    let alike = candidates.iter().copied().map(|candidate| (strsim::jaro_winkler(written, candidate), candidate));
    let best = alike.max_by(|a, b| a.0.total_cmp(&b.0))?;
    match (edits(fewest), written.chars().count()) {
        // One edit; swapping two letters counts as one.
        (0..=1, 3..) => Some(fewest),
        _ if best.0 > 0.75 => Some(best.1),
        (2, 4..) => Some(fewest),
        _ => None,
    }
}

/// The layer of the defaults: those in the schema, for keys outside of lists.
pub(super) fn defaults(schema: &Json) -> Dict {
    let mut table = Dict::new();
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let value = match property.get("default") {
            Some(default) => yaml::parse(&default.to_string()).unwrap_or_else(|_| Dict::new().into()),
            // Required tables only: an optional one is absent by default, even if its keys have defaults.
            None if property["type"] == "object" => defaults(property).into(),
            None => continue,
        };
        table.insert(key.clone(), value);
    }
    table
}
