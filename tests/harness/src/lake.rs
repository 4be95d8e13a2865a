//! What is in a folder of Parquet files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use anyhow::Result;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;

/// The rows of all `*.parquet` files of a folder, in the order of their names: columns by name,
/// NULLs left out.
///
/// # Errors
///
/// When a file cannot be read, or is not whole.
pub fn parquet_rows(folder: &Path) -> Result<Vec<BTreeMap<String, Field>>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        paths.push(entry?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|end| end == "parquet"));
    paths.sort();
    let mut rows = Vec::new();
    for path in paths {
        let reader = SerializedFileReader::new(File::open(path)?)?;
        for row in reader.get_row_iter(None)? {
            let row = row?;
            let cells = row.get_column_iter().filter(|(_, value)| **value != Field::Null);
            rows.push(cells.map(|(name, value)| (name.clone(), value.clone())).collect());
        }
    }
    Ok(rows)
}
