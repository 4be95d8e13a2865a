//! How to reach a database: the settings that store, sources and targets have in common.

use std::fs::{self, File};
use std::io::Read;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use secrecy::SecretString;

use crate::section::{Found, Section};
use crate::settings::Connection;
use crate::tls::tls;
use crate::variables::is_name;
use crossdock_model::database::DatabaseKind;

/// No password is this long; a larger file is something else.
const PASSWORD_BYTES_MAX: u64 = 4096;
/// Keys that say where a database is.
pub(crate) const PLACE_KEYS: [&str; 6] = ["kind", "host", "port", "database", "tls", "ca_file"];
/// The words for [`DatabaseKind`].
pub(crate) const KINDS: [(&str, DatabaseKind); 3] = [
    ("postgres", DatabaseKind::Postgres),
    ("mysql", DatabaseKind::Mysql),
    ("mariadb", DatabaseKind::Mariadb),
];

/// Reads a connection. `None` after a problem; every key has been looked at all the same.
pub(crate) fn connection(
    section: &Section<'_>,
    name: &str,
    kind: Option<DatabaseKind>,
) -> Option<Connection> {
    let host = section.required("host", "127.0.0.1");
    let port = port(section, kind);
    let database = section.required("database", "logistics");
    let user = section.required("user", "crossdock");
    let password = password(section);
    let tls = tls(section, host.as_ref());
    Some(Connection {
        name: name.into(),
        kind: kind?,
        host: host?.value,
        port: port?,
        database: database?.value,
        user: user?.value,
        password: password?,
        tls: tls?,
    })
}

fn port(section: &Section<'_>, kind: Option<DatabaseKind>) -> Option<u16> {
    let default = kind.unwrap_or(DatabaseKind::Postgres).default_port();
    section.number("port", 1..=65_535, default.into()).and_then(|port| u16::try_from(port).ok())
}

/// A secret that a section names, and the keys by which it does.
pub(crate) struct Secret {
    /// What people call it; also the key under which it must not stand.
    pub word: &'static str,
    /// Key that names a variable.
    pub variable: &'static str,
    /// Key that names a file.
    pub file: &'static str,
}

/// The password of a database.
pub(crate) const PASSWORD: Secret =
    Secret { word: "password", variable: "password_env", file: "password_file" };

/// The password, from the environment or a file; empty when the section names neither. `None`
/// after a problem. It is never part of a message.
pub(crate) fn password(section: &Section<'_>) -> Option<SecretString> {
    secret(section, &PASSWORD)
}

/// A secret; see [`password`].
pub(crate) fn secret(section: &Section<'_>, of: &Secret) -> Option<SecretString> {
    let Secret { word, variable, file } = of;
    if section.has(word) {
        section.problem(
            section.line_of(word),
            format!("a {word} does not belong in this file"),
            format!(
                "use `{variable} = \"NAME\"` (an environment variable) or \
                 `{file} = \"/run/secrets/…\"`"
            ),
        );
        return None;
    }
    if section.has(variable) && section.has(file) {
        section.problem(
            section.line_of(file),
            format!("`{variable}` and `{file}` are both given"),
            "keep one of them",
        );
        return None;
    }
    if section.has(variable) {
        from_environment(section, of, &section.required(variable, "STORE_PASSWORD")?)
    } else if section.has(file) {
        from_file(section, of)
    } else {
        Some(SecretString::from(""))
    }
}

fn from_environment(
    section: &Section<'_>,
    of: &Secret,
    variable: &Found<String>,
) -> Option<SecretString> {
    let (name, word, key) = (&variable.value, of.word, of.variable);
    if !is_name(name) {
        // Not quoted: whoever mistakes the key writes the password itself here.
        let what = format!("`{key}` is not the name of an environment variable");
        section.problem(
            variable.line,
            what,
            format!("write the variable's name (letters, digits, `_`), not the {word}"),
        );
        return None;
    }
    match (section.source.environment)(name) {
        Some(found) if !found.is_empty() => Some(SecretString::from(found)),
        found => {
            let state = if found.is_some() { "empty" } else { "not set" };
            let what = format!("the environment variable {name} with the {word} is {state}");
            let remedy = format!("set {name}; leave `{key}` out when none is needed");
            section.problem(variable.line, what, remedy);
            None
        }
    }
}

fn from_file(section: &Section<'_>, of: &Secret) -> Option<SecretString> {
    let path = section.path(of.file)?;
    let (shown, line, word) = (path.value.display(), path.line, of.word);
    match read_password(&path.value) {
        Ok(text) if text.is_empty() => {
            section.problem(line, format!("{shown} is empty"), format!("write the {word} into it"));
            None
        }
        Ok(text) => {
            if readable_by_others(&path.value) {
                let what = format!("others than its owner can read {shown}");
                section.source.warning(line, what, format!("chmod 600 {shown}"));
            }
            Some(SecretString::from(text))
        }
        Err(reason) => {
            let what = format!("the {word} file {shown} cannot be read: {reason}");
            section.problem(line, what, "create it, readable by the user that runs crossdock");
            None
        }
    }
}

fn read_password(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|e| e.kind().to_string())?;
    let mut bytes = Vec::new();
    let read = file.take(PASSWORD_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|e| e.kind().to_string())?;
    if bytes.len() as u64 > PASSWORD_BYTES_MAX {
        return Err(format!("it is longer than {PASSWORD_BYTES_MAX} bytes"));
    }
    // The error would carry the bytes.
    let mut text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_string())?;
    let kept = text.trim_end_matches(['\n', '\r']).len();
    text.truncate(kept);
    Ok(text)
}

pub(crate) fn readable_by_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o044 != 0)
}

/// A socket, or an address at which only this machine answers.
pub(crate) fn is_local(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.starts_with('/')
        || host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
