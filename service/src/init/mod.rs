//! A first config, mapping and ownership file for a database that nobody has described yet.
//!
//! `words` knows what names may mean, `guess` drafts a mapping from a catalog, `files` writes it
//! down. Pure, but for the command itself.

mod files;
mod guess;
mod place;
mod words;

pub use files::files;
pub use guess::{Draft, draft};
pub use place::Place;
pub use words::Words;
