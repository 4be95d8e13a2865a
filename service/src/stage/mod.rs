//! The stages that `pipeline` is made of: each holds what its loop needs and does one step a call.

mod deliver;
pub mod drift;
mod error;
mod guards;
mod ingest;
mod integrate;
mod journals;
mod mirror;
mod overlap;
mod start;
mod upkeep;

pub use deliver::{Breaker, DeliverStage, stream_name as deliver_stream};
pub use error::StageError;
pub use guards::Guards;
pub use ingest::{IngestStage, Run as IngestRun, TableList};
pub use integrate::IntegrateStage;
pub use journals::Journals;
pub use mirror::MirrorStage;
pub use start::Ordered;
pub use upkeep::Upkeep;
