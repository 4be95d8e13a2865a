//! Connections, and errors of the server sorted by what to do next.

use crossdock_model::TableName;
use mysql_async::prelude::Queryable;
use mysql_async::{ClientIdentity, Conn, DriverError, Error, IoError, Opts, OptsBuilder, SslOpts};
use secrecy::ExposeSecret;

use crate::{CaptureError, ClientCertificate, DatabaseKind, SourceOptions, Tls};

/// The largest packet that a server may be set to send.
pub(super) const PACKET_MAX: usize = 1 << 30;

/// The error of a password that is not the right one.
const REFUSED: u16 = 1045;

/// How often a log-in is tried before it counts as refused.
const LOG_INS: usize = 3;

/// What is asked of a server once.
#[derive(Clone, Debug)]
pub(super) struct Server {
    /// MariaDB rather than MySQL.
    pub(super) mariadb: bool,
    /// `@@version`.
    pub(super) version: String,
    /// `@@server_id`.
    pub(super) server_id: u32,
    /// Which server it is: MySQL's UUID, MariaDB's server id.
    pub(super) identity: String,
    /// Whether the log can be read from a GTID (always, on MariaDB).
    pub(super) gtids: bool,
}

/// Connects; the session runs in UTC.
pub(super) async fn connect(options: &SourceOptions) -> Result<Conn, CaptureError> {
    let ssl = match &options.tls {
        Tls::Disable => None,
        Tls::VerifyFull { ca_file, client } => {
            let ours = client.as_ref().map(|client| {
                let ClientCertificate { cert_file, key_file } = client.clone();
                ClientIdentity::new(cert_file.into(), key_file.into())
            });
            let ssl = SslOpts::default().with_client_identity(ours);
            Some(match ca_file {
                None => ssl,
                Some(file) => {
                    ssl.with_root_certs(vec![file.clone().into()]).with_disable_built_in_roots(true)
                }
            })
        }
    };
    let database = Some(options.database.clone()).filter(|name| !name.is_empty());
    let opts = OptsBuilder::default()
        .ip_or_hostname(options.host.clone())
        .tcp_port(options.port)
        .user(Some(options.user.clone()))
        .pass(Some(options.password.expose_secret().to_string()))
        .db_name(database)
        .ssl_opts(ssl)
        .prefer_socket(false)
        .max_allowed_packet(Some(PACKET_MAX))
        .init(vec!["SET time_zone = '+00:00', sql_mode = ''".to_string()]);
    let place = format!("connecting to {}:{}", options.host, options.port);
    log_in(opts.into()).await.map_err(|error| server_error(options, &place, error))
}

/// Logs in; refused, again. The library cuts a nonce that ends with a zero, as one in 256 of ed25519's
/// does, and the server then refuses the right password.
async fn log_in(opts: Opts) -> Result<Conn, Error> {
    for _ in 1..LOG_INS {
        match Conn::new(opts.clone()).await {
            Err(Error::Server(error)) if error.code == REFUSED => {}
            other => return other,
        }
    }
    Conn::new(opts).await
}

/// Asks who the server is.
pub(super) async fn server(
    options: &SourceOptions,
    conn: &mut Conn,
) -> Result<Server, CaptureError> {
    let fail = |error| server_error(options, "asking for the server's identity", error);
    let row: Option<(String, u32)> =
        conn.query_first("SELECT @@version, @@server_id").await.map_err(fail)?;
    let (version, server_id) = row.unwrap_or_default();
    let mariadb = version.to_ascii_lowercase().contains("mariadb");
    let (gtids, identity) = match mariadb {
        true => (true, server_id.to_string()),
        false => {
            let row: Option<(String, String)> =
                conn.query_first("SELECT @@gtid_mode, @@server_uuid").await.map_err(fail)?;
            let (mode, uuid) = row.unwrap_or_default();
            (mode.eq_ignore_ascii_case("ON"), uuid)
        }
    };
    if mariadb != (options.kind == DatabaseKind::Mariadb) {
        tracing::warn!(source = %options.name, %version, "the server is of the other kind");
    }
    Ok(Server { mariadb, version, server_id, identity, gtids })
}

/// Quotes a name.
pub(super) fn ident(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Quotes both parts of a table's name.
pub(super) fn table_ident(name: &TableName) -> String {
    format!("{}.{}", ident(&name.schema), ident(&name.table))
}

/// Quotes a text, for statements that take no parameters.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// The statements that grant what capture needs.
pub(super) fn grants(options: &SourceOptions) -> String {
    let user = format!("{}@'%'", literal(&options.user));
    if options.poll.is_some() {
        let select = |name: &TableName| format!("GRANT SELECT ON {} TO {user};", table_ident(name));
        return options.tables.iter().map(select).collect::<Vec<_>>().join(" ");
    }
    let status = match options.kind {
        DatabaseKind::Mariadb => "REPLICATION SLAVE, BINLOG MONITOR, SLAVE MONITOR",
        _ => "REPLICATION SLAVE, REPLICATION CLIENT, RELOAD",
    };
    let mut sql = format!("GRANT {status} ON *.* TO {user};");
    for name in databases(options) {
        sql.push_str(&format!(" GRANT SELECT ON {}.* TO {user};", ident(&name)));
    }
    sql
}

/// The databases of the captured tables.
pub(super) fn databases(options: &SourceOptions) -> Vec<String> {
    let mut names: Vec<_> = options.tables.iter().map(|t| t.schema.to_string()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Sorts an error by what to do next.
pub(super) fn server_error(options: &SourceOptions, what: &str, error: Error) -> CaptureError {
    let source = &options.name;
    match error {
        Error::Server(e) => match e.code {
            1236 => dump_error(options, &e.message),
            1044 | 1045 | 1142 | 1143 | 1227 | 1370 | 1698 => CaptureError::definite(
                format!("{source}: {what}: {} (error {})", e.message, e.code),
                format!("check user and password, then run: {}", grants(options)),
            ),
            // Shutting down, too many connections, killed, deadlock, table changed meanwhile.
            1040
            | 1053
            | 1077
            | 1079
            | 1105
            | 1129
            | 1152..=1161
            | 1203
            | 1205
            | 1213
            | 1226
            | 1317
            | 1412
            | 1927
            | 3169
            | 4031 => CaptureError::transient(
                format!("{source}: {what}: {} (error {})", e.message, e.code),
                Error::Server(e),
            ),
            code => CaptureError::definite(
                format!("{source}: {what}: {} (error {code})", e.message),
                "mend what the server complains of, then run `crossdock check`",
            ),
        },
        Error::Io(error) if is_tls(&error) => CaptureError::definite(
            format!("{source}: {what}: TLS: {error}"),
            "check the certificate's host name and issuer, and `ca_file` of this source",
        ),
        // MySQL says this, too, when there is no such user.
        Error::Driver(DriverError::UnknownAuthPlugin { name }) => CaptureError::definite(
            format!("{source}: {what}: the server asks for {name}, which is not known here"),
            format!(
                "check the user's name; let it be identified with caching_sha2_password \
                 (mysql_native_password or ed25519 on MariaDB), then run: {}",
                grants(options)
            ),
        ),
        error => CaptureError::transient(format!("{source}: {what}: {error}"), error),
    }
}

/// Whether the certificate was refused, rather than the connection lost.
fn is_tls(error: &IoError) -> bool {
    match error {
        IoError::Tls(_) => true,
        IoError::Io(error) => error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()),
    }
}

/// Error 1236: the dump can't go on, for reasons that only its text tells apart.
fn dump_error(options: &SourceOptions, message: &str) -> CaptureError {
    let source = &options.name;
    if message.contains("same server_uuid") || message.contains("same server_id") {
        return CaptureError::definite(
            format!("{source}: another replica uses server id {}: {message}", options.server_id),
            format!("give source {source} a `server_id` that no server or replica uses"),
        );
    }
    if message.contains("GTID_MODE") || message.contains("gtid_mode") {
        return CaptureError::definite(
            format!("{source}: gtid_mode was changed before all was read: {message}"),
            "SET GLOBAL gtid_mode = ON_PERMISSIVE (or OFF_PERMISSIVE, on the way to OFF), wait \
             until this source has caught up, then change it again",
        );
    }
    let memory = ["max_allowed_packet", "memory", "checksum", "bogus data", "corrupt"];
    if memory.iter().any(|word| message.contains(word)) {
        return CaptureError::definite(
            format!("{source}: the server can't read its own binlog: {message}"),
            "check the server's error log and its max_allowed_packet",
        );
    }
    CaptureError::Gap {
        source_name: source.clone(),
        what: format!("the server no longer has what comes next: {message}"),
        remedy: format!(
            "take the snapshot anew (`crossdock resync --source {source}`), and raise \
             binlog_expire_logs_seconds (expire_logs_days) above the longest outage expected"
        ),
    }
}

#[cfg(test)]
mod tests {
    use crossdock_harness::{DaemonOptions, MariaDb};

    use super::connect;
    use crate::mysql::fuzzing;

    /// Without a second try, the chance that all of these succeed is one in fifty.
    const TIMES: usize = 1000;

    #[tokio::test]
    async fn ed25519_is_never_refused_for_its_nonce() {
        let settings = [("plugin_load_add", "auth_ed25519")];
        let server = MariaDb::start_with(&DaemonOptions::with(&settings)).unwrap();
        let user = "CREATE USER signer IDENTIFIED VIA ed25519 USING PASSWORD('secret')";
        server.sql("", user).unwrap();
        let mut options = fuzzing::options(false, Vec::new());
        (options.host, options.port) = ("127.0.0.1".into(), server.port());
        (options.user, options.password) = ("signer".into(), "secret".into());
        for _ in 0..TIMES {
            connect(&options).await.unwrap().disconnect().await.unwrap();
        }
        options.password = "guessed".into();
        let error = connect(&options).await.unwrap_err();
        assert!(error.to_string().contains("Access denied"), "{error}");
    }
}
