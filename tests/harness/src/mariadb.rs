//! A private MariaDB server.

use std::ops::{Deref, DerefMut};

use anyhow::Result;

use crate::daemon::{Daemon, DaemonOptions, Programs, USER};
use crate::process::{command_as, run};

/// How a MariaDB is started.
pub type MariaDbOptions = DaemonOptions;

const SETTINGS: &str = "log_slave_updates = ON\ninnodb_log_file_size = 64M\n\
    skip-networking = OFF\nplugin_dir = /usr/lib/mysql/plugin\n";

/// A running private MariaDB; see [`Daemon`].
pub struct MariaDb(Daemon);

impl MariaDb {
    /// Starts a server with default options.
    pub fn start() -> Result<Self> {
        Self::start_with(&MariaDbOptions::default())
    }

    /// Makes a new data folder and starts a server on it.
    pub fn start_with(options: &MariaDbOptions) -> Result<Self> {
        let programs = Programs {
            name: "MariaDB",
            server: vec!["/usr/sbin/mariadbd".into()],
            client: vec!["mariadb".into()],
        };
        let mut server = Daemon::new(programs, "crossdock-ma-", SETTINGS, options)?;
        let mut install = command_as(USER, "mariadb-install-db")?;
        install.arg(format!("--defaults-file={}", server.configuration().display()));
        install.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
        install.current_dir(server.folder());
        run(&mut install, None)?;
        server.launch()?;
        Ok(Self(server))
    }
}

impl Deref for MariaDb {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.0
    }
}

impl DerefMut for MariaDb {
    fn deref_mut(&mut self) -> &mut Daemon {
        &mut self.0
    }
}
