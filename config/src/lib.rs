//! `crossdock.toml` and the entity, mapping and rule files become one checked [`Config`].
//!
//! ```text
//!  crossdock.toml ── parse ─▶ Section ── settings ─┐
//!  entities/*.toml ─────────────────── Entities ───┼─▶ Config, or every Problem at once
//!  mappings/*.toml, rules/*.toml ───────── Rules ──┘
//! ```
//!
//! Reading a config changes nothing and connects to nothing. A setting that is missing, unknown,
//! of the wrong type or in conflict with another one is a [`Problem`](crossdock_model::Problem)
//! with file, line and remedy; none of them hides another. What is odd but can work is a warning.
//! Passwords are taken from the environment or from files, held in [`secrecy::SecretString`] and
//! never printed: messages quote settings as the file has them, before variables are replaced
//! (only paths are shown as they came out).
//!
//! Knows nothing of databases, journal or pipeline.

mod settings;

mod edit;
mod load;

mod installation;
mod mirror;
mod poll;
mod source;
mod target;

mod agreement;
mod database;
mod rules;
mod tls;

mod folder;
mod quantity;
mod section;
mod variables;

mod findings;
mod nearest;

pub use crossdock_model::database::{ClientCertificate, DatabaseKind, Tls};
pub use edit::with_table;
pub use findings::ConfigErrors;
pub use load::{Folders, load, load_with, state_dir};
pub use rules::Rules;
pub use settings::{
    At, Config, Connection, FileConfig, HttpConfig, JournalConfig, MirrorConfig, OnGap, Place,
    PollConfig, SnapshotConfig, SnapshotMode, SourceConfig, TargetConfig,
};

/// A first config, with comments: what a user starts from.
pub fn template() -> &'static str {
    include_str!("../template.toml")
}
