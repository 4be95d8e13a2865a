//! What a change means and who may write it: fold, mapping, ownership, lifecycle, release.
//!
//! [`Rules`] are compiled once from mapping and rule files. A [`Workspace`] judges one batch of
//! source transactions: it says what it must know ([`Workspace::needs`]), is given it
//! ([`Workspace::provide`]) and decides ([`Workspace::finish`]). A record is a function of what
//! source rows say about it, of the evidence about it and of the rules, so that replaying old
//! changes, in whatever order, ends in the same state.
//!
//! Knows nothing of I/O, async or the clock.

mod check;
mod coded;
mod codes;
mod compute;
mod deadline;
mod decimal;
mod deliver;
mod difference;
mod document;
mod echo;
mod epcis;
mod evidence;
mod expr;
mod fold;
mod foresee;
mod guard;
mod hops;
mod ids;
mod judge;
mod lanes;
mod large;
mod lifecycle;
mod links;
mod lookups;
mod mapping;
mod matrix;
mod memory;
mod names;
mod number;
mod ownership;
mod plan;
mod problems;
mod prove;
mod quarantine;
mod rate;
mod rehearsal;
mod replay;
mod rowmap;
mod rows;
mod rules;
mod ruleset;
mod scope;
mod scratch;
mod span;
mod staging;
mod step;
mod tell;
mod trial;
mod trouble;
mod upcast;
mod verify;
mod violation;
mod window;
mod workspace;
mod writing;

pub use coded::CodedColumn;
pub use epcis::Epcis;
pub use lanes::{Lane, Maintenance};
pub use large::{Large, PageNeeds, Piece, RECORD_NOTES, ROW_NOTES, Unreadable};
pub use matrix::{Ownership, State};
pub use memory::Memory;
pub use rate::guard_row;
pub use rehearsal::{Failure, TestResult};
pub use replay::{Comparison, Counts, FieldDifference, RecordDifference, ReplayTx};
pub use rules::{Known, Rules};
pub use ruleset::Ruleset;
pub use scratch::Scratch;
pub use window::Window;
pub use workspace::Workspace;
pub use writing::TargetWrite;
