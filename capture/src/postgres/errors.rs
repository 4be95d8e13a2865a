//! Errors of PostgreSQL, sorted by what to do next.

use std::error::Error;

use crate::{CaptureError, SourceOptions};

/// A server's error: SQLSTATE and primary message. Details may hold row values and are left out.
#[derive(Clone, Debug)]
pub(super) struct ServerError {
    pub code: String,
    pub message: String,
}

/// Sorts a server's error. `doing` says what was asked of the server.
pub(super) fn server(options: &SourceOptions, doing: &str, error: &ServerError) -> CaptureError {
    let what =
        format!("source {}: {doing}: {} (SQLSTATE {})", options.name, error.message, error.code);
    // Classes: 08 connection, 40 rolled back, 53 resources, 57P0x shut down, starting or killed;
    // single codes: lock not available, cancelled, object in use, system call failed.
    let passes = ["08", "40", "53", "57P0"].iter().any(|class| error.code.starts_with(class))
        || matches!(&*error.code, "55P03" | "57014" | "55006" | "58000" | "58030" | "25P03");
    if passes {
        return CaptureError::Transient { what, source: None };
    }
    CaptureError::definite(what, remedy(options, &error.code))
}

fn remedy(options: &SourceOptions, code: &str) -> String {
    match code {
        "28P01" | "28000" => format!(
            "set the right user and password for source {}, and let pg_hba.conf admit user {} \
             from this host; where the server asks for a certificate, give `tls_client_cert` and \
             `tls_client_key`",
            options.name, options.user
        ),
        "3D000" => format!("set the right database for source {}", options.name),
        "42501" => format!(
            "grant user {} what it lacks; `crossdock check` prints the statement",
            options.user
        ),
        _ => "run `crossdock check` for what the server lacks".to_string(),
    }
}

/// Sorts an error of the SQL connection.
pub(super) fn sql(
    options: &SourceOptions,
    doing: &str,
    error: tokio_postgres::Error,
) -> CaptureError {
    if let Some(db) = error.as_db_error() {
        let error =
            ServerError { code: db.code().code().to_string(), message: db.message().to_string() };
        return server(options, doing, &error);
    }
    if let Some(definite) = certificate(options, &error) {
        return definite;
    }
    let underneath = error.source().map(ToString::to_string).unwrap_or_default();
    if !error.is_closed() && underneath.is_empty() {
        // Neither the server nor the network: authentication or TLS that can't be agreed upon.
        let text = error.to_string();
        if text.contains("authentication") || text.contains("TLS") {
            return CaptureError::definite(
                format!("source {}: {doing}: {text}", options.name),
                "check password, authentication method and TLS of the source",
            );
        }
    }
    CaptureError::transient(format!("source {}: {doing}: {error}", options.name), error)
}

/// An error of the socket. A certificate that is not accepted will not become so by waiting.
pub(super) fn socket(options: &SourceOptions, doing: &str, error: std::io::Error) -> CaptureError {
    if let Some(definite) = certificate(options, &error) {
        return definite;
    }
    let at = format!("{}:{}", options.host, options.port);
    CaptureError::transient(format!("source {}: {doing} ({at}): {error}", options.name), error)
}

fn certificate(options: &SourceOptions, error: &(dyn Error + 'static)) -> Option<CaptureError> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref());
        let tls = inner
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
            .or_else(|| error.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::InvalidCertificate(why)) = tls {
            return Some(CaptureError::definite(
                format!(
                    "source {}: the certificate of {} is not accepted: {why:?}",
                    options.name, options.host
                ),
                "give the CA's certificate as `ca_file`, and the host name as it stands in the \
                 server's certificate",
            ));
        }
        if let Some(rustls::Error::AlertReceived(alert)) = tls
            && is_about_ours(*alert)
        {
            return Some(CaptureError::definite(
                format!(
                    "source {}: {} does not accept our certificate: {alert:?}",
                    options.name, options.host
                ),
                "give a certificate that the server's ssl_ca_file vouches for as \
                 `tls_client_cert`, and its key as `tls_client_key`",
            ));
        }
        next = error.source();
    }
    None
}

/// Whether the server's complaint is about the client's certificate.
fn is_about_ours(alert: rustls::AlertDescription) -> bool {
    use rustls::AlertDescription as Alert;
    matches!(
        alert,
        Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::CertificateRequired
            | Alert::UnknownCA
            | Alert::AccessDenied
    )
}

/// The log no longer holds what has not been read.
pub(super) fn gap(options: &SourceOptions, what: impl Into<String>) -> CaptureError {
    CaptureError::Gap {
        source_name: options.name.clone(),
        what: what.into(),
        remedy: format!(
            "changes that the server has dropped can't be had from the log any more: read the \
             tables again with `crossdock resync --source {}`",
            options.name
        ),
    }
}

/// The same, with what keeps it from happening again.
pub(super) fn gap_with(
    options: &SourceOptions,
    what: impl Into<String>,
    prevention: &str,
) -> CaptureError {
    match gap(options, what) {
        CaptureError::Gap { source_name, what, remedy } => {
            CaptureError::Gap { source_name, what, remedy: format!("{remedy}; then {prevention}") }
        }
        other => other,
    }
}
