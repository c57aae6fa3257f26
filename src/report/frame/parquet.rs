//! Parquet: one row group, compressed with snappy, every column optional.

use std::sync::Arc;

use ::parquet::basic::{Compression, LogicalType, Repetition, Type as PhysicalType};
use ::parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use ::parquet::errors::Result;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use ::parquet::schema::types::{Type, TypePtr};

use super::{Column, DataFrame, Values};
use crate::error::Error;

impl DataFrame {
    /// The table as a Parquet file: booleans, 64-bit integers, doubles and strings.
    ///
    /// # Errors
    /// [`Error::Usage`] for a table beyond the format's limits.
    pub fn parquet(&self) -> crate::error::Result<Vec<u8>> {
        let refused = |error| Error::Usage(format!("the table cannot be written as Parquet: {error}"));
        self.try_parquet().map_err(refused)
    }

    fn try_parquet(&self) -> Result<Vec<u8>> {
        let fields = self.columns.iter().map(field).collect::<Result<_>>()?;
        let schema = Arc::new(Type::group_type_builder("schema").with_fields(fields).build()?);
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let mut file = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
        let mut group = file.next_row_group()?;
        for Column { values, .. } in &self.columns {
            let Some(column) = group.next_column()? else { break };
            match values {
                Values::Bool(values) => write::<BoolType, _>(column, values, |&value| value)?,
                Values::Int(values) => write::<Int64Type, _>(column, values, |&value| value)?,
                Values::Float(values) => write::<DoubleType, _>(column, values, |&value| value)?,
                Values::Text(values) => {
                    write::<ByteArrayType, _>(column, values, |text| ByteArray::from(text.as_bytes().to_vec()))?;
                }
            }
        }
        group.close()?;
        file.into_inner()
    }
}

/// The declaration of a column.
fn field(column: &Column) -> Result<TypePtr> {
    let (physical, logical) = match column.values {
        Values::Bool(_) => (PhysicalType::BOOLEAN, None),
        Values::Int(_) => (PhysicalType::INT64, None),
        Values::Float(_) => (PhysicalType::DOUBLE, None),
        Values::Text(_) => (PhysicalType::BYTE_ARRAY, Some(LogicalType::String)),
    };
    let builder = Type::primitive_type_builder(&column.name, physical).with_repetition(Repetition::OPTIONAL);
    builder.with_logical_type(logical).build().map(Arc::new)
}

/// Writes the present values, and a definition level for each row: 1 where there is one.
fn write<T: DataType, V>(
    mut column: SerializedColumnWriter,
    values: &[Option<V>],
    convert: fn(&V) -> T::T,
) -> Result<()> {
    let levels: Vec<i16> = values.iter().map(|value| value.is_some().into()).collect();
    let present: Vec<T::T> = values.iter().flatten().map(convert).collect();
    column.typed::<T>().write_batch(&present, Some(&levels), None)?;
    column.close()
}

#[cfg(test)]
mod tests {
    use ::parquet::file::reader::{FileReader, SerializedFileReader};

    #[test]
    fn a_file_reads_back_with_types_and_missing_values() {
        let bytes = super::super::tests::every_type().parquet().unwrap();
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), bytes).unwrap();
        let reader = SerializedFileReader::new(path.reopen().unwrap()).unwrap();
        let rows: Vec<String> = reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect();
        assert_eq!(
            rows,
            [
                r#"{flag: true, count: null, value: NaN, a.text: "a, "b""}"#,
                r#"{flag: null, count: -3, value: 0.1, a.text: "[1,2]"}"#,
                "{flag: false, count: 4, value: null, a.text: null}",
            ]
        );
    }
}
