//! Servers shared by all tests, each test with a database of its own.

use std::sync::OnceLock;

use crossdock_apply::{ConnectOptions, DatabaseKind, Tls};
use crossdock_harness::{MariaDb, MySql, Postgres};

/// The PostgreSQL of this run.
pub fn postgres() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| Postgres::start().unwrap())
}

/// The MariaDB of this run.
pub fn mariadb() -> &'static MariaDb {
    static SERVER: OnceLock<MariaDb> = OnceLock::new();
    SERVER.get_or_init(|| MariaDb::start().unwrap())
}

/// The MySQL of this run, where one is installed.
pub fn mysql() -> Option<&'static MySql> {
    static SERVER: OnceLock<Option<MySql>> = OnceLock::new();
    SERVER.get_or_init(|| MySql::installed().then(|| MySql::start().unwrap())).as_ref()
}

/// A new PostgreSQL database and how to reach it.
pub fn postgres_database(name: &str) -> ConnectOptions {
    postgres().sql("postgres", &format!("CREATE DATABASE {name}")).unwrap();
    reach(name)
}

/// How to reach a PostgreSQL database.
pub fn reach(name: &str) -> ConnectOptions {
    ConnectOptions {
        name: name.into(),
        kind: DatabaseKind::Postgres,
        host: "127.0.0.1".into(),
        port: postgres().port(),
        user: "postgres".into(),
        password: "".into(),
        database: name.into(),
        tls: Tls::Disable,
    }
}

/// A new MariaDB database and how to reach it.
pub fn mariadb_database(name: &str) -> ConnectOptions {
    mariadb().sql("", &format!("CREATE DATABASE {name} CHARACTER SET utf8mb4")).unwrap();
    as_root(name, DatabaseKind::Mariadb, mariadb().port())
}

/// A new MySQL database and how to reach it.
pub fn mysql_database(name: &str) -> ConnectOptions {
    let server = mysql().unwrap();
    server.sql("", &format!("CREATE DATABASE {name} CHARACTER SET utf8mb4")).unwrap();
    as_root(name, DatabaseKind::Mysql, server.port())
}

/// How to reach a database of MariaDB or MySQL.
pub fn as_root(name: &str, kind: DatabaseKind, port: u16) -> ConnectOptions {
    ConnectOptions {
        name: name.into(),
        kind,
        host: "127.0.0.1".into(),
        port,
        user: "root".into(),
        password: "".into(),
        database: name.into(),
        tls: Tls::Disable,
    }
}
