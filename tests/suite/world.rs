//! A PostgreSQL server with a source, another with the store, and a Crossdock that captures the
//! source.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crossdock_harness::{Postgres, PostgresOptions, free_port};
use crossdock_tests::Crossdock;
use serde_json::Value as Json;

/// How long anything may take here.
pub const LIMIT: Duration = Duration::from_secs(120);

/// The server, the folder with config and state, and the process.
pub struct World {
    pub crossdock: Crossdock,
    pub server: Postgres,
    /// What is written here must not move the source's log: the store and a place for copies.
    pub store: Postgres,
    folder: tempfile::TempDir,
}

impl World {
    /// A database `shop` with what `schema` makes, and a config with `settings` in its source.
    pub fn new(schema: &str, settings: &str) -> Self {
        Self::with(&PostgresOptions::default(), schema, settings)
    }

    /// As `new`, on a server with options of its own.
    pub fn with(options: &PostgresOptions, schema: &str, settings: &str) -> Self {
        let server = Postgres::start_with(options).unwrap();
        let store = Postgres::start().unwrap();
        for (server, database) in [(&server, "shop"), (&store, "canonical"), (&store, "copy")] {
            let role = "DO $$ BEGIN CREATE ROLE crossdock LOGIN REPLICATION PASSWORD 'pw';
                        EXCEPTION WHEN duplicate_object THEN NULL; END $$";
            server.sql("postgres", role).unwrap();
            let sql = format!("CREATE DATABASE {database} OWNER crossdock");
            server.sql("postgres", &sql).unwrap();
        }
        server.sql("shop", schema).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let port = free_port().unwrap();
        let login = |server: &Postgres| {
            let port = server.port();
            format!(
                "host = \"127.0.0.1\"\nport = {port}\nuser = \"crossdock\"\npassword_env = \"PW\"\n"
            )
        };
        let config = format!(
            "[crossdock]\nname = \"test\"\nlisten = \"127.0.0.1:{port}\"\n\n\
             [store]\n{}database = \"canonical\"\n\n\
             [target.copy]\nkind = \"postgres\"\n{}database = \"copy\"\n\n\
             [source.shop]\nkind = \"postgres\"\n{}database = \"shop\"\n{settings}\n",
            login(&store),
            login(&store),
            login(&server)
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
