//! The five private servers of the demo, their schemas and grants.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::thread;

use anyhow::{Context, Result, anyhow};
use clap::ValueEnum;
use crossdock_harness::{Daemon, MariaDb, MySql, Postgres};

/// All servers, running. They stop, and their data is removed, on drop.
pub struct Systems {
    /// PostgreSQL, database `erp`.
    pub erp: Postgres,
    /// PostgreSQL, database `wms_us`.
    pub wms_us: Postgres,
    /// PostgreSQL, database `canonical`.
    pub store: Postgres,
    /// MariaDB, database `wms`.
    pub wms_eu: MariaDb,
    /// MariaDB or MySQL, database `tms`.
    pub tms: Tms,
}

/// Which database the TMS runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TmsKind {
    /// MariaDB.
    #[default]
    Mariadb,
    /// MySQL; `deploy/setup/mysql.sh` gets the server.
    Mysql,
}

/// The server of the TMS.
pub enum Tms {
    /// MariaDB.
    Mariadb(MariaDb),
    /// MySQL.
    Mysql(MySql),
}

impl Deref for Tms {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        match self {
            Tms::Mariadb(server) => server,
            Tms::Mysql(server) => server,
        }
    }
}

impl Tms {
    /// Its kind as `crossdock.toml` writes it.
    pub fn kind(&self) -> &'static str {
        match self {
            Tms::Mariadb(_) => "mariadb",
            Tms::Mysql(_) => "mysql",
        }
    }
}

/// Password of user `erp_app`.
pub const ERP_APP: (&str, &str) = ("erp_app", "erp-app");
/// Both warehouses' applications: user and password.
pub const WMS_APP: (&str, &str) = ("wms_app", "wms-app");
/// The TMS application: user and password.
pub const TMS_APP: (&str, &str) = ("tms_app", "tms-app");

impl Systems {
    /// Starts all servers side by side and loads schemas and grants; no rows yet.
    pub fn start(tms_kind: TmsKind) -> Result<Self> {
        let erp = thread::spawn(erp);
        let wms_us = thread::spawn(wms_us);
        let store = thread::spawn(store);
        let wms_eu = thread::spawn(wms_eu);
        let tms = thread::spawn(move || tms(tms_kind));
        // Join all of them first, so that an error of one leaves none behind.
        let (erp, wms_us, store) = (joined(erp), joined(wms_us), joined(store));
        let (wms_eu, tms) = (joined(wms_eu), joined(tms));
        Ok(Self {
            erp: erp.context("start the ERP")?,
            wms_us: wms_us.context("start the US warehouse system")?,
            store: store.context("start the canonical store")?,
            wms_eu: wms_eu.context("start the EU warehouse system")?,
            tms: tms.context("start the TMS")?,
        })
    }

    /// What `crossdock.toml` of the demo expects in the environment about these servers.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let ports = [
            ("ERP", self.erp.port(), "crossdock-erp"),
            ("WMS_US", self.wms_us.port(), "crossdock-wms-us"),
            ("STORE", self.store.port(), "crossdock-store"),
            ("WMS_EU", self.wms_eu.port(), "crossdock-wms-eu"),
            ("TMS", self.tms.port(), "crossdock-tms"),
        ];
        let mut variables = BTreeMap::new();
        for (name, port, password) in ports {
            variables.insert(format!("{name}_PORT"), port.to_string());
            variables.insert(format!("{name}_PASSWORD"), password.to_owned());
        }
        variables.insert("TMS_KIND".to_owned(), self.tms.kind().to_owned());
        variables
    }
}

fn joined<T>(thread: thread::JoinHandle<Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("its thread panicked"))?
}

fn postgres(database: &str, scripts: &[&str]) -> Result<Postgres> {
    let server = Postgres::start()?;
    server.sql("postgres", &format!("CREATE DATABASE {database}"))?;
    for script in scripts {
        server.sql(database, script)?;
    }
    Ok(server)
}

fn mariadb(scripts: &[&str]) -> Result<MariaDb> {
    let server = MariaDb::start()?;
    for script in scripts {
        server.sql("", script)?;
    }
    Ok(server)
}

fn erp() -> Result<Postgres> {
    postgres("erp", &[include_str!("../sql/erp.sql"), include_str!("../sql/erp_grants.sql")])
}

fn wms_us() -> Result<Postgres> {
    postgres(
        "wms_us",
        &[include_str!("../sql/wms_us.sql"), include_str!("../sql/wms_us_grants.sql")],
    )
}

fn store() -> Result<Postgres> {
    postgres("canonical", &[include_str!("../sql/store_grants.sql")])
}

fn wms_eu() -> Result<MariaDb> {
    mariadb(&[include_str!("../sql/wms_eu.sql"), include_str!("../sql/wms_eu_grants.sql")])
}

fn tms(kind: TmsKind) -> Result<Tms> {
    let scripts = [include_str!("../sql/tms.sql"), include_str!("../sql/tms_grants.sql")];
    match kind {
        TmsKind::Mariadb => Ok(Tms::Mariadb(mariadb(&scripts)?)),
        TmsKind::Mysql => {
            let server = MySql::start()?;
            let more = include_str!("../sql/tms_grants_mysql.sql");
            for script in scripts.into_iter().chain([more]) {
                server.sql("", script)?;
            }
            Ok(Tms::Mysql(server))
        }
    }
}
