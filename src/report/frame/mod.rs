//! A table with typed columns, as pandas, polars and R have it, and its file formats.

#[cfg(feature = "hub")]
mod parquet;

use std::sync::Arc;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::Value;

use super::tables;
use crate::spec::whole_line;

/// Columns of equal length.
#[derive(Debug, Default)]
pub struct DataFrame {
    pub(super) columns: Vec<Column>,
}

/// A named column.
#[derive(Debug)]
pub(super) struct Column {
    pub name: String,
    pub values: Values,
}

/// The values of a column; `None` where a row has none.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Values {
    Bool(Vec<Option<bool>>),
    Int(Vec<Option<i64>>),
    Float(Vec<Option<f64>>),
    Text(Vec<Option<Arc<str>>>),
}

/// One value. JSON has no NaN and no infinity: they become null.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Cell<'a> {
    Bool(Option<bool>),
    Int(Option<i64>),
    Float(Option<f64>),
    Text(Option<&'a str>),
}

impl DataFrame {
    /// Appends a column.
    pub(super) fn push(&mut self, name: impl Into<String>, values: Values) {
        self.columns.push(Column { name: name.into(), values });
    }

    /// Every row `counts[row]` times.
    pub(super) fn repeat(&self, counts: &[usize]) -> DataFrame {
        let column = |column: &Column| Column { name: column.name.clone(), values: column.values.repeat(counts) };
        DataFrame { columns: self.columns.iter().map(column).collect() }
    }

    fn rows(&self) -> usize {
        self.columns.first().map_or(0, |column| column.values.len())
    }

    /// The table as CSV with a header. A missing value is an empty cell, NaN is `NaN`.
    pub fn csv(&self) -> String {
        let header = self.columns.iter().map(|column| column.name.clone()).collect();
        let row = |row| self.columns.iter().map(|column| column.values.cell(row).to_string()).collect();
        tables::write(std::iter::once(header).chain((0..self.rows()).map(row)))
    }

    /// The table as a JSON array of objects, one a line. Missing values, NaN and infinities are null.
    pub fn json(&self) -> String {
        let record = |row| serde_json::to_string(&Record { frame: self, row }).unwrap_or_default();
        let records: Vec<String> = (0..self.rows()).map(record).collect();
        format!("[{}]\n", records.join(",\n "))
    }
}

/// A row as an object.
struct Record<'a> {
    frame: &'a DataFrame,
    row: usize,
}

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.frame.columns.len()))?;
        for Column { name, values } in &self.frame.columns {
            map.serialize_entry(name, &values.cell(self.row))?;
        }
        map.end()
    }
}

impl Values {
    /// JSON values in the narrowest type that holds them all, larger integers as text; `null` is no value, a list or table is
    /// YAML on one line.
    pub fn of(values: &[Value]) -> Self {
        let all = |is: fn(&Value) -> bool| values.iter().all(|value| value.is_null() || is(value));
        let text = |value: &Value| match value {
            Value::Null => None,
            Value::String(text) => Some(text.as_str().into()),
            value => Some(whole_line(value).into()),
        };
        if all(Value::is_boolean) {
            Values::Bool(values.iter().map(Value::as_bool).collect())
        } else if all(Value::is_i64) {
            Values::Int(values.iter().map(Value::as_i64).collect())
        } else if all(|value| value.is_i64() || value.is_f64()) {
            Values::Float(values.iter().map(Value::as_f64).collect())
        } else {
            Values::Text(values.iter().map(text).collect())
        }
    }

    fn repeat(&self, counts: &[usize]) -> Self {
        fn each<T: Clone>(values: &[T], counts: &[usize]) -> Vec<T> {
            values.iter().zip(counts).flat_map(|(value, &count)| std::iter::repeat_n(value.clone(), count)).collect()
        }
        match self {
            Values::Bool(values) => Values::Bool(each(values, counts)),
            Values::Int(values) => Values::Int(each(values, counts)),
            Values::Float(values) => Values::Float(each(values, counts)),
            Values::Text(values) => Values::Text(each(values, counts)),
        }
    }

    fn len(&self) -> usize {
        match self {
            Values::Bool(values) => values.len(),
            Values::Int(values) => values.len(),
            Values::Float(values) => values.len(),
            Values::Text(values) => values.len(),
        }
    }

    fn cell(&self, row: usize) -> Cell<'_> {
        match self {
            Values::Bool(values) => Cell::Bool(values[row]),
            Values::Int(values) => Cell::Int(values[row]),
            Values::Float(values) => Cell::Float(values[row]),
            Values::Text(values) => Cell::Text(values[row].as_deref()),
        }
    }
}

impl std::fmt::Display for Cell<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Cell::Bool(Some(value)) => write!(f, "{value}"),
            Cell::Int(Some(value)) => write!(f, "{value}"),
            Cell::Float(Some(value)) => write!(f, "{value}"),
            Cell::Text(Some(value)) => f.write_str(value),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A column of every type, with a missing value in each.
    pub(super) fn every_type() -> DataFrame {
        let mut frame = DataFrame::default();
        frame.push("flag", Values::of(&[json!(true), json!(null), json!(false)]));
        frame.push("count", Values::of(&[json!(null), json!(-3), json!(4)]));
        frame.push("value", Values::Float(vec![Some(f64::NAN), Some(0.1), None]));
        frame.push("a.text", Values::of(&[json!("a, \"b\""), json!([1, 2]), json!(null)]));
        frame
    }

    #[test]
    fn csv_quotes_what_needs_it_and_tells_missing_from_nan() {
        let expected = "flag,count,value,a.text\ntrue,,NaN,\"a, \"\"b\"\"\"\n,-3,0.1,\"[1,2]\"\nfalse,4,,\n";
        assert_eq!(every_type().csv(), expected);
    }

    #[test]
    fn json_is_an_array_of_records_with_columns_in_order() {
        let text = every_type().json();
        let first = r#"[{"flag":true,"count":null,"value":null,"a.text":"a, \"b\""},"#;
        assert_eq!(text.lines().next(), Some(first));
        let records: Vec<Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(records[1], json!({"flag": null, "count": -3, "value": 0.1, "a.text": "[1,2]"}));
        assert_eq!(DataFrame::default().json(), "[]\n");
    }

    #[test]
    fn a_column_has_the_narrowest_type_that_holds_all_its_values() {
        assert_eq!(Values::of(&[json!(1), json!(0.5)]), Values::Float(vec![Some(1.0), Some(0.5)]));
        let seeds = Values::of(&[json!(1), json!(u64::MAX)]);
        assert_eq!(seeds, Values::Text(vec![Some("1".into()), Some("18446744073709551615".into())]));
        let long = json!([{"cell": "lstm", "hidden": 6, "init": "xavier", "init_scale": 0.5, "dropout": 0.25}]);
        assert_eq!(Values::of(std::slice::from_ref(&long)), Values::Text(vec![Some(long.to_string().into())]));
        let mixed = Values::of(&[json!(1), json!("20%"), json!(u64::MAX)]);
        assert_eq!(
            mixed,
            Values::Text(vec![Some("1".into()), Some("20%".into()), Some("18446744073709551615".into())])
        );
    }
}
