//! Connections to the databases that are written to.

use std::sync::Arc;
use std::time::Duration;

use mysql_async::{ClientIdentity, Conn, Opts, OptsBuilder, SslOpts};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use secrecy::ExposeSecret;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{ApplyError, ClientCertificate, ConnectOptions, Tls, classify};

const CONNECT_SECONDS_MAX: u64 = 15;
/// A peer that vanished without a word is noticed after this long.
const SILENCE_SECONDS_MAX: u64 = 30;
/// The error of a password that is not the right one.
const REFUSED: u16 = 1045;
/// How often a log-in is tried before it counts as refused.
const LOG_INS: usize = 3;

/// Connects to PostgreSQL; times are UTC in both directions.
pub(crate) async fn postgres(options: &ConnectOptions) -> Result<Client, ApplyError> {
    let mut config = tokio_postgres::Config::new();
    config
        .host(&options.host)
        .port(options.port)
        .user(&options.user)
        .password(options.password.expose_secret())
        .dbname(&options.database)
        .application_name("crossdock")
        .connect_timeout(Duration::from_secs(CONNECT_SECONDS_MAX))
        .keepalives_idle(Duration::from_secs(SILENCE_SECONDS_MAX))
        .tcp_user_timeout(Duration::from_secs(SILENCE_SECONDS_MAX));
    let failed = |e| classify::postgres(&options.name, "connecting", e);
    let client = match &options.tls {
        Tls::Disable => {
            config.ssl_mode(SslMode::Disable);
            let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
            drive(options.name.clone(), connection);
            client
        }
        Tls::VerifyFull { ca_file, client } => {
            config.ssl_mode(SslMode::Require);
            let roots = roots(&options.name, ca_file.as_deref())?;
            let tls = client_config(&options.name, roots, client.as_ref())?;
            let tls = MakeRustlsConnect::new(tls);
            let (client, connection) = config.connect(tls).await.map_err(failed)?;
            drive(options.name.clone(), connection);
            client
        }
    };
    client
        .batch_execute("SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'")
        .await
        .map_err(|e| classify::postgres(&options.name, "preparing the session", e))?;
    Ok(client)
}

/// Runs a connection until its client is dropped or it breaks; the client reports the error.
fn drive<C>(name: String, connection: C)
where
    C: Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static,
{
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(server = %name, %error, "connection ended");
        }
    });
}

/// Connects to MySQL or MariaDB; times are UTC in both directions, and a value that does not fit
/// is an error rather than a warning.
pub(crate) async fn mysql(options: &ConnectOptions) -> Result<Conn, ApplyError> {
    let ssl = match &options.tls {
        Tls::Disable => None,
        Tls::VerifyFull { ca_file, client } => {
            // mysql_async takes the provider of the process; a second installation is refused,
            // which is as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let roots = certificates(&options.name, ca_file.as_deref())?;
            let roots = roots.into_iter().map(|c| c.as_ref().to_vec().into()).collect();
            let ours = client.as_ref().map(|client| {
                let ClientCertificate { cert_file, key_file } = client.clone();
                ClientIdentity::new(cert_file.into(), key_file.into())
            });
            Some(
                SslOpts::default()
                    .with_root_certs(roots)
                    .with_disable_built_in_roots(true)
                    .with_client_identity(ours),
            )
        }
    };
    let setup = [
        "SET NAMES utf8mb4",
        "SET SESSION time_zone = '+00:00'",
        // NO_AUTO_VALUE_ON_ZERO: a key of 0 stays 0.
        "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,\
         ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_VALUE_ON_ZERO'",
    ];
    let opts = OptsBuilder::default()
        .ip_or_hostname(options.host.clone())
        .tcp_port(options.port)
        .user(Some(options.user.clone()))
        .pass(Some(options.password.expose_secret().to_string()))
        .db_name(Some(options.database.clone()))
        .prefer_socket(false)
        .tcp_keepalive(Some(Duration::from_secs(SILENCE_SECONDS_MAX)))
        .stmt_cache_size(Some(64))
        .setup(setup.map(String::from).to_vec())
        .ssl_opts(ssl);
    let connecting =
        tokio::time::timeout(Duration::from_secs(CONNECT_SECONDS_MAX), log_in(opts.into()));
    match connecting.await {
        Ok(connected) => connected.map_err(|e| classify::mysql(&options.name, "connecting", e)),
        Err(_) => Err(ApplyError::Transient {
            what: format!("{}: no answer within {CONNECT_SECONDS_MAX} s", options.name),
            source: None,
        }),
    }
}

/// Logs in; refused, again. The library cuts a nonce that ends with a zero, as one in 256 of ed25519's
/// does, and the server then refuses the right password.
async fn log_in(opts: Opts) -> Result<Conn, mysql_async::Error> {
    for _ in 1..LOG_INS {
        match Conn::new(opts.clone()).await {
            Err(mysql_async::Error::Server(error)) if error.code == REFUSED => {}
            other => return other,
        }
    }
    Conn::new(opts).await
}

fn certificates(
    name: &str,
    ca_file: Option<&std::path::Path>,
) -> Result<Vec<CertificateDer<'static>>, ApplyError> {
    let Some(path) = ca_file else {
        return Ok(rustls_native_certs::load_native_certs().certs);
    };
    let bad = |e: rustls::pki_types::pem::Error| ApplyError::Definite {
        what: format!("{name}: can't read certificates from {}: {e}", path.display()),
        remedy: "name a readable PEM file in `ca_file`".into(),
    };
    CertificateDer::pem_file_iter(path).map_err(bad)?.collect::<Result<_, _>>().map_err(bad)
}

fn roots(name: &str, ca_file: Option<&std::path::Path>) -> Result<RootCertStore, ApplyError> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates(name, ca_file)?);
    if store.is_empty() {
        return Err(ApplyError::Definite {
            what: format!("{name}: no root certificate to check the server's against"),
            remedy: "install the system's root certificates or set `ca_file`".into(),
        });
    }
    Ok(store)
}

/// How TLS is spoken with a server whose certificate is checked.
pub(crate) fn tls_config(
    name: &str,
    ca_file: Option<&std::path::Path>,
) -> Result<ClientConfig, ApplyError> {
    client_config(name, roots(name, ca_file)?, None)
}

fn client_config(
    name: &str,
    roots: RootCertStore,
    client: Option<&ClientCertificate>,
) -> Result<ClientConfig, ApplyError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| classify::fault(name, "setting up TLS", "report this build of crossdock"))?
        .with_root_certificates(roots);
    let Some(client) = client else { return Ok(builder.with_no_client_auth()) };
    let bad = |file: &std::path::Path, why: String| ApplyError::Definite {
        what: format!("{name}: {}: {why}", file.display()),
        remedy: "name a certificate in `tls_client_cert` and its private key, not encrypted, in \
                 `tls_client_key`, both as PEM"
            .into(),
    };
    let chain = certificates(name, Some(&client.cert_file))?;
    let key = PrivateKeyDer::from_pem_file(&client.key_file)
        .map_err(|e| bad(&client.key_file, e.to_string()))?;
    builder.with_client_auth_cert(chain, key).map_err(|e| bad(&client.cert_file, e.to_string()))
}
