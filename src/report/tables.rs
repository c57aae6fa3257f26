//! `metrics.csv` and `results.csv`: every epoch of every seed, and one row per seed.

use super::units::FinishedSeed;

/// The rows of all units below one header, with cells copied verbatim.
pub(super) fn metrics(units: &[FinishedSeed]) -> String {
    let header = units.iter().take(1).map(|unit| unit.table.header.clone());
    let rows = units.iter().flat_map(|unit| &unit.table.rows);
    write(header.chain(rows.map(|row| row.iter().map(str::to_owned).collect())))
}

/// `results.csv`, header included.
pub(super) fn results(units: &[FinishedSeed]) -> String {
    write(result_rows(units).into_iter())
}

/// One row per seed after the header: epochs, the last epoch's losses and metrics, the best epoch's metrics, the test
/// metrics, the caption scores.
///
/// A value missing from a unit (no test, no validation) is an empty cell; one missing from all units has no column.
pub(super) fn result_rows(units: &[FinishedSeed]) -> Vec<Vec<String>> {
    let Some(first) = units.first() else { return Vec::new() };
    let validation: Vec<&String> = first.table.header.iter().filter(|name| name.starts_with("val_")).collect();
    let is_tested = units.iter().any(|unit| !unit.result.test.is_empty());
    let tested = if is_tested { first.result.metrics.as_slice() } else { &[] };

    let mut header: Vec<String> =
        ["seed", "epochs", "best_epoch", "kept_epoch", "train_loss", "train_loss_original"].map(str::to_owned).into();
    header.extend(validation.iter().map(|name| (*name).clone()));
    header.extend(validation.iter().map(|name| format!("best_{name}")));
    header.extend(tested.iter().map(|metric| format!("test_{}", metric.name)));
    header.extend(first.result.scores.iter().map(|(name, _)| name.clone()));

    let row = |unit: &FinishedSeed| {
        let FinishedSeed { seed, result, table, .. } = unit;
        let last = |name: &str| number(table.column(name).last().copied());
        // JSON has no NaN: it is stored as `null`.
        let test = |index: usize| result.test.get(index).map(|value| value.unwrap_or(f64::NAN));
        let score = |name: &String| result.scores.iter().find(|(other, _)| other == name).map(|(_, value)| *value);
        let mut row = vec![seed.to_string()];
        row.extend([table.rows.len(), result.best_epoch, result.kept_epoch].map(|whole| whole.to_string()));
        row.extend([last("train_loss"), last("train_loss_original")]);
        row.extend(validation.iter().map(|name| last(name)));
        row.extend(validation.iter().map(|name| number(table.at(name, result.best_epoch))));
        row.extend((0..tested.len()).map(|index| number(test(index))));
        row.extend(first.result.scores.iter().map(|(name, _)| number(score(name))));
        row
    };
    std::iter::once(header).chain(units.iter().map(row)).collect()
}

fn number(value: Option<f64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// Rows as CSV.
pub(super) fn write(rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        // Writing rows of equal length into memory cannot fail.
        let _ = writer.write_record(row);
    }
    String::from_utf8(writer.into_inner().unwrap_or_default()).unwrap_or_default()
}
