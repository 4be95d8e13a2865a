//! TLS: the server's certificate is checked, the password exchange is bound to it, and ours is
//! shown where the server asks for it.

use crossdock_capture::ClientCertificate;
use crossdock_harness::make_certificates;

use super::*;

#[tokio::test]
async fn connections_are_encrypted_and_bound_to_the_certificate() {
    let folder = tempfile::tempdir().unwrap();
    make_certificates(folder.path(), "postgres").unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let settings = vec![
        ("ssl".to_string(), "on".to_string()),
        ("ssl_cert_file".to_string(), path("server.crt")),
        ("ssl_key_file".to_string(), path("server.key")),
    ];
    let server = Postgres::start_with(&PostgresOptions { settings, ..Default::default() }).unwrap();
    let script = "CREATE TABLE item(id int PRIMARY KEY); INSERT INTO item VALUES (1);
                  CREATE ROLE over_tls SUPERUSER LOGIN PASSWORD 'secret';";
    let (mut options, client) =
        database_on(server.port(), "encrypted", script, &["public.item"]).await;
    options.user = "over_tls".to_string();
    options.password = "secret".into();
    options.host = "localhost".to_string();
    options.tls = Tls::VerifyFull { ca_file: Some(folder.path().join("ca.crt")), client: None };
    let mut reader = open(&options, None).await;
    assert_eq!(changes(&snapshot(&mut reader).await).len(), 1);
    client.batch_execute("INSERT INTO item SELECT generate_series(2, 20000)").await.unwrap();
    say_done(&client).await;
    assert_eq!(changes(&until_done(&mut reader).await).len(), 19_999);
    let sql = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_replication USING (pid) WHERE ssl";
    assert_eq!(client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), 1);
    // Another CA's certificate, and another host's.
    options.tls = Tls::VerifyFull { ca_file: Some(folder.path().join("other.crt")), client: None };
    let error = postgres::open(&options, Start::Snapshot, Memory::default()).await.err().unwrap();
    assert!(matches!(error, CaptureError::Definite { .. }), "{error}");
    options.tls = Tls::VerifyFull { ca_file: Some(folder.path().join("ca.crt")), client: None };
    options.host = "127.0.0.1".to_string();
    let error = postgres::open(&options, Start::Snapshot, Memory::default()).await.err().unwrap();
    assert!(matches!(error, CaptureError::Definite { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_gets_it() {
    let folder = tempfile::tempdir().unwrap();
    make_certificates(folder.path(), "postgres").unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let settings = vec![
        ("ssl".to_string(), "on".to_string()),
        ("ssl_cert_file".to_string(), path("server.crt")),
        ("ssl_key_file".to_string(), path("server.key")),
        ("ssl_ca_file".to_string(), path("ca.crt")),
    ];
    let asks = |database: &str| {
        format!("hostssl {database} by_cert 127.0.0.1/32 scram-sha-256 clientcert=verify-full")
    };
    let hba = vec![asks("all"), asks("replication")];
    let options = PostgresOptions { settings, hba, ..Default::default() };
    let server = Postgres::start_with(&options).unwrap();
    let script = "CREATE TABLE item(id int PRIMARY KEY); INSERT INTO item VALUES (1);
                  CREATE ROLE by_cert SUPERUSER LOGIN PASSWORD 'secret';";
    let (mut options, client) =
        database_on(server.port(), "certified", script, &["public.item"]).await;
    options.user = "by_cert".to_string();
    options.password = "secret".into();
    options.host = "localhost".to_string();
    let show = |name: Option<&str>| Tls::VerifyFull {
        ca_file: Some(folder.path().join("ca.crt")),
        client: name.map(|name| ClientCertificate {
            cert_file: folder.path().join(format!("{name}.crt")),
            key_file: folder.path().join(format!("{name}.key")),
        }),
    };
    // None, one of another CA, one of another name, a key that is not the certificate's.
    for wrong in [None, Some("other"), Some("server")] {
        options.tls = show(wrong);
        let opened = postgres::open(&options, Start::Snapshot, Memory::default()).await;
        let error = opened.err().expect("is not let in");
        assert!(matches!(error, CaptureError::Definite { .. }), "{wrong:?}: {error}");
        assert!(error.to_string().contains("tls_client_cert"), "{wrong:?}: {error}");
    }
    std::fs::copy(folder.path().join("ca.key"), folder.path().join("mixed.key")).unwrap();
    std::fs::copy(folder.path().join("client.crt"), folder.path().join("mixed.crt")).unwrap();
    for wrong in ["mixed", "missing"] {
        options.tls = show(Some(wrong));
        let error = postgres::check(&options).await.err().unwrap();
        assert!(error.to_string().contains(&format!("{wrong}.")), "{error}");
    }
    options.tls = show(Some("client"));
    let mut reader = open(&options, None).await;
    assert_eq!(changes(&snapshot(&mut reader).await).len(), 1);
    client.batch_execute("INSERT INTO item VALUES (2)").await.unwrap();
    say_done(&client).await;
    assert_eq!(changes(&until_done(&mut reader).await).len(), 1);
}
