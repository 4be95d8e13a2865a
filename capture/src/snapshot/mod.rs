//! What snapshots of all kinds of databases have in common.
//!
//! Knows nothing of any database, of sockets or of threads.

mod placed;
mod throttle;
mod window;

pub(crate) use placed::Placed;
pub(crate) use throttle::Throttle;
pub(crate) use window::{Chunk, Found, Sees, Spoiled, Window};
