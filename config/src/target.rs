//! `[target.NAME]`: a database that is told.

use crate::database::{KINDS, PLACE_KEYS, connection, password};
use crate::nearest::nearest;
use crate::quantity;
use crate::section::{Found, Section, quoted};
use crate::settings::{Connection, SourceConfig, TargetConfig};
use crate::source::checked_name;
use crate::tls::client_certificate;
use crossdock_model::database::Tls;

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
    let (source, connection) = if section.has("source") {
        like_source(name, sources, section)
    } else {
        let kind = section.choice("kind", &KINDS, None);
        (None, connection(section, name, kind))
    };
    let batch_rows = section.number("batch_rows", 1..=100_000, 500);
    let exceptions_max = section.number("exceptions_max", 0..=100_000, 100);
    let reverts_max = section.number("reverts_max", 1..=1_000, 5);
    let limits = ("1s", "7d");
    let reverts_within = section.quantity("reverts_within", "10m", limits, quantity::duration);
    section.finish();
    Some(TargetConfig {
        name: good_name?.into(),
        at: section.at(),
        connection: connection?,
        source,
        batch_rows: usize::try_from(batch_rows?).ok()?,
        exceptions_max: exceptions_max?,
        reverts_max: reverts_max?,
        reverts_within: reverts_within?,
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
