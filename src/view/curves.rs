//! The learning curves of a run's seeds, also of those in training.

use serde_json::{Map, Value, json};

use super::summary::Summary;
use crate::report::units::read_table;
use crate::run::directory::Directory;

/// Columns that are no curves.
const INDEX: [&str; 2] = ["seed", "epoch"];

/// The columns of `metrics.csv` of every seed, or of these (`1,4`); a seed without a readable table has none.
pub fn of(run: &Directory, summary: &Summary, seeds: Option<&str>) -> Value {
    let wanted: Option<Vec<u64>> = seeds.map(|text| text.split(',').filter_map(|seed| seed.parse().ok()).collect());
    let wanted = |seed: &u64| wanted.as_ref().is_none_or(|wanted| wanted.contains(seed));
    let mut columns: Vec<String> = Vec::new();
    let mut curves = Map::new();
    for seed in summary.seeds.iter().map(|seed| seed.seed).filter(wanted) {
        let Ok(table) = read_table(&run.unit(seed)) else { continue };
        let mut of_seed = Map::new();
        for name in table.header.iter().filter(|name| name.as_str() != "seed") {
            if !INDEX.contains(&name.as_str()) && !columns.contains(name) {
                columns.push(name.clone());
            }
            // JSON has no NaN: it is null.
            of_seed.insert(name.clone(), json!(table.column(name)));
        }
        curves.insert(seed.to_string(), of_seed.into());
    }
    json!({ "columns": columns, "seeds": curves })
}
