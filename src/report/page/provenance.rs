//! Where the numbers of a report come from: which program, which machine, which data.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::Run;
use super::html::{code, escape};
use super::runs::Read;

/// The part of `manifest.json` that says where numbers come from.
pub struct Manifest {
    created: String,
    /// Everything else that is the same for runs of one origin, as fields and values.
    origin: Vec<(String, Vec<String>)>,
    commit: Option<String>,
}

/// The part of `unit.json` that says where a unit was trained. What is not there is empty.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct UnitFile {
    pub seed: u64,
    pub seconds: Option<f64>,
    pub device: String,
    pub host: String,
    pub started: String,
    pub ended: String,
    pub notes: Vec<String>,
}

impl UnitFile {
    /// Reads the file of a seed; one that has been checked as far as results go.
    pub fn read(run: &Path, seed: u64) -> Self {
        let path = run.join("seeds").join(seed.to_string()).join("unit.json");
        let read = std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        UnitFile { seed, ..read.unwrap_or_default() }
    }
}

impl Manifest {
    /// Reads the manifest of a run; `None` where it is missing or damaged, which the page then says.
    pub fn read(run: &Path) -> Option<Self> {
        let value: Value = serde_json::from_slice(&std::fs::read(run.join("manifest.json")).ok()?).ok()?;
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let program = &value["program"];
        let mut version = format!(
            "ccdni {} (numerics {}, {})",
            text(&program["version"]),
            text(&program["numerics"]),
            text(&program["target"])
        );
        let features: Vec<String> = program["features"].as_array().into_iter().flatten().map(text).collect();
        if !features.is_empty() {
            version += &format!(" with {}", features.join(", "));
        }
        if program["debug"] == true {
            version += ", built without optimisation";
        }
        let commit = value["git"]["commit"].as_str().map(str::to_owned);
        let dirty = if value["git"]["dirty"] == true { ", with changes that were not committed" } else { "" };
        let git = commit.iter().map(|commit| format!("{}{dirty}", code(commit))).collect();
        let pairs = |table: &Value, sign: &str| {
            let pairs = table.as_object().into_iter().flatten();
            pairs.map(|(name, value)| code(&format!("{name}{sign}{}", text(value)))).collect::<Vec<_>>()
        };
        let origin = vec![
            ("program".to_owned(), vec![escape(&version)]),
            ("git commit".into(), git),
            ("host".into(), vec![escape(&text(&value["host"]))]),
            ("instruction set".into(), vec![code(&text(&value["instruction_set"]))]),
            ("threads a unit".into(), vec![escape(&text(&value["threads"]))]),
            ("environment".into(), pairs(&value["environment"], "=")),
            ("data (BLAKE3)".into(), pairs(&value["data"], ": ")),
        ];
        let created = text(&value["created"]);
        Some(Manifest { created, origin, commit })
    }

    /// The commit of the repository that the run was begun in.
    pub fn commit(&self) -> Option<&str> {
        self.commit.as_deref()
    }
}

/// Runs of one origin are told together.
pub fn section(runs: &[Run], read: &[Read]) -> String {
    type Group<'a> = (&'a [(String, Vec<String>)], Vec<(&'a str, &'a str)>);
    let mut groups: Vec<Group> = Vec::new();
    let mut without: Vec<&str> = Vec::new();
    for (run, read) in runs.iter().zip(read) {
        let Some(manifest) = &read.manifest else {
            without.push(&run.hash);
            continue;
        };
        let member = (run.hash.as_str(), manifest.created.as_str());
        match groups.iter_mut().find(|(origin, _)| *origin == manifest.origin.as_slice()) {
            Some((_, members)) => members.push(member),
            None => groups.push((&manifest.origin, vec![member])),
        }
    }
    let mut html = String::from("<h2>Provenance</h2>\n");
    for (origin, members) in groups {
        html += "<dl>\n";
        let links: Vec<String> =
            members.iter().map(|(hash, _)| format!("<a href=\"#{0}\"><code>{0}</code></a>", escape(hash))).collect();
        let times = || members.iter().map(|(_, created)| *created);
        let (first, last) = (times().min().unwrap_or_default(), times().max().unwrap_or_default());
        let created = if first == last { escape(first) } else { format!("{} to {}", escape(first), escape(last)) };
        let mut field = |name: &str, value: &str| html += &format!("<dt>{}</dt><dd>{value}</dd>\n", escape(name));
        field(if members.len() == 1 { "run" } else { "runs" }, &links.join(" "));
        field("created", &created);
        for (name, values) in origin.iter().filter(|(_, values)| !values.is_empty()) {
            field(name, &values.join("<br>"));
        }
        html += "</dl>\n";
    }
    if !without.is_empty() {
        let hashes: Vec<String> = without.into_iter().map(code).collect();
        html += &format!("<p class=\"faint\">Without a manifest, so not begun: {}</p>\n", hashes.join(" "));
    }
    html
}
