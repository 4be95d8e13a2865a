//! A server with a source, a PostgreSQL server with the store, and a Crossdock that captures the
//! source.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use crossdock_harness::{
    Daemon, DaemonOptions, MariaDb, MySql, Postgres, PostgresOptions, free_port,
};
use crossdock_tests::Crossdock;
use serde_json::Value as Json;

/// How long anything may take here.
pub const LIMIT: Duration = Duration::from_secs(120);

/// A server of any kind.
pub enum Source {
    Postgres(Postgres),
    MariaDb(MariaDb),
    MySql(MySql),
}

/// What may be captured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Postgres,
    MariaDb,
    MySql,
}

impl Source {
    /// The word in the config.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::MariaDb(_) => "mariadb",
            Self::MySql(_) => "mysql",
        }
    }

    /// TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        match self {
            Self::Postgres(server) => server.port(),
            Self::MariaDb(server) => server.port(),
            Self::MySql(server) => server.port(),
        }
    }

    /// Kills the server without warning; its data stays.
    pub fn kill(&mut self) {
        match self {
            Self::Postgres(server) => server.kill(),
            Self::MariaDb(server) => server.kill(),
            Self::MySql(server) => server.kill(),
        }
    }

    /// Starts a killed server again, on the same port and data.
    pub fn start_again(&mut self) {
        let started = match self {
            Self::Postgres(server) => server.start_again(),
            Self::MariaDb(server) => server.start_again(),
            Self::MySql(server) => server.start_again(),
        };
        started.unwrap();
    }

    /// Runs SQL; columns of the answer stand behind `|`.
    pub fn sql(&self, database: &str, script: &str) -> Result<String> {
        let of = |server: &Daemon| Ok(server.sql(database, script)?.replace('\t', "|"));
        match self {
            Self::Postgres(server) => server.sql(database, script),
            Self::MariaDb(server) => of(server),
            Self::MySql(server) => of(server),
        }
    }
}

/// The server, the folder with config and state, and the process.
pub struct World {
    pub crossdock: Crossdock,
    pub server: Source,
    /// What is written here must not move the source's log: the store and a place for copies.
    pub store: Postgres,
    folder: tempfile::TempDir,
}

/// Makes a database that belongs to Crossdock's user.
pub fn database(server: &Postgres, name: &str) {
    let role = "DO $$ BEGIN CREATE ROLE crossdock LOGIN REPLICATION PASSWORD 'pw';
                EXCEPTION WHEN duplicate_object THEN NULL; END $$";
    server.sql("postgres", role).unwrap();
    server.sql("postgres", &format!("CREATE DATABASE {name} OWNER crossdock")).unwrap();
}

impl World {
    /// A database `shop` with what `schema` makes, and a config with `settings` in its source.
    pub fn new(schema: &str, settings: &str) -> Self {
        Self::with(&PostgresOptions::default(), schema, settings)
    }

    /// As `new`, on a server with options of its own.
    pub fn with(options: &PostgresOptions, schema: &str, settings: &str) -> Self {
        let server = Postgres::start_with(options).unwrap();
        database(&server, "shop");
        server.sql("shop", schema).unwrap();
        Self::around(Source::Postgres(server), settings)
    }

    /// As `new`, on MariaDB or MySQL.
    pub fn on_binlog(kind: Kind, schema: &str, settings: &str) -> Self {
        let options = DaemonOptions::default();
        let server = match kind {
            Kind::MySql => Source::MySql(MySql::start_with(&options).unwrap()),
            _ => Source::MariaDb(MariaDb::start_with(&options).unwrap()),
        };
        let status = if kind == Kind::MySql { "CLIENT" } else { "CLIENT, SLAVE MONITOR" };
        let user = "crossdock@'127.0.0.1'";
        let sql = format!(
            "CREATE DATABASE shop; CREATE USER {user} IDENTIFIED BY 'pw';
             GRANT SELECT ON shop.* TO {user};
             GRANT REPLICATION SLAVE, RELOAD, REPLICATION {status} ON *.* TO {user};"
        );
        server.sql("", &sql).unwrap();
        server.sql("shop", schema).unwrap();
        Self::around(server, settings)
    }

    /// A store, a place for copies and a Crossdock for a source that is there.
    fn around(server: Source, settings: &str) -> Self {
        let store = Postgres::start().unwrap();
        database(&store, "canonical");
        database(&store, "copy");
        let folder = tempfile::tempdir().unwrap();
        let port = free_port().unwrap();
        let login = |port: u16| {
            format!(
                "host = \"127.0.0.1\"\nport = {port}\nuser = \"crossdock\"\npassword_env = \"PW\"\n"
            )
        };
        let config = format!(
            "[crossdock]\nname = \"test\"\nlisten = \"127.0.0.1:{port}\"\n\n\
             [store]\n{}database = \"canonical\"\n\n\
             [target.copy]\nkind = \"postgres\"\n{}database = \"copy\"\n\n\
             [source.shop]\nkind = \"{}\"\n{}database = \"shop\"\n{settings}\n",
            login(store.port()),
            login(store.port()),
            server.kind(),
            login(server.port())
        );
        fs::write(folder.path().join("crossdock.toml"), config).unwrap();
        let env = [("PW".to_string(), "pw".to_string())];
        let path = folder.path().join("crossdock.toml");
        let crossdock = Crossdock::new(&path, &env, port, folder.path());
        Self { crossdock, server, store, folder }
    }

    /// The config file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("crossdock.toml")
    }

    /// Writes a file beside the config, and the folders above it.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Adds to the end of the config.
    pub fn append(&self, text: &str) {
        let config = fs::read_to_string(self.config()).unwrap() + text;
        fs::write(self.config(), config).unwrap();
    }

    /// Starts Crossdock and waits until nothing is on its way.
    pub fn start(&mut self) {
        self.crossdock.start().unwrap();
        self.crossdock.wait_caught_up(LIMIT).unwrap();
    }

    /// Runs SQL in the source.
    pub fn sql(&self, script: &str) -> String {
        self.server.sql("shop", script).unwrap().trim().to_string()
    }

    /// Runs a command that must succeed; what it printed.
    pub fn done(&self, arguments: &[&str]) -> String {
        let output = self.crossdock.run(arguments).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a command that must be refused; the reason.
    pub fn refused(&self, arguments: &[&str]) -> String {
        let output = self.crossdock.run(arguments).unwrap();
        assert!(!output.status.success(), "{arguments:?} was not refused");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// All journaled events of a table, plain.
    pub fn journal(&self, table: &str) -> Vec<Json> {
        let all = self.done(&["events", "--source", "shop", "--format", "json", "--tables", table]);
        let events = all.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
        // Messages have no table.
        events.filter(|event| event["table"] == table).collect()
    }

    /// How many events of a table are in the journal.
    pub fn events(&self, table: &str) -> usize {
        self.journal(table).len()
    }

    /// Rows of a table, with the first column as the key: what the journal comes to.
    pub fn last_images(&self, table: &str) -> BTreeMap<String, String> {
        let mut rows = BTreeMap::new();
        for event in self.journal(table) {
            let text = |value: &Json| match value {
                Json::String(text) => text.clone(),
                Json::Null => String::new(),
                other => other.to_string(),
            };
            let row = |image: &Json| -> Option<Vec<String>> {
                Some(image.as_object()?.values().map(text).collect())
            };
            match (row(&event["after"]), row(&event["before"])) {
                (Some(row), _) => _ = rows.insert(row[0].clone(), row.join("|")),
                (None, Some(row)) => _ = rows.remove(&row[0]),
                (None, None) => {}
            }
        }
        rows
    }

    /// The rows that the source has.
    pub fn rows(&self, table: &str, columns: &str) -> BTreeMap<String, String> {
        let rows = self.sql(&format!("SELECT {columns} FROM {table}"));
        let pair = |row: &str| (row.split('|').next().unwrap().to_string(), row.to_string());
        rows.lines().map(pair).collect()
    }
}
