//! Canonical subjects (which records exist, their keys and fields, and the versions of their
//! schemas) and the versions of source table schemas.
//!
//! Everything here is data and pure functions over it.
//! Knows nothing of databases, disk or time.

mod avro;
mod compatibility;
mod entities_file;
mod entity;
mod field_type;
mod json_schema;
mod shape;
mod source_schemas;
mod subjects;

pub use avro::{AvroSchema, avro};
pub use compatibility::Compatibility;
pub use entity::{Cast, Earlier, Entities, EntityDef};
pub use field_type::FieldType;
pub use json_schema::json_schema;
pub use shape::shaped;
pub use source_schemas::{Observed, Retyped, SchemaVersion, SourceSchemas};
pub use subjects::{Refused, SubjectVersion, Subjects, subject};
