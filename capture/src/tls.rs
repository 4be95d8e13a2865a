//! The client's side of TLS, as the options of a source ask for it.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::{CaptureError, ClientCertificate, DatabaseKind, SourceOptions, Tls};

/// The client's configuration; `None` for a connection without TLS.
pub(crate) fn config(options: &SourceOptions) -> Result<Option<ClientConfig>, CaptureError> {
    let Tls::VerifyFull { ca_file, client } = &options.tls else { return Ok(None) };
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(file) => {
            let wrong = |why: String| {
                CaptureError::definite(
                    format!("source {}: ca_file {}: {why}", options.name, file.display()),
                    "give a readable PEM file with the CA's certificate",
                )
            };
            let certificates =
                CertificateDer::pem_file_iter(file).map_err(|e| wrong(e.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|e| wrong(e.to_string()))?;
                roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
            }
            if roots.is_empty() {
                return Err(wrong("holds no certificate".to_string()));
            }
        }
        None => known_authorities(options, &mut roots)?,
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| CaptureError::definite(format!("TLS: {e}"), "report this"))?
        .with_root_certificates(roots);
    Ok(Some(match client {
        None => config.with_no_client_auth(),
        Some(client) => {
            let (chain, key) = ours(options, client)?;
            config
                .with_client_auth_cert(chain, key)
                .map_err(|e| bad_client(options, &client.cert_file, e.to_string()))?
        }
    }))
}

/// The name that the server's certificate must have.
pub(crate) fn server_name(options: &SourceOptions) -> Result<ServerName<'static>, CaptureError> {
    ServerName::try_from(options.host.clone()).map_err(|_| {
        CaptureError::definite(
            format!("source {}: `{}` is no name for a certificate", options.name, options.host),
            "give the host as it stands in the server's certificate",
        )
    })
}

/// The authorities that are trusted without a `ca_file`: the system's; for MySQL and MariaDB those
/// that their library brings along, since its connections of the same source trust these.
fn known_authorities(
    options: &SourceOptions,
    roots: &mut RootCertStore,
) -> Result<(), CaptureError> {
    if options.kind != DatabaseKind::Postgres {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok(());
    }
    // Single certificates of the system that can't be read are of no use to anybody.
    for certificate in rustls_native_certs::load_native_certs().certs {
        let _ = roots.add(certificate);
    }
    if roots.is_empty() {
        return Err(CaptureError::definite(
            format!("source {}: this system has no root certificates", options.name),
            "install the system's CA certificates, or give `ca_file`",
        ));
    }
    Ok(())
}

/// The certificates that we show, and the key of the first.
fn ours(
    options: &SourceOptions,
    client: &ClientCertificate,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), CaptureError> {
    let wrong =
        |e: rustls_pki_types::pem::Error| bad_client(options, &client.cert_file, e.to_string());
    let chain = CertificateDer::pem_file_iter(&client.cert_file).map_err(wrong)?;
    let chain: Vec<CertificateDer<'static>> = chain.collect::<Result<_, _>>().map_err(wrong)?;
    let key = PrivateKeyDer::from_pem_file(&client.key_file)
        .map_err(|e| bad_client(options, &client.key_file, e.to_string()))?;
    Ok((chain, key))
}

fn bad_client(options: &SourceOptions, file: &Path, why: String) -> CaptureError {
    CaptureError::definite(
        format!("source {}: {}: {why}", options.name, file.display()),
        "name a certificate in `tls_client_cert` and its private key, not encrypted, in \
         `tls_client_key`, both as PEM",
    )
}
