//! What snapshots of all kinds of databases have in common.
//!
//! Pure: knows nothing of any database, of sockets or of threads.

mod throttle;
mod window;

pub(crate) use throttle::Throttle;
pub(crate) use window::{Chunk, Found, Sees, Spoiled, Window};
