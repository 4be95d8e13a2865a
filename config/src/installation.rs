//! `[crossdock]` and `[journal]`: what concerns the process itself.

use std::net::SocketAddr;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

use crate::database::password;
use crate::quantity::{bytes, duration};
use crate::section::{Section, quoted};
use crate::settings::JournalConfig;

/// Room is left for the prefix and a second name within PostgreSQL's 63 bytes.
const NAME_CHARS_MAX: usize = 40;

/// `[crossdock]` without its folders of files.
pub(crate) struct Installation {
    pub name: String,
    pub state_dir: PathBuf,
    pub listen: SocketAddr,
}

pub(crate) fn installation(section: &Section<'_>) -> Option<Installation> {
    let name = section.required("name", "demo").filter(|name| {
        let good = is_name(&name.value);
        if !good {
            let what = format!("{} cannot be the name of an installation", quoted(&name.written));
            section.problem(name.line, what, NAME_RULE);
        }
        good
    });
    let state_dir = state_dir(section);
    let listen = listen(section);
    Some(Installation { name: name?.value, state_dir: state_dir?, listen: listen? })
}

/// Said when a name is refused.
pub(crate) const NAME_RULE: &str =
    "use a small letter, then small letters, digits and `_`, at most 40 together";

/// Names of installations, sources, targets and mirrors become parts of slot names, metric labels
/// and CEL variables: what is allowed in all of these.
pub(crate) fn is_name(text: &str) -> bool {
    let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    text.len() <= NAME_CHARS_MAX
        && text.bytes().all(letters)
        && text.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
}

fn state_dir(section: &Section<'_>) -> Option<PathBuf> {
    if !section.has("state_dir") {
        return Some(section.source.folder.join("state"));
    }
    let path = section.path("state_dir")?;
    if path.value.exists() && !path.value.is_dir() {
        let what = format!("`state_dir` {} is not a folder", path.value.display());
        section.problem(path.line, what, "name a folder; it is created when it is missing");
        return None;
    }
    Some(path.value)
}

fn listen(section: &Section<'_>) -> Option<SocketAddr> {
    if !section.has("listen") {
        return Some(SocketAddr::from(([127, 0, 0, 1], 9180)));
    }
    let found = section.text("listen")?;
    let Ok(address) = found.value.parse::<SocketAddr>() else {
        let what = format!("`listen` is not an address and port: {}", quoted(&found.written));
        section.problem(found.line, what, "write for example `listen = \"127.0.0.1:9180\"`");
        return None;
    };
    if !address.ip().is_loopback() {
        section.source.warning(
            found.line,
            "`listen` lets other machines read metrics and status, without any login",
            "use 127.0.0.1 unless a firewall or proxy guards this port",
        );
    }
    Some(address)
}

/// What those who register schemas must know: `Some(None)` when nobody may, `None` after a problem.
pub(crate) fn registry(root: &Section<'_>) -> Option<Option<SecretString>> {
    let Some(section) = root.section("registry") else { return Some(None) };
    let password = password(&section);
    section.finish();
    let password = password?;
    if password.expose_secret().is_empty() {
        let remedy = "add `password_env = \"NAME\"` or `password_file = \"/run/secrets/…\"`";
        section.problem(section.at().1, "[registry] has no password", remedy);
        return None;
    }
    Some(Some(password))
}

/// Limits of the journal; the whole section may be left out.
pub(crate) fn journal(root: &Section<'_>) -> Option<JournalConfig> {
    let Some(section) = root.section("journal") else {
        return Some(JournalConfig::default());
    };
    let segment_bytes = section.quantity("segment", "128MiB", ("1MiB", "4GiB"), bytes);
    let retain = section.quantity("retain", "7d", ("1s", "3650d"), duration);
    let retain_bytes = section.quantity("retain_bytes", "10GiB", ("2MiB", "1024TiB"), bytes);
    section.finish();
    let (segment_bytes, retain_bytes) = (segment_bytes?, retain_bytes?);
    if retain_bytes / 2 < segment_bytes {
        section.problem(
            section.line_of("retain_bytes"),
            "`retain_bytes` is less than two segments",
            "only whole segments are removed: make `segment` smaller or `retain_bytes` larger",
        );
        return None;
    }
    Some(JournalConfig { segment_bytes, retain: retain?, retain_bytes })
}
