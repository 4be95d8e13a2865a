//! How a connection is protected: `tls`, `ca_file`, `tls_client_cert` and `tls_client_key`.

use std::fs::File;
use std::path::PathBuf;

use crate::database::{is_local, readable_by_others};
use crate::section::{Found, Section, quoted};
use crossdock_model::database::{ClientCertificate, Tls};

const CERT: &str = "tls_client_cert";
const KEY: &str = "tls_client_key";

#[derive(Clone, Copy, PartialEq)]
enum Protection {
    Disable,
    VerifyFull,
}

/// Default: none on the machine itself, full verification to anywhere else.
pub(crate) fn tls(section: &Section<'_>, host: Option<&Found<String>>) -> Option<Tls> {
    let words = [("disable", Protection::Disable), ("verify-full", Protection::VerifyFull)];
    let local = host.is_some_and(|host| is_local(&host.value));
    let default = if local { Protection::Disable } else { Protection::VerifyFull };
    let chosen = section.choice("tls", &words, Some(default));
    let ca_file = certificates(section);
    let client = client_certificate(section);
    let (chosen, host) = (chosen?, host?);
    if chosen == Protection::Disable && !local {
        section.problem(
            section.line_of("tls"),
            format!("`tls = \"disable\"` to {}, which is another machine", quoted(&host.written)),
            "write `tls = \"verify-full\"` (and `ca_file` when the certificate is your own)",
        );
        return None;
    }
    if chosen == Protection::VerifyFull && host.value.starts_with('/') {
        section.problem(
            section.line_of("tls"),
            "a Unix socket carries no TLS",
            "write `tls = \"disable\"`, or connect to a host",
        );
        return None;
    }
    for key in ["ca_file", CERT, KEY] {
        if chosen == Protection::Disable && section.has(key) {
            let remedy = format!("write `tls = \"verify-full\"`, or remove `{key}`");
            let what = format!("`{key}` has no effect without TLS");
            section.source.warning(section.line_of(key), what, remedy);
        }
    }
    match chosen {
        Protection::Disable => Some(Tls::Disable),
        Protection::VerifyFull => Some(Tls::VerifyFull { ca_file: ca_file?, client: client? }),
    }
}

/// `Some(None)`: none named.
fn certificates(section: &Section<'_>) -> Option<Option<PathBuf>> {
    match section.has("ca_file") {
        true => readable(section, "ca_file", "certificates").map(Some),
        false => Some(None),
    }
}

/// The certificate that the server is shown, and its key. `Some(None)`: none named.
pub(crate) fn client_certificate(section: &Section<'_>) -> Option<Option<ClientCertificate>> {
    let (given, missing) = match (section.has(CERT), section.has(KEY)) {
        (false, false) => return Some(None),
        (true, true) => {
            let cert_file = readable(section, CERT, "a certificate");
            let key_file = readable(section, KEY, "its private key");
            let client = ClientCertificate { cert_file: cert_file?, key_file: key_file? };
            if readable_by_others(&client.key_file) {
                let shown = client.key_file.display();
                let what = format!("others than its owner can read {shown}");
                section.source.warning(section.line_of(KEY), what, format!("chmod 600 {shown}"));
            }
            return Some(Some(client));
        }
        (true, false) => (CERT, KEY),
        (false, true) => (KEY, CERT),
    };
    let what = format!("`{given}` is given without `{missing}`");
    section.problem(section.line_of(given), what, format!("add `{missing}`, or remove `{given}`"));
    None
}

/// The path of a file that can be opened.
fn readable(section: &Section<'_>, key: &'static str, content: &str) -> Option<PathBuf> {
    let path = section.path(key)?;
    if let Err(e) = File::open(&path.value) {
        let what = format!("`{key}` {} cannot be read: {}", path.value.display(), e.kind());
        section.problem(path.line, what, format!("name a file with {content} in PEM form"));
        return None;
    }
    Some(path.value)
}
