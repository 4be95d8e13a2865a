//! Passwords, TLS, and other replicas.

use crossdock_capture::{CaptureError, DatabaseKind, Memory, SourceOptions, Start, Tls, open};
use crossdock_harness::make_certificates;

use super::rig::{Rig, Server, on_both, options};

on_both!(passwords_are_exchanged_with_and_without_tls, a_server_id_used_twice_is_told);

const ITEM: &str = "CREATE DATABASE wms; USE wms; CREATE TABLE item(id INT PRIMARY KEY);
    INSERT INTO item VALUES (1);";

/// Users by name, and how each is identified.
fn users(server: &Server) -> Vec<(&'static str, &'static str)> {
    match server.is_mysql() {
        true => vec![("caching", "WITH caching_sha2_password BY 'secret'")],
        false => vec![
            ("native", "VIA mysql_native_password USING PASSWORD('secret')"),
            ("ed25519", "VIA ed25519 USING PASSWORD('secret')"),
        ],
    }
}

async fn passwords_are_exchanged_with_and_without_tls(kind: DatabaseKind) {
    let folder = tempfile::tempdir().unwrap();
    make_certificates(folder.path(), "mysql").unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (certificate, key) = (path("server.crt"), path("server.key"));
    let mut settings = vec![("ssl_cert", certificate.as_str()), ("ssl_key", key.as_str())];
    if kind == DatabaseKind::Mariadb {
        settings.push(("plugin_load_add", "auth_ed25519"));
    }
    let server = Server::start_with(kind, &settings);
    server.sql("", ITEM).unwrap();
    let mut options = options(&server, &["wms.item"]);
    options.password = "secret".into();
    for (user, identified) in users(&server) {
        server
            .sql(
                "",
                &format!("CREATE USER {user} IDENTIFIED {identified}; GRANT ALL ON *.* TO {user}"),
            )
            .unwrap();
        options.user = user.into();
        options.host = "127.0.0.1".into();
        // Twice: the server asks for the whole exchange once, and then remembers.
        for tls in [Tls::Disable, Tls::Disable] {
            options.tls = tls;
            reads(&options).await;
        }
        server.sql("", "FLUSH PRIVILEGES").unwrap();
        options.host = "localhost".into();
        options.tls = Tls::VerifyFull { ca_file: Some(folder.path().join("ca.crt")), client: None };
        reads(&options).await;
    }
    // Another authority's certificate, and another host's.
    for (host, authority) in [("localhost", "other.crt"), ("127.0.0.1", "ca.crt")] {
        options.host = host.into();
        options.tls =
            Tls::VerifyFull { ca_file: Some(folder.path().join(authority)), client: None };
        let error = open(&options, Start::Snapshot, Memory::default()).await.err().unwrap();
        assert!(matches!(error, CaptureError::Definite { .. }), "{host}: {error:?}");
    }
}

async fn reads(options: &SourceOptions) {
    let mut rig = Rig::open(options, None).await;
    rig.snapshot().await;
    assert_eq!(rig.events("item").len(), 1, "{} {:?}", options.user, options.tls);
    rig.until(|rig| rig.blocks.last().is_some_and(|block| block.boundary)).await;
}

async fn a_server_id_used_twice_is_told(kind: DatabaseKind) {
    let server = Server::start(kind);
    server.sql("", ITEM).unwrap();
    let options = options(&server, &["wms.item"]);
    let mut first = Rig::open(&options, None).await;
    first.snapshot().await;
    server.sql("wms", "INSERT INTO item VALUES (2)").unwrap();
    first.until(|rig| rig.events("item").len() == 2).await;
    let from = first.durable.clone().unwrap();
    let mut second = Rig::open(&options, Some(&from)).await;
    server.sql("wms", "INSERT INTO item VALUES (3)").unwrap();
    second.until(|rig| rig.events("item").len() == 1).await;
    let error = first.error().await;
    assert!(error.to_string().contains("server_id"), "{error:?}");
}
