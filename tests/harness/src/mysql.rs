//! A private MySQL server, where `deploy/setup/mysql.sh` has put one.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::daemon::{Daemon, DaemonOptions, Programs, USER};
use crate::process::{give_to, run};

/// How a MySQL is started.
pub type MySqlOptions = DaemonOptions;

/// Where `deploy/setup/mysql.sh` puts the server.
const FOLDER: &str = "/var/cache/crossdock/mysql";

/// Where the programs are.
enum Installed {
    /// A folder of programs that run as they are.
    Bin(PathBuf),
    /// A folder with all libraries, whose own loader starts them.
    Root(PathBuf),
}

impl Installed {
    /// `CROSSDOCK_MYSQL_BIN` names a folder with `mysqld` and `mysql`; otherwise the folder of
    /// `deploy/setup/mysql.sh`, which `CROSSDOCK_MYSQL` may change.
    fn find() -> Option<Self> {
        if let Some(bin) = std::env::var_os("CROSSDOCK_MYSQL_BIN").map(PathBuf::from) {
            return bin.join("mysqld").is_file().then_some(Self::Bin(bin));
        }
        let root = std::env::var_os("CROSSDOCK_MYSQL").map_or_else(|| FOLDER.into(), PathBuf::from);
        root.join("usr/sbin/mysqld").is_file().then_some(Self::Root(root))
    }

    fn program(&self, name: &str, folder: &str) -> Vec<PathBuf> {
        match self {
            Self::Bin(bin) => vec![bin.join(name)],
            Self::Root(root) => {
                let libraries = root.join("usr/lib/x86_64-linux-gnu");
                let private = libraries.join("private");
                vec![
                    root.join("lib64/ld-linux-x86-64.so.2"),
                    "--library-path".into(),
                    format!("{}:{}", libraries.display(), private.display()).into(),
                    root.join(folder).join(name),
                ]
            }
        }
    }

    fn settings(&self) -> String {
        let mut settings = "mysqlx = OFF\ngtid_mode = ON\nenforce_gtid_consistency = ON\n\
            innodb_redo_log_capacity = 64M\nsecure_file_priv = \n"
            .to_string();
        if let Self::Root(root) = self {
            let usr = root.join("usr");
            let usr = usr.display();
            settings.push_str(&format!(
                "basedir = {usr}\nlc_messages_dir = {usr}/share/mysql\n\
                 character_sets_dir = {usr}/share/mysql/charsets\n\
                 plugin_dir = {usr}/lib/mysql/plugin\n"
            ));
        }
        settings
    }

    /// A data folder to copy: making one takes some seconds.
    fn template(&self) -> Option<PathBuf> {
        match self {
            Self::Bin(_) => None,
            Self::Root(root) => Some(root.join("template")).filter(|path| path.is_dir()),
        }
    }
}

/// A running private MySQL; see [`Daemon`].
pub struct MySql(Daemon);

impl MySql {
    /// Whether there is a MySQL to start.
    pub fn installed() -> bool {
        Installed::find().is_some()
    }

    /// Starts a server with default options.
    pub fn start() -> Result<Self> {
        Self::start_with(&MySqlOptions::default())
    }

    /// Makes a new data folder and starts a server on it.
    pub fn start_with(options: &MySqlOptions) -> Result<Self> {
        let Some(installed) = Installed::find() else {
            bail!("there is no MySQL server: run deploy/setup/mysql.sh as root");
        };
        let programs = Programs {
            name: "MySQL",
            server: installed.program("mysqld", "usr/sbin"),
            client: installed.program("mysql", "usr/bin"),
        };
        let mut server = Daemon::new(programs, "crossdock-my-", &installed.settings(), options)?;
        match installed.template() {
            Some(template) => copy(&template, &server.data())?,
            None => server.run_server(&["--initialize-insecure"])?,
        }
        server.launch()?;
        server.sql(
            "",
            "SET sql_log_bin = 0; CREATE USER root@'127.0.0.1'; \
             GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;",
        )?;
        Ok(Self(server))
    }

    /// The file of the authority that has signed the server's certificate, which the server makes
    /// itself.
    pub fn authority(&self) -> PathBuf {
        self.data().join("ca.pem")
    }
}

/// Copies a data folder but for the server's own UUID.
fn copy(template: &Path, data: &Path) -> Result<()> {
    fs::remove_dir(data)?;
    run(Command::new("cp").arg("-r").args([template, data]), None)?;
    let _ = fs::remove_file(data.join("auto.cnf"));
    if nix::unistd::Uid::effective().is_root() {
        run(Command::new("chown").arg("-R").arg(USER).arg(data), None)?;
    }
    give_to(USER, data)
}

impl Deref for MySql {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.0
    }
}

impl DerefMut for MySql {
    fn deref_mut(&mut self) -> &mut Daemon {
        &mut self.0
    }
}
