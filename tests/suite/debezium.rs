//! `crossdock events` against what Debezium wrote for the same changes (`tests/oracle`): every
//! type, every kind of event, each setting, through real servers and the real program. Where
//! Crossdock differs on purpose, the difference has a name and a reason in `differences`; each
//! must occur, and anything else fails.

mod compare;
mod differences;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossdock_harness::{Daemon, MariaDb, MySql, Postgres, free_port, wait_until};
use crossdock_tests::Crossdock;
use serde_json::Value as Json;
use tempfile::TempDir;

use compare::Comparison;

/// One recording and the arguments that ask for the same.
struct Case {
    file: &'static str,
    arguments: &'static [&'static str],
}

const POSTGRES: &[Case] = &[
    Case { file: "default", arguments: &[] },
    Case {
        file: "precise",
        arguments: &[
            "--decimal-handling-mode=string",
            "--hstore-handling-mode=map",
            "--interval-handling-mode=string",
            "--time-precision-mode=microseconds",
            "--binary-handling-mode=hex",
        ],
    },
    Case {
        file: "iso",
        arguments: &[
            "--decimal-handling-mode=double",
            "--time-precision-mode=isostring",
            "--binary-handling-mode=base64",
        ],
    },
    Case { file: "schemas", arguments: &["--schemas-enable"] },
    Case {
        file: "txmeta",
        arguments: &["--provide-transaction-metadata", "--tables=public.compkey"],
    },
    Case {
        file: "flat",
        arguments: &[
            "--unwrap",
            "--delete-tombstone-handling-mode=rewrite",
            "--add-fields=op,table,lsn,source.ts_ms",
            "--tables=public.compkey,public.tm_full",
        ],
    },
    Case { file: "outbox", arguments: &["--outbox", "--tables=public.outbox"] },
    Case {
        file: "outbox2",
        arguments: &[
            "--outbox",
            "--tables=public.outbox",
            "--table-expand-json-payload",
            "--table-fields-additional-placement=type:header:eventType,tenant:envelope,\
             created_at:header:createdAt",
        ],
    },
];

const MARIADB: &[Case] = &[
    Case { file: "default", arguments: &[] },
    Case {
        file: "precise",
        arguments: &[
            "--decimal-handling-mode=string",
            "--bigint-unsigned-handling-mode=precise",
            "--binary-handling-mode=hex",
        ],
    },
    Case {
        file: "iso",
        arguments: &[
            "--decimal-handling-mode=double",
            "--time-precision-mode=isostring",
            "--binary-handling-mode=base64",
        ],
    },
    Case { file: "schemas", arguments: &["--schemas-enable"] },
    Case { file: "outbox", arguments: &["--outbox", "--tables=oracle.outbox"] },
];

const MYSQL: &[Case] = &[Case { file: "default", arguments: &[] }];

fn oracle(folder: &str, file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle").join(folder).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A `crossdock` with one source, `o`, and a store.
struct Rig {
    crossdock: Crossdock,
    config: PathBuf,
    _folder: TempDir,
    _store: Option<Postgres>,
}

impl Rig {
    fn start(source: &str, store_port: u16, store: Option<Postgres>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port().unwrap();
        let config = folder.path().join("crossdock.toml");
        let text = format!(
            "[crossdock]\nname = \"oracle\"\nlisten = \"127.0.0.1:{port}\"\n\n\
             [store]\nhost = \"127.0.0.1\"\nport = {store_port}\ndatabase = \"canonical\"\n\
             user = \"postgres\"\n\n[source.o]\nhost = \"127.0.0.1\"\ndatabase = \"oracle\"\n\
             {source}\n"
        );
        fs::write(&config, text).unwrap();
        let mut crossdock = Crossdock::new(&config, &[], port, folder.path());
        crossdock.start().unwrap();
        let rig = Self { crossdock, config, _folder: folder, _store: store };
        let up = wait_until(Duration::from_secs(30), || {
            let status = rig.crossdock.status().unwrap_or_default();
            let source = &status["sources"][0];
            source["state"] == "running" && !source["position"].is_null()
        });
        assert!(up, "no stream:\n{}", rig.crossdock.log_tail());
        rig
    }

    fn events(&self, arguments: &[&str]) -> Vec<Json> {
        let mut all = vec!["events", "--source=o"];
        all.extend(arguments);
        let output = self.crossdock.run(&all).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?} {}: {errors}", self.config.display());
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until the last change has been journaled; the process still runs.
    fn wait_for(&self, last: &dyn Fn(&Json) -> bool) {
        let there = wait_until(Duration::from_secs(30), || {
            self.events(&["--format=json"]).last().is_some_and(last)
        });
        assert!(there, "the last change did not come:\n{}", self.crossdock.log_tail());
    }

    /// Makes the recorded changes, and lets each be captured before a table is altered: the log of
    /// MariaDB and MySQL has no defaults, which are asked of the server when they are needed.
    fn change(&self, server: &Daemon, folder: &str) {
        const ALTER: &str = "ALTER TABLE";
        let script = oracle(folder, "changes.sql");
        let mut pieces = script.split(ALTER);
        server.sql("oracle", pieces.next().unwrap_or_default()).unwrap();
        self.wait_for(&|event| event["op"] == "t");
        for (row, piece) in (11..).zip(pieces) {
            server.sql("oracle", &format!("{ALTER}{piece}")).unwrap();
            self.wait_for(&|event| event["after"]["a"] == row || event["op"] == "d");
        }
        self.wait_for(&|event| event["table"] == "oracle.outbox" && event["op"] == "d");
    }

    fn compare(&self, folder: &str, cases: &[Case], comparison: &mut Comparison) {
        for case in cases {
            let theirs = oracle(folder, &format!("{}.jsonl", case.file));
            let theirs = theirs.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let mut arguments = vec!["--skipped-operations=none", "--topic-prefix=o"];
            arguments.extend(case.arguments);
            comparison.file(&format!("{folder}/{}", case.file), self.events(&arguments), theirs);
        }
        comparison.finish();
    }
}

#[test]
fn postgres_events_are_debeziums() {
    let server = Postgres::start().unwrap();
    server.sql("postgres", "CREATE DATABASE canonical").unwrap();
    server.sql("postgres", "CREATE DATABASE oracle").unwrap();
    server.sql("oracle", &oracle("postgres", "types.sql")).unwrap();
    let source = format!(
        "kind = \"postgres\"\nport = {}\nuser = \"postgres\"\ntables = ['public.tm', \
         'public.tm_full', 'public.tm_nopk', 'public.toasty', 'public.toasty_full', \
         'public.compkey', 'public.We\"ird Näme', 'public.part', 'public.outbox']",
        server.port()
    );
    let mut rig = Rig::start(&source, server.port(), None);
    server.sql("oracle", &oracle("postgres", "changes.sql")).unwrap();
    rig.wait_for(&|event| event["after"]["aggregateid"] == "43");
    rig.crossdock.kill();
    rig.compare("postgres", POSTGRES, &mut Comparison::new(differences::POSTGRES));
}

#[test]
fn mariadb_events_are_debeziums() {
    let server = MariaDb::start().unwrap();
    let grants = "REPLICATION SLAVE, BINLOG MONITOR, RELOAD, SLAVE MONITOR";
    let mut comparison = Comparison::new(differences::MARIADB);
    binlog_events_are_debeziums(&server, "mariadb", grants, MARIADB, &mut comparison);
}

#[test]
fn mysql_events_are_debeziums() {
    if !MySql::installed() {
        return;
    }
    let server = MySql::start().unwrap();
    let grants = "REPLICATION SLAVE, REPLICATION CLIENT, RELOAD";
    let mut comparison = Comparison::new(differences::MYSQL);
    binlog_events_are_debeziums(&server, "mysql", grants, MYSQL, &mut comparison);
}

/// `kind` is that of the source, and the folder with its recordings.
fn binlog_events_are_debeziums(
    server: &Daemon,
    kind: &str,
    grants: &str,
    cases: &[Case],
    comparison: &mut Comparison,
) {
    let store = Postgres::start().unwrap();
    store.sql("postgres", "CREATE DATABASE canonical").unwrap();
    server.sql("", &oracle(kind, "types.sql")).unwrap();
    let user = "crossdock@'127.0.0.1'";
    let sql = format!(
        "CREATE USER {user}; GRANT SELECT ON oracle.* TO {user}; GRANT {grants} ON *.* TO {user}"
    );
    server.sql("", &sql).unwrap();
    let source = format!(
        "kind = \"{kind}\"\nport = {}\nuser = \"crossdock\"\ntables = ['oracle.tm', \
         'oracle.compkey', 'oracle.nopk', 'oracle.We`ird Näme', 'oracle.outbox']",
        server.port()
    );
    let port = store.port();
    let mut rig = Rig::start(&source, port, Some(store));
    rig.change(server, kind);
    rig.crossdock.kill();
    rig.compare(kind, cases, comparison);
}
