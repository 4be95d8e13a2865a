//! The database server of the system that is tried.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use crossdock_harness::{MariaDb, Postgres};

/// The database that the system is given.
const DATABASE: &str = "system";

/// A private server.
pub enum System {
    /// PostgreSQL; the system is its superuser.
    Postgres(Postgres),
    /// MariaDB; the system is `root`.
    MariaDb(MariaDb),
}

impl System {
    /// Starts a server with an empty database.
    pub fn start(kind: &str) -> Result<Self> {
        let create = format!("CREATE DATABASE {DATABASE}");
        Ok(match kind {
            "postgres" => {
                let server = Postgres::start()?;
                server.sql("postgres", &create)?;
                Self::Postgres(server)
            }
            "mariadb" => {
                let server = MariaDb::start()?;
                server.sql("", &format!("{create} CHARACTER SET utf8mb4"))?;
                Self::MariaDb(server)
            }
            other => bail!("there is no kind of server called {other}"),
        })
    }

    /// Where it is, for the driver and for the connector's config.
    pub fn environment(&self) -> Vec<(String, String)> {
        let (port, user) = match self {
            Self::Postgres(server) => (server.port(), "postgres"),
            Self::MariaDb(server) => (server.port(), "root"),
        };
        let port = port.to_string();
        [
            ("SYSTEM_HOST", "127.0.0.1"),
            ("SYSTEM_PORT", &port),
            ("SYSTEM_DATABASE", DATABASE),
            ("SYSTEM_USER", user),
            ("CROSSDOCK_PASSWORD", "connector"),
        ]
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .to_vec()
    }

    /// Makes the login `crossdock`, and runs a file of SQL in the database.
    pub fn run_file(&self, path: &Path) -> Result<()> {
        let script = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        match self {
            Self::Postgres(server) => {
                let role = "CREATE ROLE crossdock LOGIN REPLICATION PASSWORD 'connector'";
                server.sql("postgres", role)?;
                server.sql(DATABASE, &script)?;
            }
            Self::MariaDb(server) => {
                server.sql("", "CREATE USER crossdock@'127.0.0.1' IDENTIFIED BY 'connector'")?;
                server.sql(DATABASE, &script)?;
            }
        }
        Ok(())
    }
}
