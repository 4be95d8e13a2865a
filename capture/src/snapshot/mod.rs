//! What snapshots of all kinds of databases have in common.
//!
//! Knows nothing of any database or of sockets.

mod backfill;
mod crew;
mod parcel;
mod placed;
mod side;
mod throttle;
mod window;

pub(crate) use backfill::Backfill;
pub(crate) use crew::{Crew, Halt, Hand, WORKERS_MAX};
pub(crate) use parcel::{News, Parcel, Part};
pub(crate) use placed::Placed;
pub(crate) use side::{Answer, Due, Here, Piece, Refusal, Side};
pub(crate) use throttle::Throttle;
pub(crate) use window::{Chunk, Found, Sees, Spoiled, Window};
