//! A folder with a config, and a fixed environment.

use std::fs;
use std::path::PathBuf;

use crossdock_config::{Config, ConfigErrors, load};
use tempfile::TempDir;

/// Head of a config that is good as far as it goes; 10 lines, a source may follow.
pub const HEAD: &str = r#"[crossdock]
name = "demo"

[store]
host = "127.0.0.1"
database = "canonical"
user = "crossdock"
password_env = "STORE_PASSWORD"


"#;

/// A source on PostgreSQL; 7 lines, so that it stands in lines 11 to 17 after [`HEAD`].
pub const SOURCE: &str = r#"[source.erp]
kind = "postgres"
host = "localhost"
database = "erp"
user = "crossdock"
password_env = "ERP_PASSWORD"

"#;

/// A folder that is removed with it.
pub struct World {
    folder: TempDir,
}

impl World {
    pub fn new(config: &str) -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        world.file("crossdock.toml", config.as_bytes());
        world
    }

    /// Writes a file, and the folders above it.
    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn load(&self) -> Result<Config, ConfigErrors> {
        load(&self.path("crossdock.toml"), &environment)
    }

    /// What a user reads, without the name of the temporary folder.
    pub fn messages(&self) -> String {
        self.shorten(self.load().expect_err("there is a problem"))
    }

    /// The warnings of a config that can be used.
    pub fn warnings(&self) -> String {
        let config = self.load().unwrap_or_else(|e| panic!("{e}"));
        let lines: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
        self.shorten(lines.join("\n"))
    }

    fn shorten(&self, text: impl ToString) -> String {
        text.to_string().replace(&format!("{}/", self.folder.path().display()), "")
    }
}

/// The config must be refused with exactly this.
pub fn refused(config: &str, expected: &str) {
    let messages = World::new(config).messages();
    assert_eq!(messages, expected.trim_matches('\n'), "\n{messages}\n");
}

/// The config must be accepted.
pub fn accepted(config: &str) -> Config {
    World::new(config).load().unwrap_or_else(|e| panic!("{e}"))
}

fn environment(name: &str) -> Option<String> {
    let value = match name {
        "STORE_PASSWORD" => "s3cret-store",
        "ERP_PASSWORD" => "s3cret-erp",
        "STORE_PORT" => "15432",
        "SECRET_HOST" => "s3cret host",
        "NOTHING" => "",
        _ => return None,
    };
    Some(value.to_string())
}
