//! The database server of the system that is tried.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use crossdock_harness::{MariaDb, Postgres};

/// A private server with a database for the system.
pub struct System {
    server: Server,
    database: String,
}

enum Server {
    /// PostgreSQL; the system is its superuser.
    Postgres(Postgres),
    /// MariaDB; the system is `root`.
    MariaDb(MariaDb),
}

impl System {
    /// Starts a server with an empty database of that name.
    pub fn start(kind: &str, database: &str) -> Result<Self> {
        let create = format!("CREATE DATABASE {database}");
        let server = match kind {
            "postgres" => {
                let server = Postgres::start()?;
                server.sql("postgres", &create)?;
                Server::Postgres(server)
            }
            "mariadb" => {
                let server = MariaDb::start()?;
                server.sql("", &format!("{create} CHARACTER SET utf8mb4"))?;
                Server::MariaDb(server)
            }
            other => bail!("there is no kind of server called {other}"),
        };
        Ok(Self { server, database: database.to_string() })
    }

    /// Where it is, for the driver and for the connector's config.
    pub fn environment(&self) -> Vec<(String, String)> {
        let (port, user) = match &self.server {
            Server::Postgres(server) => (server.port(), "postgres"),
            Server::MariaDb(server) => (server.port(), "root"),
        };
        let port = port.to_string();
        [
            ("SYSTEM_HOST", "127.0.0.1"),
            ("SYSTEM_PORT", &port),
            ("SYSTEM_DATABASE", &self.database),
            ("SYSTEM_USER", user),
            ("CROSSDOCK_PASSWORD", "connector"),
        ]
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .to_vec()
    }

    /// Makes the login `crossdock`, and runs a file of SQL in the database.
    pub fn run_file(&self, path: &Path) -> Result<()> {
        let script = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        match &self.server {
            Server::Postgres(server) => {
                let role = "CREATE ROLE crossdock LOGIN REPLICATION PASSWORD 'connector'";
                server.sql("postgres", role)?;
                server.sql(&self.database, &script)?;
            }
            Server::MariaDb(server) => {
                server.sql("", "CREATE USER crossdock@'127.0.0.1' IDENTIFIED BY 'connector'")?;
                server.sql(&self.database, &script)?;
            }
        }
        Ok(())
    }
}
