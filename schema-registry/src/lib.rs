//! Canonical subjects (which records exist, their keys and fields) and the versions of source
//! table schemas.
//!
//! Everything here is data and pure functions over it.
//! Knows nothing of databases, disk or time.

mod entities_file;
mod entity;
mod field_type;
mod source_schemas;

pub use entity::{Entities, EntityDef};
pub use field_type::FieldType;
pub use source_schemas::{Observed, Retyped, SchemaVersion, SourceSchemas};
