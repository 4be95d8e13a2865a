//! SQL connections: for the catalog, for slots and publications, for the probe.

use std::time::Duration;

use secrecy::ExposeSecret;
use tokio_postgres::{Client, NoTls, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{errors, session};
use crate::{CaptureError, SourceOptions, tls};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Unsent data and silence for this long mean that the peer is gone.
const DEAD_AFTER: Duration = Duration::from_secs(60);

/// Connects. The connection is driven by a task of its own, which ends with the client.
pub(super) async fn connect(options: &SourceOptions) -> Result<Client, CaptureError> {
    let settings: Vec<String> =
        session::SETTINGS.iter().map(|(name, value)| format!("-c {name}={value}")).collect();
    let mut config = tokio_postgres::Config::new();
    config
        .host(&options.host)
        .port(options.port)
        .user(&options.user)
        .password(options.password.expose_secret())
        .dbname(&options.database)
        .application_name(session::APPLICATION_NAME)
        .options(settings.join(" "))
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_user_timeout(DEAD_AFTER)
        .keepalives_idle(DEAD_AFTER);
    let failed = |e| errors::sql(options, "connecting", e);
    let client = match tls::config(options)? {
        None => {
            config.ssl_mode(SslMode::Disable);
            let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
            tokio::spawn(drive(options.name.clone(), connection));
            client
        }
        Some(tls) => {
            config.ssl_mode(SslMode::Require);
            let tls = MakeRustlsConnect::new(tls);
            let (client, connection) = config.connect(tls).await.map_err(failed)?;
            tokio::spawn(drive(options.name.clone(), connection));
            client
        }
    };
    Ok(client)
}

/// Whoever uses the client sees the error; here it is only of use to somebody who looks closely.
async fn drive(
    source: String,
    connection: impl Future<Output = Result<(), tokio_postgres::Error>> + Send,
) {
    if let Err(error) = connection.await {
        tracing::debug!(source, %error, "SQL connection ended");
    }
}

/// An identifier as SQL wants it.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string literal as SQL wants it (`standard_conforming_strings` or not).
pub(super) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!(" E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// `"schema"."table"`.
pub(super) fn qualified(name: &crossdock_model::TableName) -> String {
    format!("{}.{}", identifier(&name.schema), identifier(&name.table))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!(identifier("we\"ird"), "\"we\"\"ird\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'"), " E'a\\\\'''");
    }
}
