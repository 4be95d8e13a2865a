//! Logins, `check`, `describe` and the probe.

use crossdock_capture::Severity;

use super::*;

#[tokio::test]
async fn a_login_with_the_grants_that_check_asks_for_is_enough() {
    let script = "CREATE TABLE item(id int PRIMARY KEY); INSERT INTO item VALUES (1);
                  CREATE TABLE keyless(id int);
                  CREATE ROLE plain_login LOGIN PASSWORD 'päss\\word ''';
                  REVOKE CONNECT ON DATABASE grants FROM public;
                  GRANT CONNECT ON DATABASE grants TO plain_login;";
    let (mut options, client) =
        database("grants", script, &["public.item", "public.keyless"]).await;
    options.user = "plain_login".to_string();
    options.password = "wrong".into();
    let error = postgres::open(&options, Start::Snapshot, Memory::default()).await.err().unwrap();
    assert!(matches!(error, CaptureError::Definite { .. }), "{error}");
    assert!(!error.to_string().contains("wrong"), "{error}");
    options.password = "päss\\word '".into();
    let findings = postgres::check(&options).await.unwrap();
    let errors: Vec<&str> = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .map(|finding| &*finding.remedy)
        .collect();
    assert_eq!(
        errors,
        [
            "ALTER ROLE \"plain_login\" REPLICATION;",
            "GRANT USAGE ON SCHEMA \"public\" TO \"plain_login\"; \
             GRANT SELECT ON \"public\".\"item\" TO \"plain_login\";",
            "GRANT USAGE ON SCHEMA \"public\" TO \"plain_login\"; \
             GRANT SELECT ON \"public\".\"keyless\" TO \"plain_login\";",
            "let the owner of the tables run: CREATE PUBLICATION \"pub_grants\" FOR TABLE \
             ONLY \"public\".\"item\", ONLY \"public\".\"keyless\" \
             WITH (publish_via_partition_root = true);",
        ]
    );
    let warned = |text: &str| {
        let mut warnings = findings.iter().filter(|f| f.severity == Severity::Warning);
        warnings.any(|finding| finding.remedy.contains(text))
    };
    assert!(warned("ALTER TABLE \"public\".\"keyless\" REPLICA IDENTITY FULL;"));
    assert!(warned("max_slot_wal_keep_size"));
    for remedy in errors {
        let statement = remedy.strip_prefix("let the owner of the tables run: ").unwrap_or(remedy);
        client.batch_execute(statement).await.unwrap();
    }
    let findings = postgres::check(&options).await.unwrap();
    assert!(findings.iter().all(|finding| finding.severity != Severity::Error), "{findings:?}");
    let mut reader = open(&options, None).await;
    assert_eq!(changes(&snapshot(&mut reader).await).len(), 1);
    client.batch_execute("INSERT INTO item VALUES (2)").await.unwrap();
    say_done(&client).await;
    assert_eq!(changes(&until_done(&mut reader).await).len(), 1);
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let (mut options, _client) = database("missing", "SELECT 1", &["public.nowhere"]).await;
    let error = postgres::open(&options, Start::Snapshot, Memory::default())
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("public.nowhere does not exist"), "{error}");
    options.database = "no_such_database".to_string();
    let error = postgres::open(&options, Start::Snapshot, Memory::default()).await.err().unwrap();
    assert!(matches!(error, CaptureError::Definite { .. }), "{error}");
    options.port = crossdock_harness::free_port().unwrap();
    let error = postgres::open(&options, Start::Snapshot, Memory::default()).await.err().unwrap();
    assert!(error.is_transient(), "{error}");
}

#[tokio::test]
async fn describe_names_types_and_keys() {
    let script = "CREATE TABLE pair(note varchar(20), b text NOT NULL, a int NOT NULL,
                                    PRIMARY KEY (a, b));";
    let (options, _client) = database("described", script, &["public.pair", "public.no"]).await;
    let schemas = postgres::describe(&options).await.unwrap();
    let columns: Vec<_> =
        schemas[0].columns.iter().map(|c| (&*c.name, &*c.type_name, c.nullable, c.key)).collect();
    assert_eq!(
        columns,
        [
            ("note", "character varying(20)", true, None),
            ("b", "text", false, Some(1)),
            ("a", "integer", false, Some(0)),
        ]
    );
    assert_eq!(schemas.len(), 1);
}

#[tokio::test]
async fn the_probe_measures_against_the_server() {
    let script = "CREATE TABLE item(id int PRIMARY KEY)";
    let (options, client) = database("probed", script, &["public.item"]).await;
    let mut reader = open(&options, None).await;
    let position = snapshot(&mut reader).await.pop().unwrap().end;
    let mut probe = postgres::probe(&options).await.unwrap();
    let insert = "INSERT INTO item SELECT generate_series(1, 10000)";
    client.batch_execute(insert).await.unwrap();
    let head = probe.head(Some(&position)).await.unwrap();
    // 10,000 rows are more than 500 kB of log.
    assert!(head.behind_bytes > 500_000 && head.retained_bytes >= head.behind_bytes, "{head:?}");
    // Where the log ends: other tests write to the same server.
    let before = head.position;
    let head = probe.head(Some(&before)).await.unwrap();
    let sql = format!("SELECT (pg_current_wal_insert_lsn() - '{before}'::pg_lsn)::int8");
    let most: i64 = client.query_one(&sql, &[]).await.unwrap().get(0);
    assert!(i64::try_from(head.behind_bytes).unwrap() <= most, "{head:?}, at most {most}");
}
