//! The stages that `pipeline` is made of: each holds what its loop needs and does one step a call.

mod deliver;
pub mod drift;
mod error;
mod guards;
mod ingest;
mod integrate;
mod journals;
mod large;
mod mirror;
mod overlap;
mod start;
mod upkeep;

pub use deliver::{Breaker, DeliverStage, present_streams, stream_names};
pub use error::StageError;
pub use guards::Guards;
pub use ingest::{IngestStage, Run as IngestRun, TableList};
pub use integrate::{IntegrateStage, Next};
pub use journals::Journals;
pub use mirror::MirrorStage;
pub use start::Ordered;
pub use upkeep::Upkeep;
