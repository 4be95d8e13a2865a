//! TLS: the certificate is checked, and the password exchange is bound to it.

use std::path::Path;
use std::process::Command;

use super::*;

#[tokio::test]
async fn connections_are_encrypted_and_bound_to_the_certificate() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
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
    options.tls = Tls::VerifyFull { ca_file: Some(folder.path().join("ca.crt")) };
    let mut reader = open(&options, None).await;
    assert_eq!(changes(&snapshot(&mut reader).await).len(), 1);
    client.batch_execute("INSERT INTO item SELECT generate_series(2, 20000)").await.unwrap();
    say_done(&client).await;
    assert_eq!(changes(&until_done(&mut reader).await).len(), 19_999);
    let sql = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_replication USING (pid) WHERE ssl";
    assert_eq!(client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), 1);
    // Another CA's certificate, and another host's.
    options.tls = Tls::VerifyFull { ca_file: Some(folder.path().join("other.crt")) };
    let error = postgres::open(&options, Start::Snapshot, Memory::default()).await.err().unwrap();
    assert!(matches!(error, CaptureError::Definite { .. }), "{error}");
    options.tls = Tls::VerifyFull { ca_file: Some(folder.path().join("ca.crt")) };
    options.host = "127.0.0.1".to_string();
    let error = postgres::open(&options, Start::Snapshot, Memory::default()).await.err().unwrap();
    assert!(matches!(error, CaptureError::Definite { .. }), "{error}");
}

/// Two CAs, and a certificate of the first for `localhost`, signed with SHA-384.
fn certificates(folder: &Path) {
    std::fs::write(folder.join("leaf.ext"), "subjectAltName = DNS:localhost\n").unwrap();
    let new_key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for name in ["ca", "other"] {
        openssl(
            folder,
            &format!(
                "req -x509 {new_key} -days 30 -subj /CN={name} -keyout {name}.key -out {name}.crt"
            ),
        );
    }
    openssl(folder, &format!("req {new_key} -subj /CN=server -keyout server.key -out server.csr"));
    openssl(
        folder,
        "x509 -req -sha384 -days 30 -in server.csr -CA ca.crt -CAkey ca.key \
                     -CAcreateserial -extfile leaf.ext -out server.crt",
    );
    // The server runs as another user when we are root, and wants to own its key.
    let _ = Command::new("chown").arg("-R").arg("postgres").arg(folder).output();
}

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .output()
        .expect("openssl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
