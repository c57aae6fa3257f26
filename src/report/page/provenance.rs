//! Provenance of a report's numbers: program, machine and data.

use std::collections::BTreeMap;

use super::html::{code, escape};
use crate::records::Manifest;

/// Fields and their values, as HTML.
type Fields = Vec<(&'static str, Vec<String>)>;

/// The fields that are equal for runs of one origin.
fn origin(manifest: &Manifest) -> Fields {
    let git = manifest.git.iter().map(|git| {
        let dirty = if git.dirty { ", with changes that were not committed" } else { "" };
        format!("{}{dirty}", code(&git.commit))
    });
    let pairs = |table: &BTreeMap<String, String>, sign: &str| {
        table.iter().map(|(name, value)| code(&format!("{name}{sign}{value}"))).collect::<Vec<_>>()
    };
    vec![
        ("program", vec![escape(&manifest.program.to_string())]),
        ("git commit", git.collect()),
        ("host", vec![escape(&manifest.host)]),
        ("instruction set", vec![code(&manifest.instruction_set)]),
        ("threads per unit", vec![manifest.threads.to_string()]),
        ("environment", pairs(&manifest.environment, "=")),
        ("data (BLAKE3)", pairs(&manifest.data, ": ")),
    ]
}

/// One list per origin, from hashes and manifests of runs; runs whose manifest is missing or damaged are named.
pub fn section<'a>(runs: impl Iterator<Item = (&'a str, Option<&'a Manifest>)>) -> String {
    let mut groups: Vec<(Fields, Vec<(&str, &str)>)> = Vec::new();
    let mut without: Vec<&str> = Vec::new();
    for (hash, manifest) in runs {
        let Some(manifest) = manifest else {
            without.push(hash);
            continue;
        };
        let (origin, member) = (origin(manifest), (hash, manifest.created.as_str()));
        match groups.iter_mut().find(|(other, _)| *other == origin) {
            Some((_, members)) => members.push(member),
            None => groups.push((origin, vec![member])),
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
