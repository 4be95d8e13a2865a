//! `[target.NAME]`: who is told: a database, a service over HTTP, or files.

use crate::database::{PLACE_KEYS, Secret, connection, is_local, password, secret};
use crate::nearest::nearest;
use crate::quantity;
use crate::section::{Found, Section, quoted};
use crate::settings::{Connection, FileConfig, HttpConfig, Place, SourceConfig, TargetConfig};
use crate::source::{checked_name, region};
use crate::tls::client_certificate;
use crossdock_model::database::{DatabaseKind, Tls};

/// What a target can be.
#[derive(Clone, Copy)]
enum TargetKind {
    Database(DatabaseKind),
    Http,
    File,
}

const TARGET_KINDS: [(&str, TargetKind); 5] = [
    ("postgres", TargetKind::Database(DatabaseKind::Postgres)),
    ("mysql", TargetKind::Database(DatabaseKind::Mysql)),
    ("mariadb", TargetKind::Database(DatabaseKind::Mariadb)),
    ("http", TargetKind::Http),
    ("file", TargetKind::File),
];
/// The key of signatures.
const SIGNING: Secret = Secret { word: "secret", variable: "secret_env", file: "secret_file" };
/// What the answer 409 means.
const ON_CONFLICT: [(&str, bool); 2] = [("done", true), ("refused", false)];

/// Connections to one target, at most.
const WORKERS_MAX: u64 = 16;

/// The sources of the file: every name, and those whose settings are good.
pub(crate) struct Sources<'a> {
    pub names: &'a [String],
    pub good: &'a [SourceConfig],
}

impl Sources<'_> {
    /// The source that a section names; a problem when there is none. `None` also when that
    /// source's own settings are a problem, which has been reported there.
    pub(crate) fn named(
        &self,
        found: &Found<String>,
        section: &Section<'_>,
    ) -> Option<&SourceConfig> {
        if !self.names.contains(&found.value) {
            let what = format!("there is no source {}", quoted(&found.written));
            section.problem(found.line, what, did_you_mean(&found.value, self.names, "source"));
        }
        self.good.iter().find(|s| s.name == found.value)
    }
}

/// Remedy for a name that is not defined.
pub(crate) fn did_you_mean(name: &str, names: &[String], kind: &str) -> String {
    match nearest(name, names.iter().map(String::as_str)) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("add `[{kind}.NAME]` with that name, or use one that is there"),
    }
}

pub(crate) fn target(
    name: &str,
    sources: &Sources<'_>,
    section: &Section<'_>,
) -> Option<TargetConfig> {
    let good_name = checked_name("target", name, section);
    let (source, place) = if section.has("source") {
        let (source, connection) = like_source(name, sources, section);
        (source, connection.map(Place::Database))
    } else {
        (None, place(name, section))
    };
    let region = region(section);
    let batch_rows = section.number("batch_rows", 1..=100_000, 500);
    let workers = section.number("workers", 1..=WORKERS_MAX, 1);
    let exceptions_max = section.number("exceptions_max", 0..=100_000, 100);
    let reverts_max = section.number("reverts_max", 1..=1_000, 5);
    let limits = ("1s", "7d");
    let reverts_within = section.quantity("reverts_within", "10m", limits, quantity::duration);
    if matches!(&place, Some(Place::File(_))) && workers.is_some_and(|workers| workers > 1) {
        let remedy = "leave `workers` out: files are written in one order";
        section.problem(section.line_of("workers"), "a folder has one writer", remedy);
    }
    section.finish();
    Some(TargetConfig {
        name: good_name?.into(),
        region: region?,
        at: section.at(),
        place: place?,
        source,
        batch_rows: usize::try_from(batch_rows?).ok()?,
        workers: usize::try_from(workers?).ok()?,
        exceptions_max: exceptions_max?,
        reverts_max: reverts_max?,
        reverts_within: reverts_within?,
    })
}

/// What a target is that is no source.
fn place(name: &str, section: &Section<'_>) -> Option<Place> {
    match section.choice("kind", &TARGET_KINDS, None) {
        Some(TargetKind::Http) => http(section).map(Place::Http),
        Some(TargetKind::File) => file(section).map(Place::File),
        Some(TargetKind::Database(kind)) => {
            connection(section, name, Some(kind)).map(Place::Database)
        }
        None => connection(section, name, None).map(Place::Database),
    }
}

fn http(section: &Section<'_>) -> Option<HttpConfig> {
    let url = section.required("url", "https://portal.example/hooks");
    let secret = secret(section, &SIGNING);
    let timeout = section.quantity("timeout", "10s", ("100ms", "5m"), quantity::duration);
    let conflict = section.choice("on_conflict", &ON_CONFLICT, Some(false));
    let ca_file = section.has("ca_file").then(|| section.path("ca_file"));
    let url = url?;
    let rest = url.value.strip_prefix("https://").or(url.value.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split(['/', '?']).next()).unwrap_or_default();
    if host.is_empty() || host.contains('@') {
        section.problem(
            url.line,
            format!("`url` cannot be {}", quoted(&url.written)),
            "write it like \"https://portal.example/hooks\", without user and password",
        );
        return None;
    }
    let plain = url.value.starts_with("http://");
    let bare = match host.rsplit_once(':') {
        Some((bare, port)) if port.bytes().all(|b| b.is_ascii_digit()) => bare,
        _ => host,
    };
    if plain && !is_local(bare) {
        section.source.warning(
            url.line,
            "deliveries are posted without encryption",
            "write https:// unless the network is trusted",
        );
    }
    let ca_file = match ca_file {
        Some(found) => Some(found?.value),
        None => None,
    };
    let (secret, timeout, conflict_is_done) = (secret?, timeout?, conflict?);
    Some(HttpConfig { url: url.value, secret, timeout, conflict_is_done, ca_file })
}

const FORMATS: [(&str, bool); 2] = [("jsonl", false), ("parquet", true)];

fn file(section: &Section<'_>) -> Option<FileConfig> {
    let folder = section.required("folder", "deliveries").and_then(|_| section.path("folder"));
    let limits = ("1KiB", "1TiB");
    let bytes = section.quantity("rotate_bytes", "128MiB", limits, quantity::bytes);
    let every = section.quantity("rotate_every", "1h", ("1s", "30d"), quantity::duration);
    let parquet = section.choice("format", &FORMATS, Some(false));
    Some(FileConfig {
        folder: folder?.value,
        rotate_bytes: bytes?,
        rotate_every: every?,
        parquet: parquet?,
    })
}

/// The database of a source, perhaps as another user.
fn like_source(
    name: &str,
    sources: &Sources<'_>,
    section: &Section<'_>,
) -> (Option<String>, Option<Connection>) {
    let mut fits = true;
    for key in PLACE_KEYS {
        if section.has(key) {
            let what = format!("`{key}` is given although `source` says which database it is");
            section.problem(section.line_of(key), what, format!("remove `{key}` or `source`"));
            fits = false;
        }
    }
    let user = section.has("user").then(|| section.required("user", "crossdock"));
    let own = ["password", "password_env", "password_file"].map(|key| section.has(key));
    let password = own.contains(&true).then(|| password(section));
    let client = client_certificate(section);
    let Some(found) = section.required("source", "erp") else { return (None, None) };
    let Some(source) = sources.named(&found, section) else { return (None, None) };
    let mut connection = Connection { name: name.into(), ..source.connection.clone() };
    match user {
        Some(Some(user)) => connection.user = user.value,
        Some(None) => fits = false,
        None => {}
    }
    match password {
        Some(Some(password)) => connection.password = password,
        Some(None) => fits = false,
        None => {}
    }
    match (client, &mut connection.tls) {
        (None, _) => fits = false,
        // Another user may have another certificate.
        (Some(Some(own)), Tls::VerifyFull { client, .. }) => *client = Some(own),
        (Some(_), _) => {}
    }
    (Some(source.name.clone()), fits.then_some(connection))
}
