//! Learning curves in a page: the numbers as JSON, and the script of the live pages, which draws them.

use serde_json::{Map, Value, json};

use super::html::escape;
use crate::report::units::FinishedSeed;
use crate::spec::Spec;

/// The style of charts.
pub const STYLE: &str = include_str!("assets/chart.css");

/// The modules that draw, each after those that it imports.
const MODULES: [&str; 4] = [
    include_str!("assets/dom.js"),
    include_str!("assets/format.js"),
    include_str!("assets/chart.js"),
    include_str!("assets/curves.js"),
];

/// Draws the curves of a run when its section is opened.
const START: &str = "
for (const place of document.querySelectorAll('details.curves-of')) {
  place.addEventListener('toggle', () => {
    const { columns, seeds, events } = JSON.parse(place.querySelector('script').textContent);
    const lines = [{ label: place.dataset.run, style: { color: 'c1', dash: null }, events, curves: seeds }];
    place.append(new Curves(lines, columns).element);
  }, { once: true });
}
";

/// The modules as one script: what they import from each other is there already.
pub fn script() -> String {
    let line = |line: &str| match line.strip_prefix("export ") {
        Some(rest) => format!("{rest}\n"),
        None if line.starts_with("import ") => String::new(),
        None => format!("{line}\n"),
    };
    let modules: String = MODULES.iter().flat_map(|module| module.lines()).map(line).collect();
    format!("<script type=\"module\">\n{modules}{START}</script>\n")
}

/// The section of a run's learning curves.
pub fn curves(hash: &str, spec: &Spec, units: &[FinishedSeed]) -> String {
    let columns: Vec<&str> = units.first().map_or_else(Vec::new, |unit| {
        unit.table.header.iter().map(String::as_str).filter(|name| !["seed", "epoch"].contains(name)).collect()
    });
    let of_seed = |unit: &FinishedSeed| {
        let column = |name: &&str| ((*name).to_owned(), json!(unit.table.column(name)));
        let values: Map<String, Value> = ["epoch"].iter().chain(&columns).map(column).collect();
        (unit.seed.to_string(), Value::Object(values))
    };
    let seeds: Map<String, Value> = units.iter().map(of_seed).collect();
    let dnis = spec.model.layers.iter().filter_map(|layer| layer.dni.as_ref());
    let events: Vec<usize> = dnis.flat_map(|dni| dni.lesion_at.into_iter().chain(dni.freeze_at)).collect();
    // No text in a script may look like its end.
    let data = json!({ "columns": columns, "seeds": seeds, "events": events }).to_string().replace('<', "\\u003c");
    format!(
        "<details class=\"curves-of\" data-run=\"{0}\"><summary>Learning curves</summary>\n<noscript><p>The curves need \
         JavaScript; <code>plots/learning.svg</code> in the run's directory has them, too.</p></noscript>\n\
         <script type=\"application/json\">{data}</script>\n</details>\n",
        escape(hash)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_whole_without_its_imports() {
        let script = script();
        assert!(
            script.contains("class Chart {")
                && script.contains("class Curves {")
                && script.contains("function number(")
        );
        assert!(!script.contains("\nimport ") && !script.contains("\nexport "));
        assert_eq!(script.matches("</script").count(), 1);
    }
}
